"""A network trained on crops: `test` and `predict` slide windows by themselves, and agree."""

import json

import numpy as np
import pytest
from PIL import Image

import lightning_seg as ls
from lightning_seg import cli
from lightning_seg.data.sources.phantom import render_phantom
from lightning_seg.errors import InputError
from lightning_seg.evaluation import ScoreTable
from lightning_seg.inference.__main__ import main
from lightning_seg.runs import find_checkpoint
from lightning_seg.runs.checkpoints import read_checkpoint
from tests.inference.conftest import read

RECIPE = """
trainer: {{accelerator: cpu, enable_progress_bar: false, max_epochs: 3, log_every_n_steps: 1, precision: 32-true}}
data: {{dataset: folder, root: {root}, protocol: auto, crop: 32, batch_size: 4, cache: {root}/cache, num_workers: 0}}
model: {{architecture: unet, options: {{widths: [4, 8]}}, lr: 0.03, warmup: 0}}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run on 20 phantoms of different sizes, one of them smaller than a crop."""
    root = tmp_path_factory.mktemp("data")
    for name in ("images", "masks"):
        (root / name).mkdir()
    for number in range(20):
        image, mask = render_phantom("polyp", 42, number, 90)
        cut = np.s_[: 24 if number == 3 else 90 - number, : 50 + number]
        Image.fromarray(image[cut]).save(root / "images" / f"p{number:02d}.png")
        Image.fromarray(mask[cut][..., 0] * 255).save(root / "masks" / f"p{number:02d}.png")
    (root / "crops.yaml").write_text(RECIPE.format(root=root))
    cli.run(["fit", "-c", str(root / "crops.yaml"), "--runs", str(root / "runs")])
    return root / "runs" / "crops" / "version_0"


def test_the_checkpoint_says_crop_and_no_size(run):
    data = read_checkpoint(find_checkpoint(run))["datamodule_hyper_parameters"]
    assert (data["crop"], data["size"]) == (32, None)


def test_predict_writes_what_test_scored(run):
    checkpoint = str(find_checkpoint(run))
    cli.run(["test", "--ckpt_path", checkpoint, "--measures", "none", "--threshold", "val"])
    [file] = run.glob("test-auto/*/scores.csv")
    table, summary = ScoreTable.read(file), json.loads((file.parent / "summary.json").read_text())
    assert summary["threshold_from"] == "chosen on the validation split"
    assert (summary["size"], summary["images"]) == ("native", len(table.ids))
    out = run / "out"
    place = run.parent.parent.parent / "images"
    options = ["--threshold", "val", "--devices", "cpu"]
    main(["--ckpt_path", checkpoint, "--input", str(place), "--output", str(out), *options])
    predictor = ls.load(checkpoint, threshold="val")
    assert predictor.rule.threshold == summary["threshold"]
    for id, counts in zip(table.ids, table.counts[:, 0], strict=True):
        found = read(out / "masks" / f"{id}.png") > 0
        truth = read(run.parent.parent.parent / "masks" / f"{id}.png") > 0
        both = (found & truth).sum(), (found & ~truth).sum(), (~found & truth).sum()
        assert list(both) == counts[:3].tolist()
        same = predictor.predict(place / f"{id}.png").mask[0]
        np.testing.assert_array_equal(same, found)


def test_training_is_the_same_again_and_validation_in_bands_is_that_of_the_whole(run, capsys):
    """`fit` counts a picture band by band, `validate` as a whole."""
    checkpoint = find_checkpoint(run)
    cli.run(["validate", "--ckpt_path", str(checkpoint), "--measures", "none"])
    [file] = run.glob("val-auto/*/summary.json")
    [label] = json.loads(file.read_text())["scores"].values()
    saved = read_checkpoint(checkpoint)
    assert label["dice"]["pooled"]["value"] == pytest.approx(saved["run"]["value"], abs=1e-6)
    recipe = run.parent.parent.parent / "crops.yaml"
    again = ["--runs", str(recipe.parent / "again"), "--trainer.max_epochs", "3"]
    cli.run(["fit", "-c", str(recipe), *again])
    other = read_checkpoint(find_checkpoint(recipe.parent / "again" / "crops" / "version_0"))
    for name, weight in saved["state_dict"].items():
        assert (weight == other["state_dict"][name]).all(), name


def test_a_network_of_crops_takes_no_size(run):
    with pytest.raises(InputError, match="leave one of them out"):
        cli.run(["test", "--ckpt_path", str(find_checkpoint(run)), "--data.size", "128"])


def test_windows_and_the_whole_picture_agree_within_what_overlap_allows(run):
    """Only pixels near the edges of windows, which weigh little, see less than the whole."""
    predictor = ls.load(find_checkpoint(run))
    image, _ = render_phantom("polyp", 7, 2, 160)
    windows = predictor.predict(image)
    whole = predictor.network(image[None])[0]
    assert 0.02 < (whole > 0.5).mean() < 0.98
    assert np.abs(windows.probability - whole).mean() < 0.02
    both = (windows.mask & (whole > 0.5)).sum()
    assert 2 * both / (windows.mask.sum() + (whole > 0.5).sum()) > 0.97


@pytest.mark.slow
def test_reports_and_sheets_show_crops(run, tmp_path):
    from lightning_seg.__main__ import main as command

    sheet = tmp_path / "sheet.png"
    recipe = run.parent.parent.parent / "crops.yaml"
    command(["data", "show", "-c", str(recipe), "--count", "2", "--output", str(sheet)])
    assert read(sheet).size > 1000
    cli.run(["test", "--ckpt_path", str(find_checkpoint(run)), "--measures", "none"])
    command(["report", str(run), "--output", str(tmp_path / "page.html")])
    assert "prediction" in (tmp_path / "page.html").read_text()
