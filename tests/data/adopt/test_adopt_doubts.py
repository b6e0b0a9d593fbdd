"""What adopting a folder cannot decide is said: inverted masks, pictures in several splits, tables
that name some pictures; and grey JPEG masks are refused."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lightning_seg.data.adopt import AdoptChoice, adopt_folder
from lightning_seg.data.adopt.machine import Machine
from lightning_seg.errors import InputError

SIDE = 48


def discs(
    folder: Path, count: int = 12, seed: int = 0, suffix: str = ".png", mark: int = 255
) -> None:
    """Pictures of smooth noise and their masks: a disc of the value ``mark``."""
    draw = np.random.default_rng(seed)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for place in range(count):
        noise = Image.fromarray(draw.integers(0, 255, (7, 7, 3), dtype=np.uint8))
        noise.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(folder / f"images/p{place}.png")
        top, left = draw.integers(14, SIDE - 14, 2)
        inside = (rows - top) ** 2 + (columns - left) ** 2 < 8**2
        Image.fromarray((mark * inside).astype(np.uint8)).save(folder / f"masks/p{place}{suffix}")


def adopted(folder: Path, near: bool = True) -> tuple[str, str]:
    """All notes, and the table."""
    output = folder.with_name(f"{folder.name}-{near}.yaml")
    found = adopt_folder(folder, output, AdoptChoice(near=near), Machine("", 8_000_000_000, {}))
    notes = [*found.finding.notes, *found.finding.division.notes]
    return " | ".join(notes), found.table.read_text(encoding="utf-8")


def invert(file: Path) -> None:
    Image.fromarray(255 - np.array(Image.open(file))).save(file)


def test_inverted_masks_are_said(tmp_path: Path) -> None:
    discs(tmp_path / "d")
    assert "LOOK" not in adopted(tmp_path / "d", near=False)[0]
    for file in sorted((tmp_path / "d/masks").iterdir())[:3]:
        invert(file)
    assert "LOOK: in 3 of 12 masks a class covers over 90%" in adopted(tmp_path / "d")[0]
    shutil.rmtree(tmp_path / "d")
    discs(tmp_path / "all")
    for file in (tmp_path / "all/masks").iterdir():
        invert(file)
    assert "as if the background were marked" in adopted(tmp_path / "all")[0]


@pytest.mark.parametrize("mark", [20, 60, 100])
def test_grey_masks_in_jpeg_are_refused_and_not_cut_at_127(tmp_path: Path, mark: int) -> None:
    discs(tmp_path / "d", suffix=".jpg", mark=mark)
    with pytest.raises(InputError, match="has to be black and white"):
        adopted(tmp_path / "d")
    discs(tmp_path / "white", suffix=".jpg")
    assert "above 127 is the class" in adopted(tmp_path / "white")[0]


@pytest.mark.parametrize("near", [True, False])
@pytest.mark.parametrize("second", ["val", "test"])
def test_pictures_in_two_of_the_owners_splits_leak(tmp_path: Path, near: bool, second: str) -> None:
    for seed, split in enumerate(("train", "val", "test")):
        discs(tmp_path / "d" / split, seed=0 if split == second else seed + (seed > 0))
    notes, table = adopted(tmp_path / "d", near)
    assert "LEAKS: 12" in notes
    assert table.startswith("# leaks: yes")


def test_different_pictures_in_the_owners_splits_do_not_leak(tmp_path: Path) -> None:
    for seed, split in enumerate(("train", "val", "test")):
        discs(tmp_path / "d" / split, seed=seed)
    assert "LEAKS" not in adopted(tmp_path / "d", near=False)[0]


def write_patients(folder: Path, named: int, of_patient: int) -> None:
    """A table that names some pictures, and of some of them a patient, with a space too many."""
    with (folder / "meta.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "patient"])
        for place in range(named):
            patient = f"P{place % 4}" + " " * (place // 4) if place < of_patient else ""
            rows.writerow([f"p{place}.png", patient])


def test_a_table_that_names_too_few_pictures_is_said(tmp_path: Path) -> None:
    discs(tmp_path / "d")
    write_patients(tmp_path / "d", 5, 5)
    notes = adopted(tmp_path / "d", near=False)[0]
    assert "meta.csv names 5 of 12 pictures, too few: its columns (image, patient)" in notes


def test_patients_are_told_by_what_is_seen_and_pictures_without_one_are_counted(
    tmp_path: Path,
) -> None:
    discs(tmp_path / "d")
    write_patients(tmp_path / "d", 12, 9)
    notes, table = adopted(tmp_path / "d", near=False)
    assert "3 pictures have no patient there" in notes
    groups = {row["id"]: row["group"] for row in csv.DictReader(table.splitlines())}
    assert groups["p0"] == groups["p4"] == groups["p8"] != groups["p1"]
