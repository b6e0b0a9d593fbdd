"""What the masks of a training leave in doubt is said: foreground that its size has no pixel for,
masks that seem inverted, and validation images that train too."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lightning_seg.data import SegmentationDataModule
from lightning_seg.data.mask_shares import mask_share, seems_inverted
from lightning_seg.evaluation import Summary
from lightning_seg.runs.trained_on import repeated_in_validation

SPLITS = {"train": 6, "val": 2, "test": 2}


def marked(side: int, first: int, width: int) -> np.ndarray:
    mask = np.zeros((side, side), np.uint8)
    mask[first : first + width, first : first + width] = 1
    return mask


def write_table(root: Path, masks: list[np.ndarray]) -> Path:
    """Ten pictures with these masks in turn, six of which train."""
    draw = np.random.default_rng(0)
    splits = [split for split, count in SPLITS.items() for _ in range(count)]
    lines = ["id,image,mask,split"]
    for place, split in enumerate(splits):
        mask = masks[place % len(masks)]
        image = draw.integers(0, 255, (*mask.shape, 3), dtype=np.uint8)
        Image.fromarray(image).save(root / f"i{place}.png")
        Image.fromarray(mask * 255).save(root / f"m{place}.png")
        lines.append(f"p{place},i{place}.png,m{place}.png,{split}")
    (root / "t.csv").write_text("\n".join(lines))
    return root / "t.csv"


def opened(table: Path, size: int | None = 16, **options: Any) -> SegmentationDataModule:
    data = SegmentationDataModule("folder", str(table), size=size, augment=[], **options)
    data.setup("fit")
    data.setup("test")
    return data


@pytest.mark.parametrize("mapped", [False, True])
def test_foreground_that_a_size_has_no_pixel_for_is_counted(tmp_path: Path, mapped: bool) -> None:
    # one pixel of 128 is between those that 16 x 16 takes
    table = write_table(tmp_path, [marked(128, 32, 40), marked(128, 1, 1)])
    cache = str(tmp_path / "cache") if mapped else None
    for _ in range(2 if mapped else 1):  # written, and found again
        data = opened(table, cache=cache)
        told = "all foreground in 3 of 6 train masks is lost at 16 x 16 pixels"
        assert data.lost_foreground("train") == told
        assert data.lost_foreground("test").startswith("all foreground in 1 of 2 test masks")
    whole = opened(table, size=128)
    assert not any(map(whole.lost_foreground, SPLITS))


def test_empty_masks_are_not_lost(tmp_path: Path) -> None:
    table = write_table(tmp_path, [marked(64, 8, 40), np.zeros((64, 64), np.uint8)])
    assert not opened(table).lost_foreground("train")


def test_scores_say_that_truth_is_lost() -> None:
    told = list(Summary(lost="all polyp in 3 of 6 test masks is lost at 16 x 16 pixels").cautions())
    assert any(
        "3 of 6 test masks" in text and "predicting nothing scores 1" in text for text in told
    )


@pytest.mark.parametrize(
    ("mask", "inverted"),
    [
        (1 - marked(32, 10, 8), True),
        (1 - marked(32, 2, 25), False),  # a frame that covers under half
        (marked(32, 0, 31), False),  # a large object that leaves some of the rim
        (np.ones((32, 32), np.uint8), False),  # all of it: full, not inverted
        (marked(32, 10, 8), False),
    ],
)
def test_a_class_around_everything_seems_inverted(mask: np.ndarray, inverted: bool) -> None:
    assert seems_inverted([mask_share(mask[..., None])] * 3) == inverted


@pytest.mark.parametrize(
    ("masks", "told"),
    [
        ([1 - marked(32, 10, 8)], "as if the background were marked"),
        (
            [marked(32, 8, 8), np.ones((32, 32), np.uint8)],
            "in 3 of 6 training masks a class covers",
        ),
        ([marked(32, 8, 8)], ""),
    ],
)
def test_training_masks_that_cover_pictures_are_said(
    tmp_path: Path, masks: list[np.ndarray], told: str
) -> None:
    found = opened(write_table(tmp_path, masks), size=None).covering_masks()
    assert told in found
    assert bool(told) == bool(found)


def test_a_validation_image_that_trains_under_another_name_is_said(tmp_path: Path) -> None:
    table = write_table(tmp_path, [marked(32, 8, 8)])
    assert not repeated_in_validation(opened(table))
    shutil.copy(tmp_path / "i2.png", tmp_path / "i7.png")
    told = repeated_in_validation(opened(table))
    assert told == "1 of 2 validation images also in training, pixel for pixel"
