"""What version 0.1 left behind is read by the code of today, and its networks score the same to the last digit."""

import json
import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from optuna import load_study

import lightning_seg as ls
from hpo.storage import open_storage
from lightning_seg import cli
from lightning_seg.data.sources.phantom import render_phantom
from lightning_seg.data.split_sizes import FEWEST_UNITS
from lightning_seg.evaluation import ScoreTable

ARCHIVE = Path(__file__).parent / "archive" / "v0_1"
CPU = ("--trainer.accelerator", "cpu")


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """A copy of the archive as the working directory."""
    folder = tmp_path / "v0_1"
    shutil.copytree(ARCHIVE, folder)
    monkeypatch.chdir(folder)
    return folder


def scored(folder):
    """The folders of scores below ``folder`` with the time of their tables."""
    return {file.parent: file.stat().st_mtime_ns for file in folder.rglob("scores.csv")}


def moved(table):
    """The options of a checkpoint whose protocol file lies elsewhere than when it was written."""
    return "--data.protocol", table


def written(folder, *args):
    """Run the command line; the one folder of scores that it wrote below ``folder``."""
    before = scored(folder)
    cli.run(list(args))
    [found] = [place for place, time in scored(folder).items() if before.get(place) != time]
    return found


def assert_same(old, new):
    """Counts and the scores that follow from them are equal; maps may differ in a last bit from processor to processor."""
    theirs, ours = ScoreTable.read(old / "scores.parquet"), ScoreTable.read(new / "scores.parquet")
    assert (ours.ids, ours.classes, ours.groups) == (theirs.ids, theirs.classes, theirs.groups)
    np.testing.assert_array_equal(ours.counts, theirs.counts)
    np.testing.assert_array_equal(ours.components, theirs.components)
    assert set(theirs.measures) <= set(ours.measures)
    for name, values in theirs.measures.items():
        np.testing.assert_allclose(ours.measures[name], values, rtol=1e-6, err_msg=name)
    np.testing.assert_allclose(ours.calibration, theirs.calibration, rtol=1e-5)
    before, after = (
        json.loads((place / "summary.json").read_text(encoding="utf-8")) for place in (old, new)
    )
    for name, values in before["scores"].items():
        for score, conventions in values.items():
            for convention, value in conventions.items():
                found = after["scores"][name][score][convention]
                if found["interval"] == [None, None]:  # given for any number of units then
                    units = (
                        -(-len(ours.ids) // 4) if convention == "batch4" else len(set(ours.groups))
                    )
                    assert units < FEWEST_UNITS
                    value["interval"] = [None, None]
                assert found == value, (name, score, convention)
    for name, values in before["maxima"].items():
        assert after["maxima"][name] == pytest.approx(values, rel=1e-6)


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("unet", "test-archive-polyps/best-epoch=030-dice=0.4392-32"),
        ("unet3plus", "test-archive-polyps/best-epoch=046-dice=0.4339-32"),
        ("attention", "test-archive-slices/best-epoch=019-dice=0.4065-32"),
    ],
)
def test_an_old_checkpoint_scores_to_the_last_digit(archive, name, folder):
    table = folder.split("/")[0].removeprefix("test-archive-") + ".csv"
    named = ["--ckpt_path", "best", "--name", name, *moved(table)]
    new = written(archive / "runs" / name, "test", *named, *CPU)
    assert_same(ARCHIVE / "runs" / name / "version_0" / folder, new)


def test_so_does_an_ensemble_with_passes_and_steps_at_native_size(archive):
    options = ["--score_at", "native", "--tta", "flips", "--ensemble", "runs/unet3plus"]
    steps = ["--postprocess", "fill_holes,min_area=20"]
    checkpoint = ["--ckpt_path", "last", "--name", "unet", *moved("polyps.csv")]
    new = written(archive / "runs/unet", "test", *checkpoint, *options, *steps, *CPU)
    [old] = (ARCHIVE / "runs/unet/version_0/test-archive-polyps").glob("tta=*")
    assert_same(old, new)


def test_so_does_validate(archive):
    named = ["--ckpt_path", "best", "--name", "attention", *moved("slices.csv")]
    new = written(archive / "runs/attention", "validate", *named, *CPU)
    [old] = (ARCHIVE / "runs/attention/version_0/val-archive-slices").glob("best*")
    assert_same(old, new)


def test_an_old_run_goes_on(archive, capsys):
    more = ["--trainer.max_epochs", "51"]
    cli.run(["fit", "-c", "unet.yaml", "--ckpt_path", "last", "--name", "unet", *more])
    assert "epoch 51 of 51" in capsys.readouterr().out


def test_an_old_study_is_read(archive):
    study = load_study(study_name="small", storage=open_storage("studies/small/study.journal"))
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 3 + ["PRUNED"]
    assert study.best_trial.number == 2
    assert study.best_value == pytest.approx(0.2929, abs=5e-5)


def test_an_old_onnx_file_gives_what_its_checkpoint_gives(archive):
    [checkpoint] = archive.glob("studies/small/trial_0002/version_0/checkpoints/*.ckpt")
    picture, _ = render_phantom("polyp", 7, 0, 32)
    image = (picture.transpose(2, 0, 1)[None] / 255).astype(np.float32)
    session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
    [found] = session.run(None, {session.get_inputs()[0].name: image})
    with torch.no_grad():
        expected = ls.load(checkpoint)(torch.from_numpy(image)).logits.numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)
