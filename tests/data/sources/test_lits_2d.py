"""LiTS slices as JPEG files, by scan."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lightning_seg.data import SegmentationDataModule, load_protocol
from lightning_seg.data.sources import lits_2d
from lightning_seg.data.sources.lits_2d import LiTS2D
from lightning_seg.data.splits import PROTOCOLS, SPLITS, check
from lightning_seg.errors import InputError

REAL = Path(os.environ.get("LIGHTNING_SEG_DATA", "/nowhere")) / "lits-2d"


def write(root: Path, names: list[str]) -> Path:
    for number, name in enumerate(names):
        rows, columns = np.mgrid[:32, :32]
        liver = (rows - 12) ** 2 + (columns - 10 - number) ** 2 < 36
        for part, pixels in (("images", 60 + 90 * liver), ("masks", 255 * liver)):
            (root / part).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(root / part / f"{name}.jpg", quality=90)
    return root


def test_slices_are_grey_and_belong_to_scans(tmp_path: Path) -> None:
    names = ["flipped_10001_103", "mirrored_10001_103", "mirrored_10002_5", "mirrored_10003_5"]
    source = LiTS2D(write(tmp_path / "lits-2d", names))
    assert source.ids == names
    assert source.groups == dict(
        zip(names, ["scan 10001", "scan 10001", "scan 10001", "scan 10003"], strict=True)
    )
    image, mask, _ = source.read(names[0])
    assert (image.shape, mask.shape) == ((32, 32, 1), (32, 32, 1))
    assert abs(float(image[mask > 0].mean()) - 150) < 10
    assert LiTS2D(tmp_path).ids == names


def test_no_scan_stands_in_two_splits() -> None:
    split = load_protocol("lits-2d")
    ids = sorted(id for members in split.ids.values() for id in members)
    groups = lits_2d.scans(ids)
    assert lits_2d.protocol(ids) == (PROTOCOLS / "lits-2d.csv").read_text(encoding="utf-8")
    assert (len(ids), len(set(groups.values()))) == (643, 122)
    homes = [{groups[id] for id in split.ids[name]} for name in SPLITS]
    assert sum(map(len, homes)) == 122
    twice = [
        id for id in ids if id.startswith("flipped") and id.replace("flipped", "mirrored") in groups
    ]
    assert len(twice) == 20


def test_the_second_version_divides_no_patient_and_tests_on_the_same_slices() -> None:
    first, second = load_protocol("lits-2d"), load_protocol("lits-2d-v2")
    ids = sorted(first.home)
    assert lits_2d.second_protocol(ids) == (PROTOCOLS / "lits-2d-v2.csv").read_text("utf-8")
    assert (first.digest, first.leaks, second.leaks) == ("f9a8f2869016", True, False)
    assert "1 known pair of images" in first.leak_sentence
    assert "0 of them touch test" in first.leak_sentence
    patients = lits_2d.lits_patients(ids)
    homes = [{patients[id] for id in second.ids[name]} for name in SPLITS]
    assert sum(map(len, homes)) == 121
    assert second.ids["test"] == first.ids["test"]
    assert {id for id in ids if first.home[id] != second.home[id]} == {
        id for id in ids if "_10001_" in id
    }


def test_names_without_a_scan_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no scan, as flipped_10001_103 does"):
        LiTS2D(write(tmp_path, ["slice_1"]))
    with pytest.raises(InputError, match="does not hold images/ and masks/"):
        LiTS2D(tmp_path / "images")


@pytest.mark.skipif(
    not REAL.is_dir(), reason="the real slices are not in $LIGHTNING_SEG_DATA/lits-2d"
)
def test_the_real_slices_are_read() -> None:
    source = LiTS2D(REAL)
    for name in ("lits-2d", "lits-2d-v2"):
        check(load_protocol(name), source)
    data = SegmentationDataModule("lits_2d", str(REAL), size=64, batch_size=8, num_workers=0)
    data.setup("test")
    batch = next(iter(data.test_dataloader()))
    assert batch["image"].shape == (8, 1, 64, 64)
    shares = [float(source.read(id).mask.mean()) for id in source.ids[::40]]
    assert 0.001 < np.mean(shares) < 0.3
