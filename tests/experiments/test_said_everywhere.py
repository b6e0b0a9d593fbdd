"""What must be said of a run is said wherever the run is shown."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from made_runs import write_recipe
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from experiments import record
from experiments.leaderboard.__main__ import main as leaderboard
from lightning_seg import cli, load
from lightning_seg.errors import InputError
from lightning_seg.export.card import card
from lightning_seg.reports.comparison import main as compare
from lightning_seg.reports.run_page import main as report
from lightning_seg.runs import Run
from lightning_seg.serve._facts import facts
from lightning_seg.serve._limits import Limits

RECIPE = {
    "trainer": {"accelerator": "cpu", "enable_progress_bar": False, "max_epochs": 1},
    "data": {
        "dataset": "phantom_polyp",
        "size": 32,
        "batch_size": 2,
        "dataset_options": {"resolution": 32},
    },
    "model": {"architecture": "unet", "options": {"widths": [4, 8]}},
}
SPLITS = ["train"] * 4 + ["val"] * 3 + ["test"] * 6


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A training on synthetic images that was killed after the first of three epochs, and tested."""
    folder = tmp_path_factory.mktemp("said")
    recipe = write_recipe(folder, RECIPE, SPLITS)
    where = ["--runs", str(folder), "--name", "a"]
    cli.run(["fit", "-c", str(recipe), *where])
    run = Run.open(folder / "a", folder)
    kept = run.environment
    # what `kill -9` within the second epoch leaves
    kept["ending"] |= {"status": "running", "epochs_planned": 3}
    config = run.config_file.read_text()
    assert "limit_train_batches: null" in config
    run.config_file.write_text(
        config.replace("limit_train_batches: null", "limit_train_batches: 0.5")
    )
    (run.folder / "environment.json").write_text(json.dumps(kept))
    cli.run(["test", "--ckpt_path", "best", *where])
    return run


SYNTHETIC, KILLED = "SYNTHETIC", "running or killed after 1 of 3 epochs"
PART = "PARTIAL TRAINING: each epoch used a part of the images (limit_train_batches 0.5)"


def test_an_early_end_and_synthetic_images_are_said_wherever_a_run_is_shown(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run.best is not None
    best, shown = run.best.path, {}
    capsys.readouterr()
    compare([f"one={run.folder}", f"two={run.folder}", "--score", "dice"])
    shown["compare"] = " ".join(capsys.readouterr().out.split())
    report([str(run.folder), "--output", str(tmp_path / "report.html"), "--no-predictions"])
    shown["report"] = (tmp_path / "report.html").read_text()
    shown["card"] = card(best, "jane/tiny")
    model = facts(load(best), [best], Limits.of(1, 1000))
    shown["serve"] = " ".join(model["cautions"])
    assert json.dumps(model, allow_nan=False)
    events = EventAccumulator(str(run.folder), size_guidance={"tensors": 0}).Reload()
    shown["TensorBoard"] = str(events.Tensors("test/scores/text_summary")[-1].tensor_proto)
    for place, text in shown.items():
        for word in (SYNTHETIC, KILLED, PART):
            assert word in text, f"{place} does not say {word}"
    results = tmp_path / "results"
    record.main([str(run.folder), "--results", str(results), "--allow-changed"])
    leaderboard(["--results", str(results)])
    for name in ("LEADERBOARD.md", "leaderboard.csv"):
        board = (results / name).read_text()
        assert SYNTHETIC in board
        assert "RUNNING OR KILLED after 1 of 3 epochs" in board
        assert "PART OF THE IMAGES (limit_train_batches 0.5)" in board


def test_a_training_that_was_resumed_otherwise_is_said_wherever_it_is_shown(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = "RESUMED OTHERWISE: data.batch_size was 2 and is 4 now"
    shutil.copytree(run.folder, tmp_path / "a" / "version_0")
    assert run.last is not None
    last = tmp_path / "a" / "version_0" / "checkpoints" / run.last.path.name
    more = ["--trainer.max_epochs=2", "--data.batch_size=4", "--runs", str(tmp_path)]
    config = tmp_path / "a" / "version_0" / "config.yaml"
    config.write_text(config.read_text().replace("batches: 0.5", "batches: null"))
    cli.run(["fit", "-c", str(config), "--ckpt_path", str(last), "--name", "b", *more])
    resumed = Run.open(tmp_path / "b", tmp_path)
    assert resumed.best is not None
    cli.run(["test", "--ckpt_path", str(resumed.best.path)])
    capsys.readouterr()
    compare([f"one={resumed.folder}", f"two={resumed.folder}", "--score", "dice"])
    shown = {"compare": " ".join(capsys.readouterr().out.split())}
    report([str(resumed.folder), "--output", str(tmp_path / "r.html"), "--no-predictions"])
    shown["report"] = (tmp_path / "r.html").read_text()
    shown["card"] = card(resumed.best.path, "jane/tiny")
    model = facts(load(resumed.best.path), [resumed.best.path], Limits.of(1, 1000))
    shown["serve"] = " ".join(model["cautions"])
    results = tmp_path / "results"
    record.main([str(resumed.folder), "--results", str(results), "--allow-changed"])
    leaderboard(["--results", str(results)])
    for name in ("reproduced.csv", "LEADERBOARD.md", "leaderboard.csv"):
        shown[name] = (results / name).read_text()
    for place, text in shown.items():
        assert told in text, f"{place} does not say it"


def test_scores_that_were_changed_by_hand_are_shown_and_recorded_by_nothing(
    run: Run, tmp_path: Path
) -> None:
    [folder] = run.score_folders("test")
    file = folder / "summary.json"
    before = file.read_text()
    content = json.loads(before)
    content["scores"]["polyp"]["dice"]["image"]["value"] = 0.99
    file.write_text(json.dumps(content))
    assert run.best is not None
    results = ["--results", str(tmp_path / "results")]
    calls = [
        lambda: compare([f"one={run.folder}", f"two={run.folder}"]),
        lambda: report([str(run.folder), "--no-predictions"]),
        lambda: card(run.best.path, "jane/tiny"),
        lambda: record.main([str(run.folder), *results, "--allow-changed"]),
        lambda: leaderboard([*results, "--runs", str(run.folder)]),
    ]
    for call in calls:
        with pytest.raises(InputError, match="do not say the same"):
            call()
    file.write_text(before)


def test_scores_of_a_checkpoint_that_was_replaced_since_are_nobodys(
    run: Run, tmp_path: Path
) -> None:
    assert run.best is not None
    home, results = tmp_path / "a" / "version_0", ["--results", str(tmp_path / "results")]
    shutil.copytree(run.folder, home)
    best = home / "checkpoints" / run.best.path.name
    pair = [f"one={home}", f"two={run.folder}", "--score", "dice", "--resamples", "100"]
    compare(pair)  # a copy is as good as what it is a copy of
    assert "## Scores\n\n![Dice" in card(best, "jane/tiny")
    assert facts(load(best), [best], Limits.of(1, 1000))["scores"]
    content = torch.load(best)
    next(iter(content["state_dict"].values())).mul_(1.01)
    torch.save(content, best)
    calls = [
        lambda: compare(pair),
        lambda: record.main([str(home), *results, "--allow-changed"]),
        lambda: leaderboard([*results, "--runs", str(home)]),
    ]
    for call in calls:
        with pytest.raises(InputError, match="holds other weights than those that"):
            call()
    with pytest.warns(UserWarning, match="left aside: .* holds other weights"):
        assert "never scored for this checkpoint" in card(best, "jane/tiny")
    with pytest.warns(UserWarning, match="left aside: .* holds other weights"):
        report([str(home), "--output", str(tmp_path / "r.html"), "--no-predictions"])
    assert "Neither tested nor validated" in (tmp_path / "r.html").read_text()
    assert not facts(load(best), [best], Limits.of(1, 1000))["scores"]
    best.unlink()  # what was scored is not known to be another
    compare(pair)


def test_a_configuration_that_was_edited_after_the_training_is_not_recorded(
    run: Run, tmp_path: Path
) -> None:
    shutil.copytree(run.folder, tmp_path / "a" / "version_0")
    config = tmp_path / "a" / "version_0" / "config.yaml"
    text, number = re.subn(r"(?m)^  lr: .*$", "  lr: 0.7", config.read_text())
    assert number == 1
    config.write_text(text)
    results = ["--results", str(tmp_path / "results"), "--allow-changed"]
    told = r"config.yaml says model.lr = 0.7, and last.*ckpt beside it was trained with 0\.0"
    with pytest.raises(InputError, match=told):
        record.main([str(config.parent), *results])
    with pytest.raises(InputError, match=told):
        leaderboard([*results[:2], "--runs", str(config.parent)])


def test_a_run_and_its_copy_are_not_two_seeds(run: Run, tmp_path: Path) -> None:
    shutil.copytree(run.folder, tmp_path / "b" / "version_0")
    config = tmp_path / "b" / "version_0" / "config.yaml"
    config.write_text(config.read_text().replace("seed_everything: 42", "seed_everything: 43"))
    results = ["--results", str(tmp_path / "results")]
    record.main([str(run.folder), *results, "--allow-changed"])
    copy = str(config.parent)
    with pytest.raises(InputError, match=r"a run and its copy are one result"):
        record.main([copy, *results, "--allow-changed"])
    with pytest.raises(InputError, match=r"a run and its copy are one result"):
        leaderboard([*results, "--runs", copy])
    with pytest.raises(InputError, match=r"hold the same scores, as of a run and its copy"):
        compare([f"one={run.folder},{copy}", f"two={run.folder}"])
