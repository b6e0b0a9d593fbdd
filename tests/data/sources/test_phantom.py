import csv
import inspect
import re
import time
from collections import Counter, defaultdict
from pathlib import Path

import cv2
import numpy as np
import pytest

from lightning_seg.data.sources import phantom
from lightning_seg.data.sources.phantom import render_phantom
from lightning_seg.data.sources.phantom_ct import PhantomCT
from lightning_seg.data.sources.phantom_polyp import PhantomPolyp
from lightning_seg.data.splits import PROTOCOLS
from lightning_seg.errors import InputError


@pytest.fixture(scope="module")
def polyps() -> tuple[np.ndarray, np.ndarray]:
    """The 400 images (N, H, W, 3) and masks (N, H, W) of the default data set, small."""
    images, masks = zip(
        *(render_phantom("polyp", 0, index, 64) for index in range(400)), strict=True
    )
    return np.stack(images), np.stack(masks)[..., 0]


@pytest.fixture(scope="module")
def slices() -> tuple[np.ndarray, np.ndarray]:
    """100 patients' slices: images (N, H, W, 1) and masks (N, H, W, 2)."""
    images, masks = zip(*(render_phantom("ct", 0, index, 64) for index in range(400)), strict=True)
    return np.stack(images), np.stack(masks)


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * float((a & b).sum()) / float(a.sum() + b.sum())


@pytest.mark.parametrize(("kind", "channels", "classes"), [("polyp", 3, 1), ("ct", 1, 2)])
@pytest.mark.parametrize("size", [16, 65, 128])
def test_images_and_masks_have_the_promised_shape_type_and_values(
    kind: str, channels: int, classes: int, size: int
) -> None:
    image, mask = render_phantom(kind, 0, 5, size)
    assert (image.shape, image.dtype) == ((size, size, channels), np.uint8)
    assert (mask.shape, mask.dtype) == ((size, size, classes), np.uint8)
    assert set(np.unique(mask)) <= {0, 1}
    assert np.ptp(image) > 100


@pytest.mark.parametrize("kind", ["polyp", "ct"])
def test_the_same_seed_and_index_give_the_same_pixels_whatever_ran_before_and_with_any_number_of_threads(
    kind: str,
) -> None:
    first = render_phantom(kind, 3, 9, 128)
    threads = cv2.getNumThreads()
    try:
        cv2.setNumThreads(1)
        np.random.seed(0)
        render_phantom(kind, 3, 8, 128)
        again = render_phantom(kind, 3, 9, 128)
    finally:
        cv2.setNumThreads(threads)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))


@pytest.mark.parametrize("kind", ["polyp", "ct"])
def test_another_seed_or_index_gives_another_scene(kind: str) -> None:
    masks = [
        render_phantom(kind, seed, index, 64)[1]
        for seed, index in [(0, 1), (1, 0), (1, 1), (0, 4), (2, 8)]
    ]
    assert all(not np.array_equal(a, b) for i, a in enumerate(masks) for b in masks[:i])


@pytest.mark.parametrize("kind", ["polyp", "ct"])
def test_every_size_shows_the_same_scene(kind: str) -> None:
    for index in range(6):
        (large, large_mask), (small, small_mask) = (
            render_phantom(kind, 0, index, 256),
            render_phantom(kind, 0, index, 128),
        )
        # the sensor noise differs, the scene does not: compare after averaging the noise away
        coarse = [
            cv2.resize(image, (16, 16), interpolation=cv2.INTER_AREA).astype(float)
            for image in (large, small)
        ]
        assert np.abs(coarse[0] - coarse[1]).mean() < 3
        shrunk = cv2.resize(large_mask[..., 0], (128, 128), interpolation=cv2.INTER_AREA)
        if small_mask[..., 0].any():
            assert dice(shrunk, small_mask[..., 0]) > 0.95


@pytest.mark.parametrize(
    ("kind", "index", "mean", "shares"),
    [("polyp", 2, [166.03, 89.76, 69.96], [0.1944]), ("ct", 2, [59.35], [0.1296, 0.027])],
)
def test_the_pictures_stay_those_of_version_1(
    kind: str, index: int, mean: list[float], shares: list[float]
) -> None:
    """Changing the drawing moves every score on the phantom: it needs a new protocol version and a changelog line."""
    image, mask = render_phantom(kind, 0, index, 128)
    assert image.mean(axis=(0, 1)) == pytest.approx(mean, abs=0.5)
    assert mask.mean(axis=(0, 1)) == pytest.approx(shares, abs=0.001)


def test_polyps_cover_the_promised_shares_of_the_frame(
    polyps: tuple[np.ndarray, np.ndarray],
) -> None:
    share = polyps[1].mean(axis=(1, 2))
    low, middle, high = np.quantile(share[share > 0], [0.05, 0.5, 0.95])
    assert 0.13 < share.mean() < 0.16
    assert 0.05 < (share == 0).mean() < 0.12
    assert share.max() < 0.42
    assert low < 0.05
    assert 0.1 < middle < 0.2
    assert high > 0.27


def test_frames_hold_up_to_three_polyps_and_some_are_cut_by_the_border(
    polyps: tuple[np.ndarray, np.ndarray],
) -> None:
    counts = Counter(cv2.connectedComponents(mask)[0] - 1 for mask in polyps[1])
    assert set(counts) == {0, 1, 2, 3}
    assert counts[1] > 200
    edge = np.concatenate(
        [polyps[1][:, [0, -1]].max(axis=(1, 2)), polyps[1][:, :, [0, -1]].max(axis=(1, 2))]
    )
    assert 20 < edge.sum() < 300


def test_the_corners_are_black_and_carry_no_mask(polyps: tuple[np.ndarray, np.ndarray]) -> None:
    images, masks = polyps
    assert images[:, :3, :3].mean() < 5
    assert images[:, -3:, -3:].mean() < 5
    assert not masks[:, [0, 0, -1, -1], [0, -1, 0, -1]].any()


def test_highlights_lie_on_polyps_and_on_the_wall_alike(
    polyps: tuple[np.ndarray, np.ndarray],
) -> None:
    images, masks = polyps
    white = images.min(axis=-1) > 225
    seen = images.max(axis=-1) > 25
    on_polyp, on_wall = white[masks > 0].mean(), white[seen & (masks == 0)].mean()
    assert on_polyp > 0.002
    assert on_wall > 0.002
    assert 0.25 < on_polyp / on_wall < 4


def best_threshold_dice(channel: np.ndarray, masks: np.ndarray) -> float:
    """The best per-image mean Dice of ``value <= t`` or ``value > t`` over all t; channel and masks (N, H, W)."""
    inside = np.stack(
        [np.bincount(c[m > 0], minlength=256) for c, m in zip(channel, masks, strict=True)]
    )
    every = np.stack([np.bincount(c.ravel(), minlength=256) for c in channel])
    size = masks.sum(axis=(1, 2))[:, None]
    scores = []
    for order in (slice(None), slice(None, None, -1)):
        hits, found = inside[:, order].cumsum(axis=1), every[:, order].cumsum(axis=1)
        total = found + size
        scores.append(np.where(total > 0, 2 * hits / np.maximum(total, 1), 1).mean(axis=0).max())
    return float(max(scores))


def test_the_threshold_search_finds_a_perfect_threshold_where_there_is_one() -> None:
    masks = np.random.default_rng(0).integers(0, 2, (3, 8, 8))
    assert best_threshold_dice(np.where(masks > 0, 90, 91), masks) == 1
    assert best_threshold_dice(np.where(masks > 0, 91, 90), masks) == 1


def test_no_threshold_on_a_colour_channel_segments_the_polyps(
    polyps: tuple[np.ndarray, np.ndarray],
) -> None:
    images, masks = polyps
    hsv = np.stack([cv2.cvtColor(image, cv2.COLOR_RGB2HSV) for image in images])
    channels = np.concatenate([images, hsv], axis=-1)
    assert max(best_threshold_dice(channels[..., c], masks) for c in range(6)) < 0.6


def test_tumours_lie_inside_the_liver_and_some_slices_have_none(
    slices: tuple[np.ndarray, np.ndarray],
) -> None:
    liver, tumor = slices[1][..., 0], slices[1][..., 1]
    assert not (tumor > liver).any()
    assert 0.08 < liver.mean() < 0.16
    assert 0.1 < (tumor.max(axis=(1, 2)) == 0).mean() < 0.4
    assert max(cv2.connectedComponents(mask)[0] - 1 for mask in tumor) >= 3


def test_the_liver_lies_on_the_left_of_the_image_and_the_air_is_black(
    slices: tuple[np.ndarray, np.ndarray],
) -> None:
    images, masks = slices
    assert masks[..., :32, 0].sum() > 2 * masks[..., 32:, 0].sum()
    assert images[:, :3].mean() < 8


def test_no_grey_threshold_segments_the_liver_or_its_tumours(
    slices: tuple[np.ndarray, np.ndarray],
) -> None:
    images, masks = slices
    assert best_threshold_dice(images[..., 0], masks[..., 0]) < 0.75
    assert best_threshold_dice(images[..., 0], masks[..., 1]) < 0.4


def test_the_slices_of_a_patient_differ_but_share_the_anatomy(
    slices: tuple[np.ndarray, np.ndarray],
) -> None:
    liver = slices[1][..., 0]
    within = [dice(liver[i], liver[i + 1]) for i in range(0, 400, 4)]
    between = [dice(liver[i], liver[(i + 4) % 400]) for i in range(0, 400, 4)]
    assert max(within) < 1
    assert np.mean(within) > np.mean(between) + 0.03


@pytest.mark.parametrize("kind", ["polyp", "ct"])
def test_a_frame_takes_milliseconds(kind: str) -> None:
    """About 5 ms of one core at 128 pixels when written: the bound has room for slow machines, not for pixel loops."""
    seconds = []
    for index in range(5):
        start = time.process_time()
        render_phantom(kind, 0, index, 128)
        seconds.append(time.process_time() - start)
    assert min(seconds) < 0.04


@pytest.mark.parametrize(
    ("source_class", "classes"), [(PhantomPolyp, ("polyp",)), (PhantomCT, ("liver", "tumor"))]
)
def test_a_source_reads_what_render_draws(
    source_class: type[PhantomPolyp] | type[PhantomCT], classes: tuple[str, ...]
) -> None:
    source = source_class(Path("no/such/folder"), count=12, seed=4, resolution=48)
    sample = source.read(source.ids[7])
    image, mask = render_phantom(source.kind, 4, 7, 48)
    assert np.array_equal(sample.image, image)
    assert np.array_equal(sample.mask, mask)
    assert source_class.classes == classes
    assert (sample.image.shape[2], sample.mask.shape[2]) == (source_class.in_channels, len(classes))
    assert source.ids == sorted(source.ids)
    assert len(source.ids) == 12


def test_polyp_frames_are_independent_and_four_slices_make_a_patient() -> None:
    polyp, ct = PhantomPolyp(count=8), PhantomCT(count=8)
    assert polyp.ids[:2] == ["polyp-0000", "polyp-0001"]
    assert polyp.groups == {name: name for name in polyp.ids}
    assert [ct.groups[name] for name in ct.ids] == ["patient-00"] * 4 + ["patient-01"] * 4


@pytest.mark.parametrize("source_class", [PhantomPolyp, PhantomCT])
def test_the_default_protocol_names_every_image_once_and_splits_no_group(
    source_class: type[PhantomPolyp] | type[PhantomCT],
) -> None:
    source = source_class()
    lines = (PROTOCOLS / f"{source.default_protocol}.csv").read_text(encoding="utf-8").splitlines()
    comments = [line for line in lines if line.startswith("#")]
    assert comments[:2] == [f"# name: {source.default_protocol}", "# version: 1"]
    assert comments[2].startswith("# rule: ")
    rows = list(csv.DictReader(line for line in lines if not line.startswith("#")))
    assert sorted(row["id"] for row in rows) == source.ids
    assert Counter(row["split"] for row in rows) == {"train": 280, "val": 60, "test": 60}
    splits = defaultdict(set)
    for row in rows:
        splits[source.groups[row["id"]]].add(row["split"])
    assert all(len(names) == 1 for names in splits.values())


def test_bad_arguments_are_refused_with_a_sentence() -> None:
    with pytest.raises(InputError, match=r"no phantom kind named 'polip'; did you mean 'polyp'\?"):
        render_phantom("polip", 0, 0)
    with pytest.raises(InputError, match="seed -1 is too small"):
        render_phantom("ct", -1, 0)
    with pytest.raises(InputError, match="size 8 is too small for a phantom: give 16 or more"):
        render_phantom("ct", 0, 0, 8)
    with pytest.raises(InputError, match="count 0"):
        PhantomPolyp(count=0)
    with pytest.raises(InputError, match="resolution 2"):
        PhantomCT(resolution=2)
    with pytest.raises(InputError, match=r"'polyp-0400'; there are polyp-0000 to polyp-0399"):
        PhantomPolyp().read("polyp-0400")


def test_the_documentation_says_that_the_images_are_synthetic_and_not_clinical() -> None:
    text = re.sub(r"\s+", " ", inspect.getdoc(phantom) or "")
    assert "synthetic" in text
    assert "says nothing about clinical performance" in text
