"""Scores of whole scans: slices in any order, on any number of processes, in mm and ml."""

import csv
import json
import multiprocessing
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import scipy.ndimage
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from benchmarks.volumes import write_scan
from lightning_seg import cli
from lightning_seg.callbacks.volume_scores import Volumes
from lightning_seg.data import SegmentationDataModule
from lightning_seg.evaluation import ScoreTable
from lightning_seg.evaluation.volumes import VolumeRow, summarize_volumes
from lightning_seg.inference.__main__ import main as predict
from lightning_seg.inference.pictures import GAP, TITLE
from lightning_seg.training.module import SegmentationModule

SCANS = {"a": 5, "b": 3, "c": 4}
IDS = {
    scan: tuple(f"{scan}/{index:04d}" for index in range(count)) for scan, count in SCANS.items()
}
SPACING = {"a": (5.0, 0.7, 0.8), "b": (1.0, 1.0, 1.0), "c": (2.5, 0.9, 0.9)}


def drawn() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """id -> prediction and truth, (2 classes, 12, 10); scan b holds no second class, and none is predicted."""
    rng, found = np.random.default_rng(0), {}
    for scan, ids in IDS.items():
        for id in ids:
            truth = scipy.ndimage.gaussian_filter(rng.random((2, 12, 10)), (0, 2, 2)) > 0.5
            prediction = truth ^ (rng.random(truth.shape) < 0.05)
            if scan == "b":
                truth[1] = prediction[1] = False
            found[id] = prediction, truth
    return found


def volumes() -> Volumes:
    return Volumes(IDS, ("liver", "tumor"), SPACING.__getitem__)


def in_order(slices: dict[str, Any]) -> dict[str, list[VolumeRow]]:
    whole = volumes()
    for id, pair in slices.items():
        whole.add(id, *pair)
    return whole.rows


def test_scores_are_those_of_the_stacked_slices_in_mm_and_ml() -> None:
    slices = drawn()
    rows = in_order(slices)
    for scan, ids in IDS.items():
        for k, row in enumerate(rows[scan]):
            prediction, truth = (np.stack([slices[id][part][k] for id in ids]) for part in (0, 1))
            if not truth.any():
                assert (row.dice, row.iou, row.hd95_mm, row.nsd_2mm, row.truth_ml) == (
                    1,
                    1,
                    0,
                    1,
                    0,
                )
                continue
            both, any_ = (prediction & truth).sum(), (prediction | truth).sum()
            assert row.dice == pytest.approx(2 * both / (prediction.sum() + truth.sum()))
            assert row.iou == pytest.approx(both / any_)
            ml = np.prod(SPACING[scan]) / 1000
            assert (row.truth_ml, row.predicted_ml) == pytest.approx(
                (truth.sum() * ml, prediction.sum() * ml)
            )
            there, back = (
                distances(prediction, truth, SPACING[scan]),
                distances(truth, prediction, SPACING[scan]),
            )
            assert row.hd95_mm == pytest.approx(
                max(np.percentile(there, 95), np.percentile(back, 95))
            )
            assert row.nsd_2mm == pytest.approx((np.concatenate([there, back]) <= 2).mean())


def distances(one: np.ndarray, other: np.ndarray, spacing: tuple[float, ...]) -> np.ndarray:
    """From the surface of one mask to that of the other, by a distance transform."""

    def surface(mask: np.ndarray) -> np.ndarray:
        return mask & ~scipy.ndimage.binary_erosion(mask)

    return scipy.ndimage.distance_transform_edt(~surface(other), sampling=spacing)[surface(one)]


@given(order=st.permutations([id for ids in IDS.values() for id in ids]), again=st.integers(0, 5))
@settings(max_examples=15, deadline=None)
def test_neither_order_nor_repetition_matters_and_whole_scans_are_dropped(
    order: list[str], again: int
) -> None:
    slices, whole = drawn(), volumes()
    for id in [*order, *order[:again]]:
        whole.add(id, *slices[id])
    assert whole.rows == in_order(slices)
    assert not whole.incomplete
    assert not whole._kept
    assert not whole._shapes


def test_a_scan_that_lacks_slices_is_told_and_not_scored() -> None:
    slices = drawn()
    del slices["a/0002"]
    whole = volumes()
    for id, pair in slices.items():
        whole.add(id, *pair)
    whole.gather()
    assert whole.incomplete == ["a"]
    assert set(whole.rows) == {"b", "c"}


def _process(place: tuple[int, int, str]) -> tuple[dict[str, list[VolumeRow]], list[str]]:
    rank, world, file = place
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{file}", rank=rank, world_size=world
    )
    whole, slices = volumes(), drawn()
    for id in [id for ids in IDS.values() for id in ids][rank::world]:
        whole.add(id, *slices[id])
    if rank == 0:
        whole.add("a/0001", *slices["a/0001"])  # as where a sampler fills the last batch
    whole.gather()
    torch.distributed.destroy_process_group()
    return whole.rows, whole.incomplete


@pytest.mark.parametrize("world", [2, 3])
def test_processes_that_share_scans_agree_with_one_that_has_all(tmp_path: Path, world: int) -> None:
    with multiprocessing.get_context("fork").Pool(world) as pool:
        found = pool.map(
            _process, [(rank, world, str(tmp_path / "meet")) for rank in range(world)], chunksize=1
        )
    for rows, incomplete in found:
        assert rows == in_order(drawn())
        assert incomplete == []


def test_each_scan_counts_alike_in_the_mean() -> None:
    rows = [row for pair in in_order(drawn()).values() for row in pair]
    found = summarize_volumes(rows).scores
    assert list(found) == ["liver", "tumor"]
    dice = [row.dice for row in rows if row.label == "liver"]
    assert found["liver"]["dice"].value == pytest.approx(np.mean(dice))
    assert np.isnan(found["liver"]["dice"].interval).all()  # of three scans
    more = [row._replace(scan=f"{row.scan} {copy}") for row in rows for copy in range(2)]
    low, high = summarize_volumes(more).scores["liver"]["dice"].interval
    assert min(dice) <= low <= np.mean(dice) <= high <= max(dice)


@pytest.fixture(scope="module")
def tested(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Callable[..., Any]]:
    """A run on five generated scans, trained for one epoch and tested; and how to score it again."""
    folder = tmp_path_factory.mktemp("lits")
    for number in range(5):
        write_scan(folder / "LiTS", number, (4 + number, 20, 24), spacing=(5.0, 0.8, 0.8))
    data = [
        "--data.dataset",
        "lits",
        "--data.root",
        folder / "LiTS",
        "--data.protocol",
        "fold-1-of-3",
    ]
    data += [
        "--data.size",
        16,
        "--data.batch_size",
        3,
        "--data.cache",
        folder / "cache",
        "--data.num_workers",
        0,
    ]
    data += [
        "--data.dataset_options",
        '{"in_channels": 3, "slices": "organ"}',
        "--data.augment",
        "none",
    ]
    model = [
        "--model.architecture",
        "unet",
        "--model.options",
        '{"widths": [4, 8]}',
        "--model.lr",
        0.02,
    ]
    trainer = [
        "--trainer.accelerator",
        "cpu",
        "--trainer.max_epochs",
        2,
        "--trainer.enable_progress_bar",
        "false",
    ]

    def call(*args: object) -> None:
        args = (*args, "--runs", folder / "runs")
        cli.run([str(arg) for arg in args])

    call("fit", *data, *model, *trainer, "--name", "scans")
    run = folder / "runs" / "scans" / "version_0"

    def score(*args: object) -> tuple[list[dict[str, str]], dict[str, Any], Path]:
        best = [] if "--ckpt_path" in args else ["--ckpt_path", next(run.glob("checkpoints/best*"))]
        call(*args, *best)
        place = max(run.glob("*/*/volumes.csv"), key=lambda path: path.stat().st_mtime_ns).parent
        with (place / "volumes.csv").open() as file:
            return (
                list(csv.DictReader(file)),
                json.loads((place / "summary.json").read_text(encoding="utf-8")),
                place,
            )

    return run, score


def test_test_writes_a_row_for_each_scan_and_class(tested: tuple[Path, Callable[..., Any]]) -> None:
    rows, summary, place = tested[1]("test")
    table = ScoreTable.read(place / "scores.csv")
    counts: dict[tuple[str, str], np.ndarray] = defaultdict(lambda: np.zeros(4, int))
    for id, group, per_class in zip(table.ids, table.groups, table.counts, strict=True):
        assert id.startswith(f"{group}/")
        for name, values in zip(table.classes, per_class, strict=True):
            counts[group, name] += values
    assert {(row["scan"], row["class"]) for row in rows} == set(counts)
    for row in rows:
        tp, fp, fn, _ = counts[row["scan"], row["class"]]
        assert (int(row["tp"]), int(row["fp"]), int(row["fn"])) == (tp, fp, fn)
        spacing = (5.0, 0.8 * 20 / 16, 0.8 * 24 / 16)  # mm of a voxel at the network's size
        assert float(row["truth_ml"]) == pytest.approx((tp + fn) * np.prod(spacing) / 1000)
    liver = [float(row["dice"]) for row in rows if row["class"] == "liver"]
    assert summary["volumes"]["scores"]["liver"]["dice"]["value"] == pytest.approx(np.mean(liver))
    assert (summary["volumes"]["scans"], summary["volumes"]["incomplete"]) == (len(liver), [])
    assert summary["scores"]["liver"]["dice"]["volume"]["value"] == pytest.approx(np.mean(liver))


def test_a_part_of_the_scans_leaves_the_scores_of_all_as_they_are(
    tested: tuple[Path, Callable[..., Any]],
) -> None:
    _, whole, place = tested[1]("test")
    before = (place / "volumes.csv").read_bytes()
    rows, part, apart = tested[1]("test", "--trainer.limit_test_batches", 2)
    assert apart.parent.name == f"partial-{place.parent.name}"
    assert len(rows) < len(list(csv.DictReader(before.decode().splitlines())))
    assert part["partial"].startswith("6 of ")
    assert part["volumes"]["incomplete"]
    assert (place / "volumes.csv").read_bytes() == before
    assert json.loads((place / "summary.json").read_text(encoding="utf-8")) == whole


def test_native_scores_use_the_spacing_of_the_scan(tested: tuple[Path, Callable[..., Any]]) -> None:
    rows, _, place = tested[1]("validate", "--score_at", "native")
    assert place.name.endswith("-native")
    for row in rows:
        voxels = int(row["tp"]) + int(row["fn"])
        assert float(row["truth_ml"]) == pytest.approx(voxels * 5 * 0.8 * 0.8 / 1000)


def test_hd95_is_that_of_the_networks_masks(tested: tuple[Path, Callable[..., Any]]) -> None:
    run, score = tested
    rows, _, _ = score("test")
    checkpoint = next(run.glob("checkpoints/best*.ckpt"))
    module = SegmentationModule.load(checkpoint)
    saved = torch.load(checkpoint, weights_only=True)["datamodule_hyper_parameters"]
    data = SegmentationDataModule(
        **{key: value for key, value in saved.items() if not key.startswith("_")}
    )
    data.setup("test")
    masks: dict[str, list[tuple[np.ndarray, np.ndarray]]] = defaultdict(list)
    with torch.inference_mode():
        for batch in data.test_dataloader():
            found = module(batch["image"]).logits > 0
            for id, one, truth in zip(
                batch["id"], found.numpy(), batch["mask"].numpy() > 0, strict=True
            ):
                masks[id.split("/")[0]].append((one[0], truth[0]))
    spacing = (5.0, 0.8 * 20 / 16, 0.8 * 24 / 16)
    for row in rows:
        prediction, truth = map(np.stack, zip(*masks[row["scan"]], strict=True))
        if row["class"] == "liver" and prediction.any():
            there, back = (
                distances(prediction, truth, spacing),
                distances(truth, prediction, spacing),
            )
            expected = max(np.percentile(there, 95), np.percentile(back, 95))
            assert float(row["hd95_mm"]) == pytest.approx(expected)


def dice_of(mask: np.ndarray, truth: np.ndarray) -> float:
    """1 for two empty masks."""
    both = int(mask.sum()) + int(truth.sum())
    return 2 * int((mask & truth).sum()) / both if both else 1.0


def scattered(checkpoint: Path) -> Path:
    """A checkpoint beside it whose masks have many parts."""
    content = torch.load(checkpoint, weights_only=True)
    module = SegmentationModule.load(checkpoint)
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in module.parameters():
            weight.copy_(torch.randn_like(weight))
        head = [layer for layer in module.net.modules() if isinstance(layer, torch.nn.Conv2d)][-1]
        assert head.bias is not None
        head.bias -= module(torch.rand(4, 3, 16, 16)).logits.mean((0, 2, 3))
    file = checkpoint.with_name("wild.ckpt")
    torch.save(content | {"state_dict": module.state_dict()}, file)
    return file


def test_post_processing_of_scans_is_that_of_predict(
    tested: tuple[Path, Callable[..., Any]], tmp_path: Path
) -> None:
    """The largest part of a volume, not of each slice: in test, in predict of the split, in predict of the files."""
    run, score = tested
    wild = scattered(next(run.glob("checkpoints/best*.ckpt")))
    steps = ["--postprocess", "keep_largest"]
    rows, _, _ = score("test", "--ckpt_path", wild, "--score_at", "native", *steps)
    best = ["--ckpt_path", str(wild), "--devices", "cpu"]
    predict([*best, "--output", str(tmp_path / "split"), *steps])
    predict([*best, "--output", str(tmp_path / "plain")])
    sheet = np.asarray(Image.open(tmp_path / "plain" / "contact_sheet.png"))
    image = sheet[TITLE : TITLE + 16, GAP : GAP + 16]
    assert np.ptp(image, axis=2).max() == 0 < np.ptp(image)  # the middle slice, in grey
    lits = run.parents[2] / "LiTS"
    files = [*best, "--input", str(lits / "volume-*.nii*"), "--output", str(tmp_path / "files")]
    predict([*files, *steps])
    several = 0
    for row in rows:
        scan, name = row["scan"], row["class"]
        number = scan.rpartition("-")[2]
        [file] = (tmp_path / "files" / "masks").glob(f"{scan}_{name}.nii.gz")
        [segmentation] = lits.rglob(f"segmentation-{number}.nii*")
        labels = np.asarray(nibabel.load(segmentation).dataobj)
        truth = labels == 2 if name == "tumor" else labels > 0
        mask = np.asarray(nibabel.load(file).dataobj) > 0
        assert float(row["dice"]) == pytest.approx(dice_of(mask, truth), abs=1e-9)
        slices = sorted((tmp_path / "split" / "masks" / scan).glob(f"*_{name}.png"))
        volume = np.stack([np.asarray(Image.open(path)) > 0 for path in slices])
        assert volume.sum() == mask.sum()
        names = [path.name for path in slices]
        plain = [np.asarray(Image.open(tmp_path / "plain/masks" / scan / one)) for one in names]
        parts, count = ndimage.label(np.stack(plain) > 0, np.ones((3, 3, 3)))
        largest = np.bincount(parts.ravel())[1:].max(initial=0)
        assert volume.sum() == largest
        several += count > 1
    assert several


def test_data_of_single_images_have_no_volumes(
    tested: tuple[Path, Callable[..., Any]], tmp_path: Path
) -> None:
    polyps = ["--data.dataset", "phantom_polyp", "--data.protocol", "auto", "--data.size", "16"]
    options = [
        "--data.dataset_options",
        '{"count": 12, "resolution": 16}',
        "--data.batch_size",
        "4",
    ]
    model = ["--model.architecture", "unet", "--model.options", '{"widths": [4, 8]}']
    trainer = ["--trainer.accelerator", "cpu", "--trainer.max_epochs", "1", "--runs", str(tmp_path)]
    cli.run(["fit", *polyps, *options, *model, *trainer])
    best = next(tmp_path.rglob("best*.ckpt"))
    cli.run(["test", "--ckpt_path", str(best)])
    assert not list(tmp_path.rglob("volumes.csv"))
