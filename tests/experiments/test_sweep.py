"""`python -m experiments sweep`: what it would run, and that what it ran is the same whatever happened meanwhile."""

import contextlib
import json
import os
import random
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from experiments import sweep
from hpo import queue
from lightning_seg.errors import InputError

sys.path.append(str(Path(__file__).parent.parent / "hpo"))
from driving import Driven, stop

SWEEPS = sorted((Path(sweep.__file__).parent / "sweeps").glob("*.yaml"))
TINY = """
trainer: {accelerator: cpu, max_epochs: %d}
data: {dataset: phantom_polyp, protocol: %s, size: 32, batch_size: 4, num_workers: 0, dataset_options: {resolution: 32}}
model: {architecture: unet, options: {widths: [4, 8]}, lr: 0.02, loss: {dice: 1.0}}
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    """A recipe that trains in seconds: 12 / 6 / 5 phantoms of 32 pixels."""
    folder = tmp_path_factory.mktemp("recipe")
    rows = [
        f"polyp-{i:04d},{'train' if i < 12 else 'val' if i < 18 else 'test'}" for i in range(23)
    ]
    head = "# name: tiny\n# version: 1\n# rule: the first 23\nid,split\n"
    (folder / "tiny.csv").write_text(head + "\n".join(rows) + "\n")
    (folder / "tiny.yaml").write_text(TINY % (12, folder / "tiny.csv"))
    return folder / "tiny.yaml"


def test_a_dry_run_says_whether_encoder_weights_are_to_be_had(
    recipe, capsys, monkeypatch, tmp_path
):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("LIGHTNING_SEG_WEIGHTS", str(tmp_path))
    name = "mobilenetv2_100.ra_in1k"
    args = ["--recipe", str(recipe), "--architectures", "unet", "--options", "unet: {form: unet_a}"]
    args += ["--encoders", f"none,{name}", "--seeds", "1,2", "--dry-run"]
    sweep.main(args)
    said = capsys.readouterr().out
    assert said.count(f"encoder weights of {name}: NOT on this machine") == 1
    (tmp_path / f"{name}.safetensors").touch()
    sweep.main(args)
    assert f"encoder weights of {name}: {tmp_path}" in capsys.readouterr().out


def dry(capsys, *args):
    """The commands of a sweep, each as a dictionary of its flags."""
    sweep.main([*map(str, args), "--dry-run"])
    said = capsys.readouterr().out.splitlines()
    lines = [shlex.split(line) for line in said if not line.startswith("encoder weights")]
    return [dict(zip(words[2::2], words[3::2], strict=True)) for words in lines]


def test_a_sweep_is_every_combination_once(recipe, capsys):
    args = [
        "--architectures",
        "unet,resunet",
        "--encoders",
        "none,resnet18",
        "--seeds",
        "1-3",
        "--folds",
        "1-2",
        "--of",
        "5",
        "--model.options",
        "{}",
    ]
    commands = dry(capsys, "--recipe", recipe, *args)
    keys = (
        "--model.architecture",
        "--model.encoder",
        "--model.pretrained",
        "--seed_everything",
        "--data.protocol",
    )
    found = {tuple(command[key] for key in keys) for command in commands}
    assert len(commands) == len(found) == 2 * 2 * 3 * 2
    assert ("resunet", "resnet18", "true", "2", "fold-1-of-5") in found
    assert ("unet", "null", "false", "3", "fold-2-of-5") in found
    assert len({command["--name"] for command in commands}) == len(commands)


def test_options_reach_their_architecture_alone_and_overrides_reach_all(recipe, capsys):
    options = (
        "--options",
        "resunet: {widths: [4, 8, 16]}",
        "--model.lr",
        "0.5",
        "--model.pretrained",
        "false",
    )
    commands = dry(
        capsys,
        "--recipe",
        recipe,
        "--architectures",
        "unet,resunet",
        "--encoders",
        "none",
        *options,
    )
    assert [yaml.safe_load(c.get("--model.options", "null")) for c in commands] == [
        None,
        {"widths": [4, 8, 16]},
    ]
    assert [command["--model.lr"] for command in commands] == ["0.5", "0.5"]


def test_a_sweep_keeps_the_epoch_that_its_recipe_keeps(recipe, capsys):
    other = recipe.with_name("by_loss.yaml")
    other.write_text(
        recipe.read_text(encoding="utf-8") + "checkpoint: {monitor: val/loss, mode: min}\n"
    )
    for path, monitor in ((recipe, ("val/dice", "max")), (other, ("val/loss", "min"))):
        command = dry(capsys, "--recipe", path)[0]
        assert (command["--checkpoint.monitor"], command["--checkpoint.mode"]) == monitor


def test_only_runs_what_matches(recipe, capsys):
    commands = dry(
        capsys,
        "--recipe",
        recipe,
        "--architectures",
        "unet,resunet",
        "--seeds",
        "1,2",
        "--only",
        "resunet*2",
    )
    assert [(c["--model.architecture"], c["--seed_everything"]) for c in commands] == [
        ("resunet", "2")
    ]


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["--architectures", "unett"], "no architecture named 'unett'; did you mean 'unet'"),
        (["--architectures", "unet", "--seeds", "a"], "--seeds is 'a'; give whole numbers"),
        (
            ["--architectures", "unet", "--seeds", "1,1"],
            "two combinations of the sweep have one name",
        ),
        (["--architectures", "unet", "--only", "x"], "--only 'x' matches none of"),
        (["--architectures", "unet", "--model.lrr", "1"], "there is no option 'model.lrr'"),
        (["--architectures", "unet", "--sede", "1"], "there is no option '--sede'"),
        (["--architectures", "unet", "--trainer.devices", "2"], "--devices-per-trial"),
        (
            ["--architectures", "unet", "--options", "resunet: {}"],
            "no architecture of this sweep named 'resunet'",
        ),
        (["--architectures", "unet", "--options", "unet"], "--options is 'unet'; give it as"),
        (
            ["--architectures", "unet", "--options", "unet: {widths"],
            "--options is 'unet: {widths'; give it as",
        ),
        (
            ["--architectures", "unet", "--seeds", "5-1"],
            "--seeds holds 5-1; give the lower number first",
        ),
        (["--sweep", str(SWEEPS[0])], "leave --recipe out, or --sweep"),
        (["--architectures", "unet", "--workers", "some"], "--workers is 'some'"),
    ],
)
def test_a_sweep_that_cannot_be_is_refused_in_a_sentence_before_anything_runs(
    recipe, args, sentence, tmp_path
):
    with pytest.raises(InputError, match=sentence.replace("(", r"\(")):
        sweep.main(["--recipe", str(recipe), "--runs", str(tmp_path), *args])
    assert not list(tmp_path.iterdir())


def test_a_sweep_file_that_is_none_is_refused(tmp_path):
    model = "{name: unet, overrides: {}}"
    for models, rest, sentence in [
        (f"[{model}]", "seed: [1]", "no key of a sweep named 'seed'; did you mean 'seeds'"),
        ("[]", "", "models: []; give a list that is not empty"),
        (f"[{model}]", "seeds: 42", "seeds: 42; give a list"),
    ]:
        (tmp_path / "s.yaml").write_text(f"recipe: r.yaml\nmodels: {models}\n{rest}")
        with pytest.raises(InputError, match=sentence.replace("[", r"\[")):
            sweep.main(["--sweep", str(tmp_path / "s.yaml")])


@pytest.mark.slow
@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_a_sweep_that_ships_names_models_that_build(path, capsys, monkeypatch):
    monkeypatch.chdir(Path(sweep.__file__).parent.parent)
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    commands = dry(capsys, "--sweep", path, "--workers", 1)
    assert len(commands) == len(content["models"]) * len(content.get("seeds", [0])) * len(
        content.get("folds", [0])
    )
    assert f"--sweep experiments/sweeps/{path.name}" in path.read_text(encoding="utf-8")


def test_the_slurm_array_holds_each_combination_once(recipe, tmp_path, capsys):
    script = tmp_path / "array.sh"
    sweep.main(
        [
            "--recipe",
            str(recipe),
            "--architectures",
            "unet,resunet",
            "--seeds",
            "1,2",
            "--slurm",
            str(script),
        ]
    )
    text = script.read_text(encoding="utf-8")
    assert "#SBATCH --array=0-3" in text
    assert text.count("lightning-seg fit -c") == 4
    assert os.system(f"bash -n {script}") == 0
    sweep.main(
        ["--recipe", str(recipe), "--seeds", "1-4", "--only", "*seed [24]", "--slurm", str(script)]
    )
    assert "#SBATCH --array=1,3\n" in script.read_text(encoding="utf-8")
    commands = script.read_text(encoding="utf-8").partition("run=")[0]
    shown = subprocess.run(
        ["bash", "-c", f'{commands}echo "${{commands[3]}}"'], capture_output=True, text=True
    )
    assert "--seed_everything 4 " in shown.stdout


def points(seeds):
    return [{"name": "unet", "seed": seed, "args": []} for seed in seeds]


def scores(driven):
    """Everything that a sweep found: per-image tables and results."""
    runs = driven.folder / "runs" / driven.study
    found = {
        str(p.relative_to(runs)): p.read_text(encoding="utf-8")
        for p in sorted(runs.glob("**/scores.csv"))
    }
    results = [
        json.loads(path.read_text(encoding="utf-8")) for path in sorted(runs.glob("*/result.json"))
    ]
    return found, [
        (result["state"], result["values"], result["facts"]["epochs"]) for result in results
    ]


def epochs(driven):
    """How many lines about an epoch all trials have logged."""
    return sum(
        path.read_text(encoding="utf-8").count("epoch ")
        for path in driven.folder.glob("runs/s/*/log.txt")
    )


@pytest.mark.slow
def test_a_sweep_killed_at_random_moments_finds_what_an_undisturbed_one_finds(recipe, tmp_path):
    settings = {
        "function": None,
        "recipe": str(recipe),
        "points": points([1, 2]),
        "workers": 1,
        "test": True,
    }
    calm, wild = (Driven(tmp_path / name) for name in ("calm", "wild"))
    for driven in (calm, wild):
        driven.folder.mkdir()
    calm.finish(2, seconds=600, **settings)
    moments = random.Random(0)
    for kill in range(4):
        launcher = wild.start(2, **settings)
        if kill % 2:
            time.sleep(moments.uniform(0, 6))
        else:
            target = epochs(wild) + moments.randint(1, 4)
            wild.wait_for(lambda: epochs(wild) >= target or launcher.poll() is not None, 300)  # noqa: B023
            time.sleep(moments.uniform(0, 0.3))
        workers = [
            owner
            for t in wild.trials("RUNNING")
            if queue._is_alive(owner := t.user_attrs.get("worker", "- 999999999 -"))
        ]
        victims = [launcher.pid, *(int(owner.split()[1]) for owner in workers)]
        for victim in moments.sample(victims, moments.randint(1, len(victims))):
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
        launcher.kill()
        launcher.wait()
    wild.finish(2, seconds=600, **settings)
    assert scores(wild) == scores(calm)
    assert len(scores(calm)[0]) == 2
    ledger = tmp_path / "wild" / "runs" / "ledger.csv"
    assert len(ledger.read_text(encoding="utf-8").splitlines()) == 1 + 2
    stop(wild)
