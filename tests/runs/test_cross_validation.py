"""A cross-validation through the real command line: folds of 24 pictures of 12 patients in three
centres."""

import csv
import json
import os
import re
import shlex
import shutil
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

import lightning_seg as ls
from lightning_seg import cli
from lightning_seg.__main__ import main as front
from lightning_seg.callbacks import training_log
from lightning_seg.cli.cross_validate import main
from lightning_seg.errors import InputError
from lightning_seg.evaluation import ScoreTable, Summary
from lightning_seg.runs.checkpoints import read_checkpoint
from lightning_seg.runs.cross_validation import CrossValidation
from lightning_seg.runs.run import find_checkpoint

RECIPE = """
trainer: {{max_epochs: 1, accelerator: cpu, enable_progress_bar: false, precision: 32-true}}
runs: {root}/runs
data: {{dataset: folder, root: {root}/t.csv, protocol: auto, size: 32, batch_size: 4, num_workers: 0}}
model: {{architecture: unet, options: {{widths: [4, 8]}}, lr: 0.01}}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The folder of data, recipe and runs; patient p11 has no centre."""
    root = tmp_path_factory.mktemp("cv")
    rng, rows = np.random.default_rng(0), []
    for i in range(24):
        mask = np.zeros((32, 32), np.uint8)
        x, y = rng.integers(6, 26, 2).tolist()
        cv2.circle(mask, (x, y), 5, 255, -1)
        image = rng.normal(60, 15, (32, 32, 3)) + (mask > 0)[..., None] * 90
        for name, pixels in (("images", image.clip(0, 255).astype("u1")), ("masks", mask)):
            (root / name).mkdir(exist_ok=True)
            cv2.imwrite(str(root / name / f"i{i:02d}.png"), pixels)
        centre = "" if i // 2 == 11 else "ABC"[i // 2 % 3]
        rows.append(
            [f"i{i:02d}", f"images/i{i:02d}.png", f"masks/i{i:02d}.png", f"p{i // 2}", centre]
        )
    with (root / "t.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["id", "image", "mask", "group", "centre"], *rows])
    (root / "my.yaml").write_text(RECIPE.format(root=root))
    return root


def here(args):
    """One step in this process."""
    cli.run(args)
    return 0


def cv(place, *args, step=here):
    main(["-c", str(place / "my.yaml"), *args], step)


@pytest.fixture(scope="module")
def partial(place):
    """Folds 1 and 2 of 3."""
    cv(place, "--folds", "3", "--only", "1,2", "--name", "partial")
    return place / "runs" / "partial"


@pytest.fixture(scope="module")
def whole(place, partial):
    """The same, gone on with to its end."""
    folder = place / "runs" / "whole"
    shutil.copytree(partial, folder)
    cv(place, "--folds", "3", "--name", "whole")
    return folder


def no_step(args):
    raise AssertionError(f"nothing was to be done, and {args} was")


def test_each_value_of_a_column_is_a_fold_that_is_trained_by_fit(place):
    commands = []

    def step(args):
        commands.append(args)
        return 0

    with pytest.raises(InputError, match="fold 1 of 3 is not trained to its end"):
        cv(place, "--leave", "centre", "--model.lr", "0.1", step=step)
    validation = CrossValidation.open(place / "runs" / "my-leave-each-centre")
    names = [fold.protocol for fold in validation.folds]
    assert names == ["leave-centre=A", "leave-centre=B", "leave-centre=C"]
    assert validation.untested == 2
    [command] = commands
    assert command[0] == "fit"
    assert command[command.index("--data.protocol") + 1] == "leave-centre=A"
    assert command[command.index("--name") + 1] == "my-leave-each-centre/fold_1"
    assert "--model.lr" in command


def test_each_patient_is_a_fold(place):
    with pytest.raises(InputError, match="fold 1 of 12"):
        cv(place, "--leave", "group", step=lambda args: 0)


def test_splits_of_the_table_that_divide_patients_stop_no_folds(place, tmp_path):
    rows = list(csv.reader((place / "t.csv").open()))
    splits = ["split", *(("train", "val", "test")[place % 3] for place in range(24))]
    with (place / "divided.csv").open("w", newline="") as file:
        csv.writer(file).writerows([*row, split] for row, split in zip(rows, splits, strict=True))
    root = ["--data.root", str(place / "divided.csv")]
    with pytest.raises(InputError, match="in both train and val"):
        cli.run(["fit", "-c", str(place / "my.yaml"), "--runs", str(tmp_path), *root])
    with pytest.raises(InputError, match="fold 1 of 3 is not trained"):
        cv(place, "--folds", "3", "--runs", str(tmp_path), *root, step=lambda args: 0)


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        ([], "takes --folds K or --leave COLUMN, one of them"),
        (["--folds", "3", "--leave", "centre"], "one of them"),
        (["--folds", "2"], "--folds is 2; give 3 or more"),
        (["--folds", "13"], "k = 13 folds are impossible; give 2 to 12"),
        (["--folds", "3", "--only", "4"], "numbers of folds from 1 to 3"),
        (["--leave", "center"], "'centre'"),
        (["--folds", "3", "--ckpt_path", "last"], "goes on by itself"),
        (["--folds", "3", "--data.protocol", "auto"], "leave it out"),
        (["--folds", "3", "--model.learning_rate", "1"], "learning_rate"),
    ],
)
def test_what_makes_no_cross_validation_is_one_sentence(place, tmp_path, args, sentence):
    with pytest.raises(InputError, match=re.escape(sentence)):
        cv(place, "--runs", str(tmp_path), *args, step=no_step)


def test_a_step_that_fails_ends_the_command_with_its_status(place, tmp_path, capsys):
    with pytest.raises(SystemExit) as raised:
        cv(place, "--folds", "3", "--runs", str(tmp_path), step=lambda args: 3)
    assert raised.value.code == 3
    assert (
        "fold 1 of 3 ended with exit status 3; the same command goes on" in capsys.readouterr().err
    )


def test_another_training_or_division_needs_another_name(place, tmp_path):
    where = ["--runs", str(tmp_path), "--name", "a"]
    for args in (["--folds", "3"], ["--folds", "3"]):
        with pytest.raises(InputError, match="fold 1"):
            cv(place, *where, *args, step=lambda args: 0)
    with pytest.raises(
        InputError, match=r"model\.lr = 0\.01, not 0\.2; give this one another --name"
    ):
        cv(place, *where, "--folds", "3", "--model.lr", "0.2", step=no_step)
    with pytest.raises(InputError, match="the folds of 3-fold, not of 4-fold"):
        cv(place, *where, "--folds", "4", step=no_step)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_what_is_interrupted_names_the_command_that_goes_on(place, tmp_path, capsys, number, code):
    def step(args):
        os.kill(os.getpid(), number)
        time.sleep(30)
        raise AssertionError("the signal was lost")

    args = ["--folds", "3", "--runs", str(tmp_path)]
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as raised:
        cv(place, *args, step=step)
    assert raised.value.code == code
    again = shlex.join(["lightning-seg", "cv", "-c", str(place / "my.yaml"), *args])
    assert f"the cross-validation was interrupted; go on with: {again}\n" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) == before


def test_within_cv_a_training_leaves_it_to_cv_to_say_how_to_go_on(monkeypatch, capsys):
    monkeypatch.setattr(training_log, "run_of", lambda trainer: trainer.run)
    run = SimpleNamespace(last=SimpleNamespace(path=Path("last.ckpt"), epoch=2))
    state = SimpleNamespace(fn="fit")
    trainer = SimpleNamespace(is_global_zero=True, state=state, current_epoch=2, run=run)
    said = []
    for value in ("", "1"):
        if value:
            monkeypatch.setenv("LIGHTNING_SEG_STEP", value)
        training_log.TrainingLog().on_exception(trainer, None, KeyboardInterrupt())
        said.append(capsys.readouterr().err)
    assert said == [
        "interrupted in epoch 3; go on with: lightning-seg fit --ckpt_path last.ckpt\n",
        "interrupted in epoch 3; epoch 2 is kept\n",
    ]


def test_one_of_which_no_fold_is_tested_is_unfinished_wherever_it_is_named(place, tmp_path, capsys):
    """Such a folder has no pooled scores: `cv` was ended before it came to them."""
    args = ["--folds", "3", "--runs", str(tmp_path), "--name", "ended"]
    with pytest.raises(InputError, match="fold 1 of 3"):
        cv(place, *args, "--only=1", step=lambda args: 0)
    folder, other = str(tmp_path / "ended"), str(tmp_path / "other")
    shutil.copytree(folder, other)
    again = shlex.join(["lightning-seg", "cv", "-c", str(place / "my.yaml"), *args])
    sentence = f"PARTIAL (0 of 3 folds are tested); finish it by `{again}`"
    with pytest.raises(SystemExit):
        front(["compare", folder, other])
    assert f"{folder} is {sentence}." in capsys.readouterr().err
    front(["record", folder, "--results", str(tmp_path / "results"), "--allow-changed"])
    assert f"{folder}: {sentence}; passed over" in capsys.readouterr().out
    front(["report", folder])
    assert "PARTIAL: 0 of 3 folds are trained" in (tmp_path / "ended/report.html").read_text()


@pytest.mark.slow
def test_each_image_is_tested_once_by_a_network_that_never_saw_its_patient(whole):
    table = ScoreTable.read(whole / "test-3-fold" / "pooled-32" / "scores.csv")
    assert table.ids == tuple(f"i{i:02d}" for i in range(24))
    validation = CrossValidation.open(whole)
    for number in range(3):
        [folder] = validation.tests(number).values()
        tested = ScoreTable.read(folder / "scores.csv")
        rows = [table.ids.index(id) for id in tested.ids]
        assert np.array_equal(table.counts[rows], tested.counts)
        facts = read_checkpoint(validation.checkpoints()[number])
        trained = {f"p{int(id[1:]) // 2}" for id in facts["lightning_seg"]["trained_on"]}
        assert not trained & set(tested.groups)
    summary = Summary.read(whole / "test-3-fold" / "pooled-32")
    assert (summary.images, summary.groups, summary.partial) == (24, 12, "")
    assert not list(whole.glob("partial-*"))


@pytest.mark.slow
def test_the_same_command_does_nothing_again(place, whole, capsys):
    cv(place, "--folds", "3", "--name", "whole", step=no_step)
    printed = capsys.readouterr().out
    assert "mean and standard deviation over 3 folds" in printed
    assert printed.index(f"RESULT of the cross-validation {whole}") < printed.index("dice")
    assert "PARTIAL" not in printed


@pytest.mark.slow
def test_a_partial_one_says_so_and_is_neither_recorded_nor_compared(
    partial, whole, tmp_path, capsys
):
    front(["record", str(partial), "--results", str(tmp_path), "--allow-changed"])
    printed = capsys.readouterr().out
    assert "0 recorded" in printed
    assert not list(tmp_path.glob("scores/*/*.csv"))
    with pytest.raises(SystemExit):
        front(["compare", str(partial), str(whole)])
    said = capsys.readouterr().err
    assert "PARTIAL (2 of 3 folds are tested); finish it by `lightning-seg cv" in said
    assert f"the folder of these scores, {partial / 'partial-test-3-fold' / 'pooled-32'}" in said
    unpooled = tmp_path / "unpooled"
    shutil.copytree(partial, unpooled, ignore=shutil.ignore_patterns("partial-*"))
    assert "PARTIAL (2 of 3 folds are tested); finish" in CrossValidation.open(unpooled).unfinished
    with pytest.warns(UserWarning, match="PARTIAL, 2 of 3 folds"):
        ls.load(partial)
    front(["report", str(partial)])
    assert "PARTIAL: 2 of 3 folds are trained" in (partial / "report.html").read_text()


@pytest.mark.slow
def test_the_folds_are_an_ensemble_and_said_to_be(place, whole, tmp_path, capsys):
    picture = place / "images" / "i00.png"
    parts = [ls.load(whole / f"fold_{number}").predict(picture).probability for number in (1, 2, 3)]
    model = ls.load(whole)
    assert repr(model) == "Predictor: an ensemble of 3 networks for foreground"
    assert model.predict(picture).probability == pytest.approx(np.mean(parts, 0), abs=1e-6)
    out = ["--output", str(tmp_path / "masks")]
    front(["predict", "--ckpt_path", str(whole), "--input", str(picture), *out])
    assert "an ensemble of 3 networks, the folds of" in capsys.readouterr().out
    assert len(list((tmp_path / "masks").rglob("i00*.png"))) == 1
    front(["export", "program", "--ckpt_path", str(whole), "--output", str(tmp_path / "m.pt2")])
    assert "an ensemble of 3 networks" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        front(["predict", "--ckpt_path", str(whole)])
    assert "trained on each image of their data set" in capsys.readouterr().err
    with pytest.raises(InputError, match="fold_1"):
        find_checkpoint(whole)


@pytest.mark.slow
def test_it_is_one_row_of_the_leaderboard_and_one_page(whole, tmp_path):
    front(["record", str(whole), "--results", str(tmp_path), "--allow-changed"])
    front(["leaderboard", "--results", str(tmp_path)])
    with (tmp_path / "leaderboard.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["convention"] == "image"]
    assert len(rows) == 1
    dice = Summary.read(whole / "test-3-fold" / "pooled-32").scores["foreground"]["dice"]["image"]
    assert float(rows[0]["dice"]) == pytest.approx(dice.value, abs=1e-4)
    assert rows[0]["protocol"] == "3-fold"
    assert "3 (mean 0." in (tmp_path / "LEADERBOARD.md").read_text()
    front(["report", str(whole)])
    page = (whole / "report.html").read_text()
    assert "Mean and standard deviation over 3 folds" in page
    assert "fold_3" in page
    assert "PARTIAL" not in page


@pytest.mark.slow
def test_two_over_the_same_folds_are_paired_by_image_and_others_are_refused(
    whole, tmp_path, capsys
):
    first = whole / "test-3-fold" / "pooled-32"
    front(["compare", f"one={whole}", f"two={first}", "--score", "dice"])
    printed = capsys.readouterr().out
    assert "tied" in printed
    assert "+0.0000" in printed
    other = tmp_path / "runs" / "other" / "test-3-fold" / "pooled-32"
    shutil.copytree(first, other)
    content = json.loads((other / "summary.json").read_text())
    (other / "summary.json").write_text(json.dumps(content | {"protocol_digest": "0" * 12}))
    with pytest.raises(SystemExit):
        front(["compare", str(whole), f"other={other}"])
    assert "compare cross-validations over the same folds" in capsys.readouterr().err


@pytest.mark.slow
def test_tests_of_another_kind_are_added(place, whole, capsys):
    tested = []

    def step(args):
        tested.append(args[0])
        return here(args)

    cv(place, "--folds", "3", "--name", "whole", "--tta", "flips", step=step)
    assert tested == ["test"] * 3
    assert (whole / "test-3-fold" / "tta=flips-pooled-32" / "summary.json").is_file()
    validation = CrossValidation.open(whole)
    assert [folder.name for folder in validation.scored()] == ["pooled-32", "tta=flips-pooled-32"]


@pytest.mark.slow
def test_each_fold_is_cut_at_the_threshold_that_its_training_chose(place, whole, capsys):
    cv(place, "--folds", "3", "--name", "whole", "--threshold", "val")
    validation = CrossValidation.open(whole)
    found = Summary.read(whole / "test-3-fold" / "threshold=val-pooled-32")
    chosen = [
        read_checkpoint(file, weights=False)["lightning_seg"]["threshold"]["value"]
        for file in validation.checkpoints()
    ]
    assert found.threshold == pytest.approx(np.mean(chosen))
    assert found.threshold_from.endswith(": " + ", ".join(f"{cut:.3g}" for cut in chosen))
    assert "each chosen on the validation split" in capsys.readouterr().out
    cv(place, "--folds", "3", "--name", "whole", "--threshold", "val", step=no_step)
    cv(place, "--folds", "3", "--name", "whole", step=no_step)
    for number, cut in enumerate(chosen):
        folder = validation.tests(number)["threshold=val-pooled-32"]
        assert folder.name.startswith(f"threshold={cut:g}-best")


def test_a_threshold_for_exclusive_classes_is_refused_before_any_training(place, tmp_path):
    more = ["--runs", str(tmp_path), "--classes", "exclusive", "--threshold", "val"]
    with pytest.raises(InputError, match="--threshold is val, but the classes are exclusive"):
        cv(place, "--folds", "3", *more, step=no_step)
