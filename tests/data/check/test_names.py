"""Names that look like frames of one patient, and names that do not."""

import random

import pytest

from lightning_seg.data.check.names import likely_groups
from lightning_seg.data.sources.cvc_clinicdb import sequences
from lightning_seg.data.splits import load_protocol


def numbered(pattern: str, patients: int = 6, frames: int = 4) -> list[str]:
    return [
        pattern.format(patient=p, frame=f) for p in range(1, patients + 1) for f in range(frames)
    ]


@pytest.mark.parametrize(
    "pattern",
    [
        "p{patient:02d}_{frame:03d}",
        "patient{patient}-{frame}",
        "{patient}_{frame}",
        "case{patient:03d}_slice{frame:02d}",
        "P{patient}f{frame}",
        "scan{patient} ({frame})",
        "hospital_a/{patient:04d}_{frame}",
        "A{patient}_left_{frame}",
    ],
)
def test_names_of_frames_of_patients_are_seen(pattern: str) -> None:
    found = likely_groups(numbered(pattern))
    assert len(set(found.values())) == 6
    assert len(found) == 24


def test_slices_of_scans_are_seen() -> None:
    ids = [id for part in load_protocol("lits-2d").ids.values() for id in part]
    # flipped_10001_103: the first two words
    assert likely_groups(ids)["flipped_10001_103"] == "flipped_10001"


UNIQUE = {
    "numbers": [str(number) for number in range(50)],
    "one prefix": [f"img_{number:03d}" for number in range(50)],
    "two classes": [
        f"{kind} ({number})" for kind in ("benign", "malignant") for number in range(9)
    ],
    "one archive": [f"ISIC_{number:07d}_image" for number in range(50)],
    "hashes": [f"{random.Random(number).getrandbits(128):032x}" for number in range(50)],
    "nothing": [],
}


@pytest.mark.parametrize("ids", UNIQUE.values(), ids=UNIQUE)
def test_other_names_are_not(ids: list[str]) -> None:
    assert likely_groups(ids) == {}


def test_names_of_shipped_protocols_without_patients_in_them_are_not_taken_for_patients() -> None:
    for name in ("kvasir-unet-a-v2", "drive"):
        ids = [id for part in load_protocol(name).ids.values() for id in part]
        assert likely_groups(ids) == {}, name
    assert likely_groups(sorted(sequences())) == {}


@pytest.mark.parametrize(
    ("ids", "patients"),
    [
        ([f"{number:03d}{side}" for number in range(20) for side in "LR"], 20),
        ([f"Image_{number:02d}{side}" for number in range(1, 15) for side in "LR"], 14),
        ([f"{number}{side}" for number in range(9) for side in ("left", "right")], 9),
        ([f"{patient}{view:03d}" for patient in (1, 2, 3) for view in (1, 2, 3)], 3),
        ([f"{patient}{view}" for patient in range(100, 112) for view in (1, 2, 3)], 12),
        ([f"img{patient:02d}{view:02d}" for patient in range(1, 6) for view in range(7)], 5),
    ],
)
def test_sides_and_views_behind_a_patients_number_are_seen(ids: list[str], patients: int) -> None:
    found = likely_groups(ids)
    assert list(found) == ids
    assert len(set(found.values())) == patients


@pytest.mark.parametrize(("first", "last"), [(0, 50), (1, 101), (1, 1001), (1, 13), (95, 105)])
def test_one_count_is_not_taken_for_views(first: int, last: int) -> None:
    for width in (1, 4):
        assert likely_groups([f"{number:0{width}d}" for number in range(first, last)]) == {}
    drawn = random.Random(0).sample(range(first, last), (last - first) // 2)
    assert likely_groups([f"img{number:04d}" for number in drawn]) == {}
