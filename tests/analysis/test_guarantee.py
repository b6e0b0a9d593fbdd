"""`calibrate --fnr`: from reserved images to contours that predict, serve and report show."""

import csv
import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import lightning_seg as ls
from lightning_seg.analysis.calibrate import main as calibrate
from lightning_seg.analysis.guarantee import read_coverage
from lightning_seg.cli import main as cli
from lightning_seg.data import SegmentationDataModule
from lightning_seg.data.splits import RESERVED
from lightning_seg.errors import InputError
from lightning_seg.export._file_export import say_of_networks
from lightning_seg.export.card import card
from lightning_seg.inference.__main__ import main as predict
from lightning_seg.reports.run_page import report
from lightning_seg.reports.run_page._run import open_run
from lightning_seg.runs import find_run
from lightning_seg.runs.checkpoints import read_checkpoint

RECIPE = """
seed_everything: 1
name: tiny
trainer: {accelerator: cpu, enable_progress_bar: false, max_epochs: 6, logger: false}
data:
  dataset: phantom_polyp
  protocol: reserve-1-of-fold-1-of-4
  size: 32
  num_workers: 0
  dataset_options: {resolution: 48}
model: {architecture: unet, options: {widths: [4, 8]}, lr: 0.01}
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("guarantee")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        (folder / "tiny.yaml").write_text(RECIPE)
        cli(["fit", "-c", "tiny.yaml"])
        calibrate(["--ckpt_path", "best", "--name", "tiny", "--fnr", "0.3", "--fpr", "0.2"])
        yield folder


def kept(name):
    return find_run(name).best.path


def test_the_reserved_images_trained_and_chose_nothing(runs):
    content = read_checkpoint(kept("tiny"))
    data = SegmentationDataModule(
        "phantom_polyp",
        protocol="reserve-1-of-fold-1-of-4",
        size=32,
        dataset_options={"resolution": 48},
    )
    reserved = set(data.fingerprint(RESERVED).images.values())
    images = content["lightning_seg"]["images"]
    assert len(reserved) >= 10
    assert not reserved & {*images["train"], *images["val"]}


def test_the_checkpoint_keeps_its_weights_and_gains_a_guarantee(runs):
    before, after = (read_checkpoint(kept(name)) for name in ("tiny", "tiny-guaranteed"))
    for name, weight in before["state_dict"].items():
        assert torch.equal(weight, after["state_dict"][name])
    guarantee = after["lightning_seg"]["guarantee"]
    assert guarantee["outer"]["rate"] == 0.3
    assert guarantee["inner"]["rate"] == 0.2
    units, risk = guarantee["outer"]["units"][0], guarantee["outer"]["risks"][0]
    assert (units * risk + 1) / (units + 1) <= 0.3


def test_predict_writes_the_contours_and_says_what_they_promise(runs, capsys):
    source = SegmentationDataModule("phantom_polyp", dataset_options={"resolution": 48}).source
    (runs / "pictures").mkdir()
    for id in source.ids[:7]:
        cv2.imwrite(str(runs / "pictures" / f"{id}.png"), source.read(id).image[..., ::-1])
    arguments = ["--input", "pictures", "--output", "out", "--overlays"]
    predict(["--ckpt_path", str(kept("tiny-guaranteed")), *arguments])
    said = capsys.readouterr().out
    assert "at most 30 %" in said
    assert "look at these first" in said
    assert "exchangeable" in (runs / "out" / "guarantee.txt").read_text()
    bounds = read_checkpoint(kept("tiny-guaranteed"))["lightning_seg"]["guarantee"]
    network = ls.load(kept("tiny"))
    for file in (runs / "pictures").iterdir():
        probability = network.predict(file).probability[0]
        for kind in ("outer", "inner"):
            mask = cv2.imread(str(runs / "out" / kind / file.name), cv2.IMREAD_GRAYSCALE) > 0
            assert np.array_equal(mask, probability > bounds[kind]["thresholds"][0])
    rows = list(csv.DictReader((runs / "out" / "look_first.csv").open()))
    expected = [float(row["expected_dice"]) for row in rows]
    assert len(rows) == 7
    assert expected == sorted(expected)
    predict(["--ckpt_path", str(kept("tiny-guaranteed")), *arguments])
    assert "7 of 7 pictures are done already" in capsys.readouterr().out
    (runs / "out" / "outer" / rows[0]["file"]).unlink()
    predict(["--ckpt_path", str(kept("tiny-guaranteed")), *arguments])
    assert "6 of 7 pictures are done already" in capsys.readouterr().out


def test_other_probabilities_have_no_guarantee_and_that_is_said(runs, capsys):
    place = str(kept("tiny-guaranteed"))
    predict(["--ckpt_path", place, "--output", "tta", "--tta", "flips"])
    assert "not with test-time augmentation flips" in capsys.readouterr().err
    assert not Path("tta/outer").exists()
    assert ls.load(place, tta="flips").rule.guarantee is None
    assert ls.load([place, place]).rule.guarantee is None
    said = "guarantee of the checkpoint is not exported"
    say_of_networks([Path(place)], [])
    assert said in capsys.readouterr().out
    assert said in card(Path(place), "jane/tiny")


def test_the_coverage_of_the_test_split_is_measured_and_counted_as_a_look(runs, capsys):
    calibrate(["--ckpt_path", "best", "--name", "tiny-guaranteed", "--coverage"])
    assert "coverage on the test split" in capsys.readouterr().out
    file = kept("tiny-guaranteed")
    found = json.loads(
        (find_run("tiny-guaranteed").folder / "coverage" / f"{file.stem}.json").read_text()
    )
    network = ls.load(file)
    data = SegmentationDataModule(
        "phantom_polyp",
        protocol="reserve-1-of-fold-1-of-4",
        dataset_options={"resolution": 48},
    )
    missed = []
    for id in data.ids("test"):
        sample = data.source.read(id)
        truth, outer = sample.mask[..., 0] > 0, network.predict(sample.image).contours["outer"][0]
        if truth.any():
            missed.append((truth & ~outer).sum() / truth.sum())
    assert found["coverage"][0]["error"] == pytest.approx(np.mean(missed))
    assert found["looks"] == 1
    assert len((runs / "runs" / "ledger.csv").read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--name", "tiny-guaranteed", "--fnr", "0.3"], "holds a guarantee already"),
        (["--name", "tiny-guaranteed"], "holds a guarantee"),
        (["--name", "tiny", "--coverage"], "holds no guarantee"),
        (["--name", "tiny", "--fnr", "0.3", "--method", "vector"], "calibrate by --method first"),
        (["--name", "tiny", "--fnr", "0.001", "--output", "x.ckpt"], "needs 999 or more"),
        (["--name", "tiny", "--fnr", "2", "--output", "x.ckpt"], "between 0 and 1"),
    ],
)
def test_what_cannot_be_promised_is_refused(runs, options, said):
    with pytest.raises(InputError, match=said):
        calibrate(["--ckpt_path", "best", *options])
    assert not Path("x.ckpt").exists()


def test_a_training_that_used_its_validation_images_is_refused(runs):
    recipe = RECIPE.replace("tiny", "used").replace("reserve-1-of-fold-1-of-4", "fold-1-of-4")
    (runs / "used.yaml").write_text(recipe.replace("max_epochs: 6", "max_epochs: 1"))
    cli(["fit", "-c", "used.yaml"])
    with pytest.raises(InputError, match="reserve-42-of-fold-1-of-4"):
        calibrate(["--ckpt_path", "best", "--name", "used", "--fnr", "0.3"])
    # the same network told that it had reserved images, which in truth chose its epoch
    content = read_checkpoint(kept("used"))
    content["datamodule_hyper_parameters"]["protocol"] = "reserve-1-of-fold-1-of-4"
    torch.save(content, runs / "false.ckpt")
    with pytest.raises(InputError, match=r"used .* reserved image"):
        calibrate(["--ckpt_path", "false.ckpt", "--fnr", "0.3", "--output", "y.ckpt"])


def test_the_report_says_the_promise_its_coverage_and_where_to_look_first(runs):
    cli(["test", "--ckpt_path", str(kept("tiny-guaranteed"))])
    calibrate(["--ckpt_path", "best", "--name", "tiny-guaranteed", "--coverage"])
    run = open_run(find_run("tiny-guaranteed").folder)
    page = report(run)
    for words in ("Look at these first", "Guaranteed contours", "at most 30 %", "AURC", "Dotted"):
        assert words in page
    [outer, inner] = read_coverage(run.folder, run.checkpoint)["coverage"]
    assert f"{outer.error:.4f}" in page
    assert outer.verdict in page
    table = run.results[0].table
    least = table.ids[int(np.argmin(table.measures["expected_dice"][:, 0]))]
    [first, *_] = re.findall(r"polyp-\d+", page.partition("Look at these first")[2])
    assert first == least
    assert inner.rate == 0.2


def test_a_damaged_guarantee_is_no_checkpoint(runs):
    content = read_checkpoint(kept("tiny-guaranteed"))
    content["lightning_seg"]["guarantee"]["outer"]["thresholds"] = [0.2, 0.3]
    torch.save(content, runs / "damaged.ckpt")
    with pytest.raises(InputError, match="guarantee"):
        read_checkpoint(runs / "damaged.ckpt")
