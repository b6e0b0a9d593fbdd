"""Run folders that `fit` leaves: with any logger, resumed from any place, ended by a signal."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from remote_logger import RemoteLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lightning_seg import cli
from lightning_seg.errors import InputError
from lightning_seg.reports.run_page import report
from lightning_seg.reports.run_page._run import open_run
from lightning_seg.runs import Run, find_checkpoint
from lightning_seg.training.trainer import RunTrainer

ROOT = Path(__file__).parent.parent.parent
TINY = """
trainer: {accelerator: cpu, precision: 32-true, enable_progress_bar: false, num_sanity_val_steps: 0}
data: {dataset: phantom_polyp, protocol: %s, size: 16, batch_size: 4, dataset_options: {resolution: 16}}
model: {architecture: unet, options: {widths: [4, 8]}, lr: 0.01}
"""
REMOTE = "remote_logger.RemoteLogger"
CSV = "{class_path: lightning.pytorch.loggers.CSVLogger, init_args: {save_dir: %s}}"


@pytest.fixture
def recipe(tmp_path):
    rows = [
        f"polyp-{i:04d},{'train' if i < 12 else 'val' if i < 16 else 'test'}" for i in range(18)
    ]
    head = "# name: tiny\n# version: 1\n# rule: the first 18\nid,split\n"
    (tmp_path / "tiny.csv").write_text(head + "\n".join(rows) + "\n")
    (tmp_path / "tiny.yaml").write_text(TINY % (tmp_path / "tiny.csv"))
    return tmp_path / "tiny.yaml"


@pytest.fixture
def fit(recipe, tmp_path):
    def run(name, *options):
        cli.run(["fit", "-c", str(recipe), "--runs", str(tmp_path), "--name", name, *options])
        return Run.open(tmp_path / name, tmp_path)

    return run


def files(run):
    return sorted(path.name for path in run.checkpoint_folder.iterdir())


@pytest.mark.parametrize("logger", ["false", REMOTE, pytest.param(CSV, marks=pytest.mark.slow)])
def test_the_folder_is_complete_without_tensorboard_and_nothing_speaks_of_it(
    fit, tmp_path, logger, capsys
):
    logger = ["--trainer.logger", logger.replace("%s", str(tmp_path / "logs"))]
    run = fit("demo", "--trainer.max_epochs", "1", *logger)
    cli.run(["test", "--ckpt_path", str(run.folder), "--measures", "none", *logger])
    printed = capsys.readouterr().out
    assert "TensorBoard" not in printed
    assert f"lightning-seg test --ckpt_path {tmp_path / 'demo'}\n" in printed
    assert run.config_file.is_file()
    assert run.environment["name"] == "demo"
    assert run.ending.text == "complete, 1 epoch"
    assert len(run.score_folders("test")) == 1
    assert "TensorBoard" not in report(open_run(run.folder), predictions=False)


def test_a_remote_logger_is_told_what_is_measured_and_kept(fit):
    RemoteLogger.metrics.clear()
    run = fit("demo", "--trainer.max_epochs", "1", "--trainer.logger", REMOTE)
    names = {name for metrics in RemoteLogger.metrics for name in metrics}
    assert {"train/loss", "val/dice"} <= names
    assert str(run.best.path) in map(str, RemoteLogger.checkpoints)
    assert any(parameters.get("lr") == 0.01 for parameters in RemoteLogger.parameters)


def test_tensorboard_beside_another_logger_shows_pictures_and_its_own_folder(fit, tmp_path, capsys):
    place = tmp_path / "boards"
    board = f"{{class_path: TensorBoardLogger, init_args: {{save_dir: {place}, name: x}}}}"
    loggers = f"[{REMOTE}, {board}]"
    fit("demo", "--trainer.max_epochs", "1", "--trainer.logger", loggers)
    (line,) = re.findall(r"^TensorBoard: +(.*)$", capsys.readouterr().out, re.M)
    assert line == f"{place / 'x' / 'version_0'}  (open: tensorboard --logdir {place / 'x'})"
    events = EventAccumulator(str(place / "x" / "version_0")).Reload()
    assert "val/reliability_polyp" in events.Tags()["images"]


def test_commands_that_are_printed_can_be_pasted(fit, capsys):
    run = fit("it's my $run", "--trainer.max_epochs", "1")
    printed = capsys.readouterr().out
    next_command = re.search(r"^next: +(.*)$", printed, re.M)[1]
    *test, place = shlex.split(next_command)
    assert test == ["lightning-seg", "test", "--ckpt_path"]
    assert find_checkpoint(place) == run.best.path
    assert Path(place) == run.folder.parent
    tensorboard = re.search(r"open: (.*)\)$", printed, re.M)[1]
    assert shlex.split(tensorboard) == ["tensorboard", "--logdir", str(run.folder.parent)]


def test_a_branch_from_best_is_what_best_and_last_mean_afterwards(fit, capsys):
    before = fit("demo", "--trainer.max_epochs", "4", "--checkpoint.monitor", "val/loss")
    start = before.best  # mode max of a falling loss: the first epoch
    assert (start.epoch, before.last.epoch) == (1, 4)
    branch = ["--ckpt_path", "best", "--data.batch_size", "6", "--checkpoint.monitor", "val/loss"]
    capsys.readouterr()
    after = fit("demo", *branch, "--trainer.max_epochs", "3")
    printed = capsys.readouterr().out
    assert printed.count("best so far: epoch 1, ") == 2
    assert "(epoch 1 of 3, val/loss " in printed
    assert after.folder == before.folder
    assert (after.best.path, after.last.epoch) == (start.path, 3)
    assert [saved.epoch for saved in after.living] == [1, 3]
    assert len(after.sittings) == 2


def test_fit_says_what_it_trains_and_counts_epochs_from_1(fit, capsys):
    run = fit("demo", "--trainer.max_epochs", "2")
    printed = capsys.readouterr().out.splitlines()
    assert "data:      phantom_polyp (SYNTHETIC), protocol tiny: 12 train, 4 val, 2 test" in printed
    assert "classes:   polyp" in printed
    assert "images:    3 channels, 16 x 16, in batches of 4" in printed
    assert any(line.startswith("network:   unet, ") for line in printed)
    epochs = [line for line in printed if line.startswith("epoch ")]
    assert [line.partition(":")[0] for line in epochs] == ["epoch 1 of 2", "epoch 2 of 2"]
    assert "train/loss" in epochs[0]
    assert "val/dice" in epochs[0]
    assert "best so far: epoch 1, " in epochs[0]
    assert epochs[0].endswith("left")
    best = next(line for line in printed if line.startswith("best checkpoint:"))
    told = f"(epoch {run.best.epoch} of 2, val/dice "
    assert told in best
    assert f"best so far: epoch {run.best.epoch}, " in epochs[1]
    assert run.last.path.name == "last-epoch=002.ckpt"
    assert run.last.epoch == 2


def test_a_terminal_shows_a_table_of_epochs(fit, capsys):
    fit("demo", "--trainer.max_epochs", "2", "--trainer.enable_progress_bar", "true")
    printed = capsys.readouterr()
    lines = [line.split() for line in (printed.out + printed.err).replace("\r", "\n").splitlines()]
    head = ["epoch", "train/loss", "val/loss", "val/dice", "val/dice_image", "best", "time", "left"]
    assert lines.count(head) == 1
    rows = [line for line in lines if line and line[0] in ("1/2", "2/2")]
    assert [row[0] for row in rows] == ["1/2", "2/2"]
    assert rows[0][5:7] == ["1", "*"]


def test_a_resumed_run_removes_the_last_it_came_from_and_says_how_the_rate_goes_on(fit, capsys):
    fit("group/demo", "--trainer.max_epochs", "2")
    run = fit("group/demo", "--trainer.max_epochs", "3", "--ckpt_path", "last")
    assert "the learning rate starts anew at 0.0" in capsys.readouterr().out
    assert [name for name in files(run) if name.startswith("last")] == ["last-epoch=003.ckpt"]
    assert [path.name for path in run.folder.parent.iterdir()] == ["version_0"]


def test_a_run_that_goes_on_as_it_was_says_nothing_of_it(fit, capsys):
    fit("demo", "--trainer.max_epochs", "1")
    capsys.readouterr()
    fit("demo", "--ckpt_path", "last", "--trainer.max_epochs", "2")
    printed = capsys.readouterr().out
    assert not re.search("trained on|validation images|data.size|PARTIAL", printed)


def test_validation_images_that_trained_before_are_said(fit, recipe, capsys):
    first = fit("demo", "--trainer.max_epochs", "1").last.path
    capsys.readouterr()
    text = (recipe.parent / "tiny.csv").read_text().replace("# name: tiny", "# name: turned")
    turned = recipe.parent / "turned.csv"
    turned.write_text(text.replace("polyp-0000,train", "polyp-0000,val"))
    options = ["--data.protocol", str(turned), "--trainer.max_epochs", "2"]
    fit("demo", "--ckpt_path", str(first), *options)
    assert "1 of 5 validation images were trained on before" in capsys.readouterr().out


def test_a_run_that_goes_on_with_other_images_says_so_and_remembers_both(fit, capsys):
    first = fit("demo", "--trainer.max_epochs", "1").last.path
    before = torch.load(first, weights_only=True)["lightning_seg"]["images"]["train"]
    capsys.readouterr()
    # the same ids, drawn anew
    other = ["--data.dataset_options", "{resolution: 20}", "--trainer.max_epochs", "2"]
    other += ["--data.size", "24", "--trainer.limit_val_batches", "1"]
    run = fit("demo", "--ckpt_path", "last", *other)
    printed = capsys.readouterr().out
    assert "was not trained on 12 of 12 training images" in printed
    assert "the validation images are others than those of before" in printed
    assert "data.size was 16 and is 24 now" in printed
    assert "PARTIAL: limit_val_batches 1: each epoch validates on a part" in printed
    after = torch.load(run.last.path, weights_only=True)["lightning_seg"]["images"]["train"]
    assert set(before) < set(after)
    assert len(after) == 24


def test_no_batch_to_score_is_refused(fit):
    run = fit("demo", "--trainer.max_epochs", "1")
    with pytest.raises(InputError, match="limit_test_batches is 0"):
        cli.run(["test", "--ckpt_path", str(run.folder), "--trainer.limit_test_batches", "0"])


def test_a_copied_and_a_renamed_run_are_resumed_where_they_are(fit, tmp_path):
    run = fit("demo", "--trainer.max_epochs", "1", "--trainer.logger", "false")
    names = files(run)
    shutil.copytree(run.folder.parent, tmp_path / "elsewhere" / "mine")
    copy = tmp_path / "elsewhere" / "mine"
    cli.run(["fit", "--ckpt_path", str(copy), "--trainer.max_epochs", "2"])
    assert files(run) == names
    assert "last-epoch=001.ckpt" not in files(Run.open(copy))
    assert Run.open(copy).last.epoch == 2
    bare = (copy / "version_0").rename(tmp_path / "bare")
    cli.run(["fit", "--ckpt_path", str(bare), "--trainer.max_epochs", "3"])
    assert Run.open(bare).last.epoch == 3
    assert not list(tmp_path.glob("bare*/version_*"))


def test_plateau_follows_the_validations_of_a_run_that_has_one_each_second_epoch(fit):
    plateau = ["--model.schedule", "plateau"]
    falling = ["--model.schedule_options", "{patience: 0, factor: 0.1, threshold: 1000, mode: min}"]
    rhythm = ["--trainer.check_val_every_n_epoch", "2", "--trainer.max_epochs", "4"]
    run = fit("demo", *plateau, *falling, *rhythm)
    state = torch.load(run.last.path, weights_only=True)["lr_schedulers"][0]
    assert (state["last_epoch"], state["num_bad_epochs"]) == (2, 0)  # two validations
    assert state["_last_lr"] == [pytest.approx(0.0001)]  # neither of which was better


@pytest.mark.parametrize("key", ["dirpath", "every_n_train_steps"])
def test_checkpoints_are_in_their_run_and_follow_a_validation(fit, key):
    with pytest.raises(InputError, match=rf"checkpoint\.{key} is"):
        fit("demo", f"--checkpoint.{key}", "3")


def test_a_training_that_failed_says_so_where_it_is_scored(fit, capsys):
    run = fit("demo", "--trainer.max_epochs", "1")
    content = run.environment
    content["ending"] |= {"status": "failed", "epochs_planned": 9}
    (run.folder / "environment.json").write_text(json.dumps(content))
    cli.run(["validate", "--ckpt_path", str(run.folder), "--measures", "none"])
    assert "training of demo is not complete: failed after 1 of 9 epochs" in capsys.readouterr().out


def ended(recipe, runs, signalled, *options):
    """Start `fit`, send SIGTERM to some of its processes after an epoch, or to all with their
    loading processes; its exit code and stderr."""
    command = [sys.executable, "-m", "lightning_seg", "fit", "-c", str(recipe), "--runs", str(runs)]
    command += ["--trainer.max_epochs", "5000", "--trainer.logger", "false", *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    main = subprocess.Popen(command, env=environment, start_new_session=True, **pipes)
    folder = runs / "tiny" / "version_0" / "checkpoints"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not list(folder.glob("last*")):
        time.sleep(0.05)
    if signalled == "all":
        os.killpg(main.pid, signal.SIGTERM)
        signalled = []
    for number in signalled:
        os.kill([main.pid, *children(main.pid)][number], signal.SIGTERM)
    _, errors = main.communicate(timeout=60)
    return main.returncode, errors


def children(pid):
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [
        int(one) for one in found if b"lightning_seg" in Path(f"/proc/{one}/cmdline").read_bytes()
    ]


def assert_interrupted(code, errors, runs):
    run = Run.open(runs / "tiny")
    assert code == 143
    assert f"go on with: lightning-seg fit --ckpt_path {run.last.path}" in errors
    assert "Traceback" not in errors
    assert (run.ending.status, run.ending.epochs_planned) == ("interrupted", 5000)
    assert run.ending.epochs_done == run.last.epoch


@pytest.mark.parametrize(("signalled", "workers"), [([0], 0), ("all", 2)])
def test_sigterm_ends_a_run_with_the_words_of_ctrl_c(recipe, tmp_path, signalled, workers):
    loading = ["--data.num_workers", str(workers)]
    assert_interrupted(*ended(recipe, tmp_path, signalled, *loading), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("signalled", [[0], [1], [0, 1]])
def test_sigterm_to_one_of_several_processes_ends_all_of_them(recipe, tmp_path, signalled):
    several = ["--trainer.strategy", "ddp", "--trainer.devices", "2"]
    assert_interrupted(*ended(recipe, tmp_path, signalled, *several), tmp_path)


@pytest.mark.parametrize(
    ("command", "notes"), [("fit", True), ("test", False), ("validate", False)]
)
def test_sigterm_is_noted_by_a_training_alone_and_ends_a_test_at_once(command, notes):
    trainer = RunTrainer(logger=False, accelerator="cpu", enable_checkpointing=False)
    trainer.state.fn = command
    before = signal.getsignal(signal.SIGTERM)
    trainer._signal_connector.register_signal_handlers()
    assert (signal.getsignal(signal.SIGTERM) != before) is notes
    trainer._signal_connector.teardown()
