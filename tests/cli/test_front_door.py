"""The front door: what a newcomer types first, and what is meant by what they type wrongly."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hpo.recipe import try_fit
from lightning_seg.__main__ import COMMAND_HOMES, RUNS, VERBS, main
from lightning_seg.data.sources.base import DATASETS
from lightning_seg.errors import InputError, near_match
from lightning_seg.files.shipped import HOME, find_shipped, shipped_names
from lightning_seg.models.frame import registry
from lightning_seg.options import meant_option
from lightning_seg.training.losses import SOFTMAX_TERMS, TERMS

ROOT = Path(__file__).parents[2]
FIT = ["fit", "-c", "quickstart", "--trainer.accelerator", "cpu"]


def shell(line, folder, **environment):
    env = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    line = line.replace("lightning-seg", f"{sys.executable} -m lightning_seg")
    return subprocess.run(
        ["bash", "-c", line], capture_output=True, text=True, cwd=folder, env=env, timeout=240
    )


def error_of(args, capsys):
    with pytest.raises(SystemExit) as ended:
        main(args)
    error = capsys.readouterr().err.strip()
    assert ended.value.code == 2
    assert error.startswith("error: ")
    assert len(error.splitlines()) == 1
    return error


def test_alone_it_shows_what_one_does_first_and_help_shows_every_verb(capsys):
    main([])
    first = capsys.readouterr().out
    assert first.count("  lightning-seg ") == 5
    main(["--help"])
    every = capsys.readouterr().out
    for verb in RUNS | VERBS:
        assert f"\n  {verb}" in every
    assert set(VERBS) == set(COMMAND_HOMES)
    assert "reproduce" not in first


def test_a_reader_that_has_read_enough_is_no_error(tmp_path):
    # the writer has not begun when the reader is gone
    done = shell("lightning-seg --help | true; echo ${PIPESTATUS[0]}", tmp_path)
    assert done.stdout.strip() == "0"
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("unet++", "unetplusplus"),
        ("UNet", "unet"),
        ("U-Net", "unet"),
        ("UNet3+", "unet3plus"),
        ("ResUNet++", "resunet_plus_plus"),
        ("DeepLabV3+", "deeplab_v3_plus"),
        ("TransUNet", "transunet"),
        ("SA-UNetv2", "sa_unet_v2"),
        ("Attention U-Net", "attention_unet"),
    ],
)
def test_a_network_is_known_by_its_papers_spelling(given, meant):
    with pytest.raises(InputError, match=f"did you mean '{meant}'"):
        registry.find(given)


def test_nothing_near_is_no_match():
    assert near_match("xyz", ["dice", "bce"]) == ""
    assert near_match("Kvasir-SEG", DATASETS) == "kvasir_seg"


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["train"], "did you mean 'fit'"),
        (["Evaluate"], "did you mean 'test'"),
        (["datasets"], "did you mean 'data list'"),
        (["tset"], "did you mean 'test'"),
        (["fit", "recipe.yaml"], "`lightning-seg fit -c recipe.yaml`"),
        (["test", "best.ckpt"], "`lightning-seg test --ckpt_path best.ckpt`"),
        (["fit", "--trainer.max_epochs", "1"], "quickstart, "),
        (["fit", "--data.dataset", "phantom_polyp"], "--model.architecture"),
        (["fit", "-c", "quickstrat"], "did you mean 'quickstart'"),
        ([*FIT, "other.yaml"], "`lightning-seg fit -c other.yaml`"),
        ([*FIT, "--epochs", "3"], "did you mean 'trainer.max_epochs'"),
        ([*FIT, "--lr", "1"], "did you mean 'model.lr'"),
        ([*FIT, "--batch-size", "1"], "did you mean 'data.batch_size'"),
        ([*FIT, "--backbone", "x"], "did you mean 'model.encoder'"),
        ([*FIT, "--model", "unet"], "did you mean --model.architecture unet"),
        ([*FIT, "--model.loss", "focl"], "'{focal: 1}'"),
        ([*FIT, "--model.normalization", "ImageNet"], "did you mean 'imagenet'"),
        ([*FIT, "--model.encoder", "ResNet-34"], "did you mean 'resnet34'"),
        (["data", "lst"], "did you mean 'list'"),
        (["serve", "--checkpoint", "x"], "did you mean '--ckpt_path'"),
        (["fit", "--help=trainr"], "did you mean 'trainer'"),
    ],
)
def test_what_was_meant_is_named(args, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert words in error_of(args, capsys)
    assert not list(tmp_path.iterdir())


def test_of_keys_that_end_alike_the_networks_comes_first():
    keys = ["checkpoint.mode", "data.seed", "model.lr", "trainer.lr", "seed_everything"]
    assert meant_option("lr", keys) == "model.lr"
    assert meant_option("seed", keys) == "seed_everything"
    assert meant_option("trainer.lr_", keys) == "trainer.lr"
    assert meant_option("zzzz", keys) == ""


@pytest.mark.parametrize(
    ("option", "name"),
    [
        ("--trainer.callbacks+", "broken_plugin.Thing"),
        ("--model.architecture", "broken_plugin:Net"),
    ],
)
def test_a_class_that_cannot_be_imported_says_why(option, name, capsys, tmp_path, monkeypatch):
    (tmp_path / "broken_plugin.py").write_text("import a_library_that_is_absent\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    runs = ["--runs", str(tmp_path / "runs")]
    error = error_of([*FIT, f"{option}={name}", *runs], capsys)
    assert "No module named 'a_library_that_is_absent'" in error


def test_a_logger_whose_library_is_absent_says_so(capsys, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "comet_ml", None)
    logger = "--trainer.logger=lightning.pytorch.loggers.CometLogger"
    error = error_of([*FIT, logger, "--runs", str(tmp_path)], capsys)
    assert "CometLogger cannot be made" in error
    assert "comet" in error.partition("cannot be made")[2]


def test_lists_name_everything(capsys):
    for args, names in (
        (["data", "list"], DATASETS),
        (["losses"], TERMS | SOFTMAX_TERMS),
        (["recipes"], shipped_names("recipe")),
        (["models"], registry.names()),
        (["encoders"], ["resnet34.a1_in1k"]),
    ):
        main(args)
        printed = capsys.readouterr().out
        found = {line.split()[0] for line in printed.splitlines() if line and line[0] != " "}
        assert set(names) <= found, args
    main(["encoders", "resnet3*"])
    assert "resnet34.a1_in1k" in capsys.readouterr().out


def test_the_usual_encoders_are_timms():
    timm = pytest.importorskip("timm")
    from lightning_seg.cli.lists import _USUAL_ENCODERS

    assert set(_USUAL_ENCODERS) <= set(timm.list_pretrained())


def test_options_of_a_network_are_those_that_a_recipe_may_give(capsys):
    main(["models", "pam_unet"])
    options = capsys.readouterr().out.partition("options (model.options.<name>):\n")[2]
    listed = [line.split(":")[0].strip() for line in options.partition("\n\n")[0].splitlines()]
    assert "attention" in listed
    assert "  last_width: integer or null (default null)" in options.splitlines()
    assert not {"encoder", "in_channels", "num_classes", "encoder_options"} & set(listed)


def test_help_of_fit_is_short_and_a_section_is_whole(tmp_path):
    code = (
        "import sys; from lightning_seg.__main__ import main; main(['fit', '--help']); "
        "assert 'torch' not in sys.modules"
    )
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) < 80
    for key in ("architecture", "batch_size", "lr", "max_epochs", "monitor", "--config"):
        assert any(line.startswith(f"  {key} ") or f" {key} " in line[:30] for line in lines), key
    whole = shell("lightning-seg fit --help=trainer", tmp_path)
    assert "--trainer.max_epochs" in whole.stdout
    assert "--data.dataset" not in whole.stdout


def test_files_that_ship_are_found_by_name_and_ones_own_come_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shipped = HOME / "experiments" / "unet_a.yaml"
    for text in ("unet_a", "unet_a.yaml", "experiments/unet_a.yaml"):
        assert find_shipped("recipe", text) == shipped
    assert find_shipped("sweep", "unet_a") == HOME / "experiments" / "sweeps" / "unet_a.yaml"
    assert find_shipped("space", "unet_a") == HOME / "hpo" / "spaces" / "unet_a.yaml"
    with pytest.raises(InputError, match=r"no recipe .*campaign"):
        find_shipped("recipe", "campaign")
    with pytest.raises(InputError, match="no recipe"):
        find_shipped("recipe", "elsewhere/unet_a.yaml")
    (tmp_path / "unet_a.yaml").write_text("name: mine\n")
    assert find_shipped("recipe", "unet_a.yaml") == Path("unet_a.yaml")


def test_a_recipe_by_name_is_read_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    values = try_fit(["-c", "quickstart", "--model.lr", "0.5"]).values
    assert values["data.dataset"] == "phantom_polyp"
    assert values["model.lr"] == 0.5


def test_recorded_results_lie_in_the_working_folder_outside_a_checkout(tmp_path, monkeypatch):
    from experiments.facts import RESULTS, results_folder

    monkeypatch.chdir(tmp_path)
    assert results_folder() == Path("results")
    monkeypatch.chdir(ROOT / "tests")
    assert results_folder() == RESULTS


@pytest.mark.slow
def test_a_shell_completes_verbs_options_recipes_and_networks(tmp_path):
    pytest.importorskip("shtab")
    made = shell("lightning-seg completion bash > complete.bash", tmp_path)
    assert made.returncode == 0, made.stderr
    script = r"""
source complete.bash
complete_words() {
    COMP_WORDS=("$@"); COMP_CWORD=$(( $# - 1 )); COMPREPLY=()
    _shtab_lightning_seg "$1" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
    echo "${COMPREPLY[@]}"
}
complete_words seg repor
complete_words seg fit -c quick
complete_words seg fit --model.arch
complete_words seg fit --model.architecture pam
complete_words seg data che
complete_words seg hpo run --samp
"""
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, cwd=tmp_path, timeout=60
    )
    expected = ["report", "quickstart", "--model.architecture", "pam_unet", "check", "--sampler"]
    assert done.stdout.split("\n")[:-1] == expected, done.stderr
