"""LiTS slices in 2-D: 643 JPEG slices of 256x256 pixels from 122 LiTS / MSD Task03 training scans,
with JPEG masks.

Derived from the challenge's volumes (see ``lits``): liver and tumour merged into one class, HU cut
to 0 to 255. Names such as ``flipped_10001_103`` hold the scan and the slice; 20 slices stand twice,
flipped and mirrored. CC BY-NC-ND 4.0 and CC BY-SA 4.0. For volumes, tumours and scores in mm there
is ``lits``; its scores and those on these slices do not compare.

Scans 10001 and 10002 show one body, its stomach filled otherwise (`data check --likeness 0.7` finds
the pair; no other pair of scans is as alike): they count as one patient. ``lits-2d`` divided them,
10002 training and 10001 validating; ``lits-2d-v2`` does not.
"""

import re
from typing import ClassVar

from lightning_seg.data.sources.base.pairs import Pairs
from lightning_seg.data.splits import (
    SPLITS,
    KnownPair,
    group_split,
    load_protocol,
    protocol_text,
)
from lightning_seg.errors import InputError

_RULE = (
    "80/10/10 % of the 643 slices as near as whole scans allow: {counts} scans. The ids sorted as text, shuffled by Python's "
    "random.Random(42); each id in turn brings its whole scan into the first of train, val, test that has room for it, or "
    "else into the one with most room ({sizes} slices): lightning_seg.data.sources.lits_2d.protocol(ids)."
)
_SECOND_RULE = (
    "lits-2d with scan 10001 training, as scan 10002 does, which is probably of the same patient; the "
    "test is the same ({sizes} slices): lightning_seg.data.sources.lits_2d.second_protocol(ids)."
)
# scan -> another of, probably, the same patient
_ONE_PATIENT = {"10002": "10001"}
_ALIKE = KnownPair("flipped_10002_102", "mirrored_10001_102", "probably same patient")


class LiTS2D(Pairs):
    """``images/*.jpg`` and ``masks/*.jpg``, named ``<how it was turned>_<scan>_<slice>``.

    Args:
        root: the folder that holds these two, or its parent; default: ``lits-2d`` in
            $LIGHTNING_SEG_DATA.
        mask_threshold: see ``Pairs``.
    """

    classes: ClassVar[tuple[str, ...]] = ("liver",)
    in_channels: ClassVar[int] = 1
    default_protocol: ClassVar[str] = "lits-2d-v2"
    title: ClassVar[str] = "the slices"
    names: ClassVar[tuple[str, ...]] = ("lits-2d", "LiTS-2D", "lits_2d")
    # how a slice of a volume, seen from the feet with the front up, becomes such a picture, to
    # predict volumes
    window: ClassVar[tuple[float, float]] = (0, 255)  # HU
    quarter_turns: ClassVar[int] = 1  # counterclockwise: the pictures named mirrored_*

    def find_groups(self) -> dict[str, str]:
        """id -> its patient, as far as known."""
        return lits_patients(self.ids)


def scans(ids: list[str]) -> dict[str, str]:
    """id -> scan, the five digits in its name."""
    found = {id: re.fullmatch(r"[a-z]+_(\d{5})_\d+", id) for id in ids}
    for id, match in found.items():
        if match is None:
            raise InputError(
                f"the name {id!r} holds no scan, as flipped_10001_103 does; remove the file."
            )
    return {id: f"scan {match[1]}" for id, match in found.items() if match}


def lits_patients(ids: list[str]) -> dict[str, str]:
    """id -> scan, or the first scan of its patient where several are known to be of one."""
    again = {f"scan {second}": f"scan {first}" for second, first in _ONE_PATIENT.items()}
    return {id: again.get(scan, scan) for id, scan in scans(ids).items()}


def protocol(ids: list[str]) -> str:
    """The text of ``protocols/lits-2d.csv``, made from the 643 ids by the rule in its header."""
    groups = scans(ids)
    split = group_split(groups, {"train": 0.8, "val": 0.1, "test": 0.1}, seed=42)
    counts = "/".join(str(len({groups[id] for id in members})) for members in split.values())
    sizes = "/".join(str(len(members)) for members in split.values())
    rule = _RULE.format(counts=counts, sizes=sizes)
    pairs = [_ALIKE] if {_ALIKE.first, _ALIKE.second} <= set(ids) else []
    return protocol_text("lits-2d", 1, rule, split, pairs=pairs)


def second_protocol(ids: list[str]) -> str:
    """The text of ``protocols/lits-2d-v2.csv``, made from the first version and the 643 ids."""
    joined = lits_patients(ids)
    home = load_protocol("lits-2d").home
    moved = {id for id in ids if joined[id] == f"scan {_ONE_PATIENT['10002']}"}
    split = {
        name: [id for id in ids if ("train" if id in moved else home[id]) == name]
        for name in SPLITS
    }
    sizes = "/".join(str(len(members)) for members in split.values())
    return protocol_text("lits-2d-v2", 2, _SECOND_RULE.format(sizes=sizes), split)
