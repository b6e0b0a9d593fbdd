"""What identifies images: their decoded content, whatever their names, and nothing else."""

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from lightning_seg.data.datamodule import SegmentationDataModule
from lightning_seg.data.fingerprint import (
    Content,
    Fingerprint,
    agreement,
    content_of,
    pixels_digest,
    repeated_images,
)
from lightning_seg.data.sources.base import Sample
from lightning_seg.data.store import sized

PICTURES = 12


def write_folder(root: Path, seed: int, names: list[str] | None = None) -> Path:
    """Pictures of 24 x 32 pixels with one rectangle each, and its mask."""
    draw = np.random.default_rng(seed)
    (root / "images").mkdir(parents=True)
    (root / "masks").mkdir()
    for name in names or [f"p{place:02d}" for place in range(PICTURES)]:
        image = draw.integers(0, 255, (24, 32, 3), dtype=np.uint8)
        mask = np.zeros((24, 32), np.uint8)
        top, left = draw.integers(0, 12, 2)
        mask[top : top + 9, left : left + 9] = 255
        cv2.imwrite(str(root / "images" / f"{name}.png"), image)
        cv2.imwrite(str(root / "masks" / f"{name}.png"), mask)
    return root


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "data", 0)


def module(root: Path, size: int = 16, **options: Any) -> SegmentationDataModule:
    return SegmentationDataModule("folder", str(root), size=size, num_workers=0, **options)


def test_a_digest_follows_every_value_the_shape_and_the_type() -> None:
    # some blocks of 1024 words and a rest
    pixels = np.random.default_rng(0).integers(0, 255, (150, 150, 3), dtype=np.uint8)
    digest = pixels_digest(pixels)
    assert (len(digest), digest) == (16, pixels_digest(pixels.copy()))
    for place in [(0, 0, 0), (149, 149, 2), (75, 1, 1)]:
        changed = pixels.copy()
        changed[place] ^= 1
        assert pixels_digest(changed) != digest
    assert pixels_digest(pixels.reshape(75, 300, 3)) != digest
    assert pixels_digest(pixels.view(np.int8)) != digest
    assert pixels_digest(pixels[::-1]) != digest
    assert pixels_digest(np.asfortranarray(pixels)) == digest


def test_rows_that_change_places_change_the_digest() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (64, 4096), dtype=np.uint8)
    assert pixels_digest(pixels) != pixels_digest(np.roll(pixels, 8, axis=0))


def test_a_digest_is_the_same_on_every_machine() -> None:
    pixels = np.arange(40000, dtype=np.uint32).astype(np.uint8).reshape(100, 400)
    assert pixels_digest(pixels) == "ae65d0695cccfb1f"


def test_the_content_of_a_sample_is_of_image_and_truth_apart() -> None:
    image, mask = np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8, 1), np.uint8)
    plain = content_of(Sample(image, mask))
    dotted = mask.copy()
    dotted[7, 7] = 1
    marked = content_of(Sample(image, dotted))
    assert marked.image == plain.image
    assert marked.truth != plain.truth
    region = content_of(Sample(image, mask, np.full((8, 8), 2, np.uint8)))
    assert region.truth not in (plain.truth, marked.truth)


def test_equal_pictures_have_one_digest_under_other_names_and_in_other_folders(
    folder: Path, tmp_path: Path
) -> None:
    here = module(folder).fingerprint("test")
    moved = tmp_path / "moved"
    for part in ("images", "masks"):
        (moved / part).mkdir(parents=True)
        for file in (folder / part).iterdir():
            shutil.copy(file, moved / part / f"q{file.name[1:]}")
    there = module(moved).fingerprint("test")
    assert here.contents.keys() != there.contents.keys()
    assert here.digest == there.digest
    assert here.short != there.short  # another root


def test_the_size_of_the_network_does_not_enter(folder: Path) -> None:
    first, other = module(folder, 16).fingerprint("train"), module(folder, 32).fingerprint("train")
    assert first.contents == other.contents
    assert agreement(first, other).sentence == ""


@pytest.mark.parametrize("part", ["images", "masks"])
def test_a_picture_that_was_changed_under_its_name_is_found(folder: Path, part: str) -> None:
    before = module(folder).fingerprint("train")
    changed = next(iter(before.contents))
    file = folder / part / f"{changed}.png"
    cv2.imwrite(str(file), 255 - cv2.imread(str(file)))
    after = module(folder).fingerprint("train")
    found = agreement(before, after)
    everything = len(before.contents)
    expected = (everything - 1, everything) if part == "images" else (everything, everything - 1)
    assert (found.images, found.truths, found.common) == (*expected, everything)
    assert f"of {everything} images with the same names" in found.sentence
    assert before.digest != after.digest


def test_a_digest_is_computed_once_and_kept_with_the_cache(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Sample] = []
    real = sized.content_of

    def counted(sample: Sample) -> Content:
        calls.append(sample)
        return real(sample)

    monkeypatch.setattr(sized, "content_of", counted)
    first = module(folder, cache=str(tmp_path / "cache"))
    first.setup("fit")
    samples = len(first.ids("train")) + len(first.ids("val"))
    assert len(calls) == samples
    known = first.fingerprint("train"), first.fingerprint("val")
    again = module(folder, cache=str(tmp_path / "cache"))
    assert (again.fingerprint("train"), again.fingerprint("val")) == known
    assert len(calls) == samples


def test_a_cache_from_before_the_digests_is_built_anew(folder: Path, tmp_path: Path) -> None:
    first = module(folder, cache=str(tmp_path / "cache")).fingerprint("train")
    for file in (tmp_path / "cache").glob("*/contents.json"):
        file.unlink()
    assert module(folder, cache=str(tmp_path / "cache")).fingerprint("train") == first


def test_a_fingerprint_survives_json(folder: Path) -> None:
    found = module(folder, dataset_options={"mask_threshold": 100}).fingerprint("val")
    read = Fingerprint.from_json(json.loads(json.dumps(found.to_json())))
    assert read == found
    assert read.short == found.short
    assert read.options == {"mask_threshold": 100}
    assert Fingerprint.from_json({}) is None


def test_pictures_that_stand_twice_are_counted() -> None:
    contents = [Content("a", "1"), Content("a", "2"), Content("b", "1")]
    assert repeated_images(contents) == 1
