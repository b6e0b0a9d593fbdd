"""A wheel is complete, works from any folder, and puts nobody's names into site-packages."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOP_LEVEL = ("lightning_seg", "experiments", "hpo", "benchmarks")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel of this checkout, built from a copy without what was built in it before."""
    folder = tmp_path_factory.mktemp("wheel")
    unwanted = shutil.ignore_patterns("__pycache__", "*.egg-info", "build", "scores")
    for name in TOP_LEVEL:
        shutil.copytree(ROOT / name, folder / "source" / name, ignore=unwanted)
    for name in ("setup.py", "setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "source")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
    place = ["--no-build-isolation", "--wheel-dir", str(folder), str(folder / "source")]
    subprocess.run([*command, *place], check=True, timeout=300)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The ``bin`` of an environment with the wheel, which sees the libraries of this one."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder, symlinks=True, with_pip=False)
    python = folder / "bin" / "python"
    target = subprocess.check_output(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], text=True
    ).strip()
    libraries = Path(target) / "libraries.pth"
    # its folder alone: an editable installation there says by .pth files where this checkout is
    libraries.write_text(f"{sysconfig.get_path('purelib')}\n")
    # environments lie in people's repositories, whose commits are not ours
    subprocess.run(["git", "init", "--quiet", folder], check=True)
    git = ["git", "-C", folder, "-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run([*git, "commit", "--quiet", "--allow-empty", "-m", "theirs"], check=True)
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
    subprocess.run([*command, "--no-deps", str(wheel)], check=True, timeout=300)
    return python.parent


def run(installed, folder, *command):
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    found = subprocess.run(
        [installed / command[0], *command[1:]],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert found.returncode == 0, found.stderr
    return found.stdout


@pytest.mark.slow
def test_a_wheel_holds_one_package_with_all_that_ships(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"lightning_seg"}
    assert "lightning_seg/py.typed" in names
    inside = {"experiments": "lightning_seg/_beside", "hpo": "lightning_seg/_beside"}
    for package in ("lightning_seg", *inside):
        for file in (ROOT / package).rglob("*"):
            part = file.relative_to(ROOT).as_posix()
            kept = "results" in file.parts and package == "experiments"
            if not file.is_file() or file.suffix in (".pyc", ".md") or kept:
                continue
            place = f"{inside[package]}/{part}" if package in inside else part
            assert place in names, f"the wheel lacks {part}"


@pytest.mark.slow
def test_an_installed_wheel_lists_trains_tests_and_records_from_another_folder(installed, tmp_path):
    where = "import lightning_seg; print(lightning_seg.__file__)"
    assert str(installed.parent) in run(installed, tmp_path, "python", "-c", where)
    assert "\nunet " in run(installed, tmp_path, "lightning-seg", "models")
    assert "\nunet_a " in run(installed, tmp_path, "lightning-seg", "recipes")
    fit = ["fit", "-c", "quickstart", "--trainer.accelerator", "cpu", "--trainer.max_epochs", "1"]
    fit += ["--data.size", "32", "--data.protocol", "auto", "--data.batch_size", "4"]
    fit += ["--data.dataset_options", "{count: 24, resolution: 32}"]
    fit += ["--model.options", "{widths: [4, 8]}"]
    said = run(installed, tmp_path, "lightning-seg", *fit)
    assert "best checkpoint" in said
    record = (tmp_path / "runs" / "quickstart" / "version_0" / "environment.json").read_text()
    assert '"commit": "unknown"' in record, "the commit is of the folder that the wheel lies in"
    run(installed, tmp_path, "lightning-seg", "test", "--ckpt_path", "quickstart")
    run(installed, tmp_path, "lightning-seg", "record", "runs/quickstart")
    assert (tmp_path / "results" / "reproduced.csv").is_file()
    assert "quickstart" in run(installed, tmp_path, "lightning-seg", "report", "runs/quickstart")
    dry = ["sweep", "--sweep", "unet_a", "--dry-run", "--only", "unet seed 42"]
    assert "unet_a.yaml" in run(installed, tmp_path, "lightning-seg", *dry)


def test_nothing_asks_for_posix_locks_at_import():
    folders = [ROOT / name for name in TOP_LEVEL]
    files = [file for folder in folders for file in folder.rglob("*.py")]
    assert not [file for file in files if "import fcntl" in file.read_text(encoding="utf-8")]
