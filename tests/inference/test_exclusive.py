"""Exclusive classes: a pixel is of one class at most, in scores, masks, label maps and exports."""

import json

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image

import lightning_seg as ls
from lightning_seg import cli
from lightning_seg.data.sources.phantom import render_phantom
from lightning_seg.errors import InputError
from lightning_seg.evaluation import ScoreTable
from lightning_seg.evaluation.cut import Cut
from lightning_seg.inference.__main__ import main
from lightning_seg.inference.mask_rule import MaskRule
from lightning_seg.runs import find_checkpoint
from tests.inference.conftest import read, write_checkpoint

CLASSES = ("cortex", "medulla", "pelvis")


def probabilities(shape=(40, 30), seed=0):
    logits = np.random.default_rng(seed).normal(0, 2, (4, *shape)).astype(np.float32)
    powers = np.exp(logits)
    return (powers / powers.sum(0))[1:], logits.argmax(0)


def test_the_most_probable_class_is_cut_background_included():
    maps, labels = probabilities()
    expected = np.stack([labels == number for number in (1, 2, 3)])
    np.testing.assert_array_equal(Cut(exclusive=True)(maps), expected)
    batch = torch.from_numpy(np.stack([maps, maps]))
    assert (Cut(exclusive=True)(batch, 1).numpy() == expected).all()


@pytest.mark.parametrize("steps", ["fill_holes", "keep_largest", "min_area=20,fill_holes"])
def test_postprocessed_masks_do_not_overlap_and_refined_maps_give_them(steps):
    maps, _ = probabilities((60, 60), 1)
    smooth = np.stack([np.pad(one, 2, mode="edge")[2:-2, 2:-2] for one in maps])
    rule = MaskRule(CLASSES, postprocess=steps, exclusive=True)
    masks = rule.masks(smooth)
    assert masks.sum(0).max() == 1
    refined = rule.refined(smooth)
    np.testing.assert_array_equal(Cut(exclusive=True)(refined), masks)
    np.testing.assert_array_equal(refined > 0.5, masks)


def test_a_hole_that_holds_another_class_stays_its():
    before = np.zeros((2, 9, 9), bool)
    before[0, 1:8, 1:8] = True
    before[0, 3:6, 3:6] = False
    before[1, 4, 4] = True
    found = MaskRule(("a", "b"), postprocess="fill_holes", exclusive=True).finished(before)
    assert found[1].sum() == 1
    assert found[0].sum() == 48


def test_a_threshold_of_exclusive_classes_is_refused():
    with pytest.raises(InputError, match="leave the threshold out"):
        MaskRule(CLASSES, threshold=0.3, exclusive=True)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A network of three tissues, trained for seconds."""
    place = tmp_path_factory.mktemp("exclusive")
    rows = [
        f"kidney-{i:04d},{'train' if i < 16 else 'val' if i < 20 else 'test'}" for i in range(24)
    ]
    head = "# name: tiny\n# version: 1\n# rule: the first 24\nid,split\n"
    (place / "tiny.csv").write_text(head + "\n".join(rows) + "\n")
    (place / "kidney.yaml").write_text(
        f"""
classes: exclusive
trainer: {{accelerator: cpu, enable_progress_bar: false, max_epochs: 8, precision: 32-true}}
data: {{dataset: phantom_kidney, protocol: {place}/tiny.csv, size: 32, batch_size: 4, augment: none, num_workers: 0}}
model: {{architecture: unet, options: {{widths: [8, 16]}}, lr: 0.02, warmup: 0}}
"""
    )
    cli.run(["fit", "-c", str(place / "kidney.yaml"), "--runs", str(place / "runs")])
    return place / "runs" / "kidney" / "version_0"


def test_scores_masks_and_label_maps_agree(run, tmp_path):
    checkpoint = str(find_checkpoint(run))
    cli.run(["test", "--ckpt_path", checkpoint, "--measures", "boundary"])
    [file] = run.glob("test-tiny/*/scores.csv")
    table = ScoreTable.read(file)
    where = ["--output", str(tmp_path), "--devices", "cpu"]
    main(["--ckpt_path", checkpoint, "--masks_at", "network", *where])
    assert json.loads((tmp_path / "labels.json").read_text())["2"] == "medulla"
    seen = set()
    for row, id in enumerate(table.ids):
        labels = read(tmp_path / "labels" / f"{id}.png")
        for k, name in enumerate(CLASSES):
            mask = read(tmp_path / "masks" / f"{id}_{name}.png") > 0
            np.testing.assert_array_equal(labels == k + 1, mask)
            tp, fp, _, _ = table.counts[row, k]
            assert mask.sum() == tp + fp
        seen |= set(np.unique(labels).tolist())
    assert len(seen) > 1


def test_a_checkpoint_of_exclusive_classes_stays_so(run):
    checkpoint = str(find_checkpoint(run))
    with pytest.raises(InputError, match="contradicts"):
        cli.run(["test", "--ckpt_path", checkpoint, "--classes", "independent"])
    with pytest.raises(InputError, match="leave the threshold out"):
        cli.run(["test", "--ckpt_path", checkpoint, "--threshold", "0.4"])
    with pytest.raises(InputError, match="holds no threshold"):
        cli.run(["test", "--ckpt_path", checkpoint, "--threshold", "val"])
    picture = render_phantom("kidney", 3, 1, 50)[0]
    found = ls.load(checkpoint).predict(picture[..., 0])
    assert found.mask.sum(0).max() <= 1
    np.testing.assert_array_equal(found.labels > 0, found.mask.any(0))


def test_classes_that_overlap_are_refused_before_training(tmp_path):
    options = ["--data.dataset", "phantom_ct", "--data.size", "32", "--trainer.max_epochs", "1"]
    options += ["--data.protocol", "auto", "--data.dataset_options.count", "40"]
    options += ["--data.allow_absent_classes", "true", "--data.num_workers", "0"]
    options += ["--model.architecture", "unet"]
    with pytest.raises(InputError, match=r"overlap, but the classes of this training are excl"):
        cli.run(["fit", "--classes", "exclusive", "--runs", str(tmp_path), *options])


def test_a_volume_gets_a_label_map(tmp_path):
    given = {"dataset": "lits", "in_channels": 1, "classes": ["liver", "tumor"]}
    file = write_checkpoint(tmp_path / "ct.ckpt", exclusive=True, **given)
    hu = np.random.default_rng(0).normal(0, 150, (24, 20, 5)).astype(np.int16)
    hu[0, 0], hu[1, 1] = -1000, 900
    nibabel.save(nibabel.Nifti1Image(hu, np.diag([-1, -1, 2, 1])), tmp_path / "scan.nii.gz")
    out = tmp_path / "out"
    main(["--ckpt_path", str(file), "--input", str(tmp_path / "scan.nii.gz"), "--output", str(out)])
    labels = np.asarray(nibabel.load(out / "labels" / "scan.nii.gz").dataobj)
    assert {1, 2} <= set(np.unique(labels).tolist()) <= {0, 1, 2}
    for number, name in enumerate(("liver", "tumor"), start=1):
        mask = np.asarray(nibabel.load(out / "masks" / f"scan_{name}.nii.gz").dataobj) > 0
        np.testing.assert_array_equal(labels == number, mask)


@pytest.mark.slow
def test_exported_graphs_have_the_masks_of_predict(tmp_path):
    pytest.importorskip("onnxruntime")
    from lightning_seg.export.onnx import OnnxOptions, export_onnx, runner

    file = write_checkpoint(tmp_path / "k.ckpt", classes=["a", "b"], exclusive=True)
    folder = tmp_path / "pictures"
    folder.mkdir()
    picture = render_phantom("polyp", 3, 0, 64)[0]
    Image.fromarray(picture).save(folder / "p.png")
    options = OnnxOptions(processing=True, images=str(folder))
    export_onnx(file, tmp_path / "masks.onnx", options)
    masks, _ = runner(tmp_path / "masks.onnx")(picture[None])
    expected = ls.load(file).predict(picture).mask
    assert masks[0].sum(0).max() == 1
    assert (masks[0] != expected).mean() < 2e-3
