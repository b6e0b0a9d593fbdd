"""LiTS slices in 2-D: 643 JPEG slices of 256x256 pixels from 122 LiTS / MSD Task03 training scans, with JPEG masks.

Derived from the challenge's volumes (see ``lits``): liver and tumour merged into one class, HU cut to 0 to 255. Names such as
``flipped_10001_103`` hold the scan and the slice; 20 slices stand twice, flipped and mirrored. CC BY-NC-ND 4.0 and CC BY-SA
4.0. For volumes, tumours and scores in mm there is ``lits``; its scores and those on these slices do not compare.
"""

import re
from typing import ClassVar

from lightning_seg.data.sources.base.pairs import Pairs
from lightning_seg.data.splits import group_split, protocol_text
from lightning_seg.errors import InputError

_RULE = (
    "80/10/10 % of the 643 slices as near as whole scans allow: {counts} scans. The ids sorted as text, shuffled by Python's "
    "random.Random(42); each id in turn brings its whole scan into the first of train, val, test that has room for it, or "
    "else into the one with most room ({sizes} slices): lightning_seg.data.sources.lits_2d.protocol(ids)."
)


class LiTS2D(Pairs):
    """``images/*.jpg`` and ``masks/*.jpg``, named ``<how it was turned>_<scan>_<slice>``.

    Args:
        root: the folder that holds these two, or its parent; default: ``lits-2d`` in
            $LIGHTNING_SEG_DATA.
        mask_threshold: see ``Pairs``.
    """

    classes: ClassVar[tuple[str, ...]] = ("liver",)
    in_channels: ClassVar[int] = 1
    default_protocol: ClassVar[str] = "lits-2d"
    title: ClassVar[str] = "the slices"
    names: ClassVar[tuple[str, ...]] = ("lits-2d", "LiTS-2D", "lits_2d")
    # how a slice of a volume, seen from the feet with the front up, becomes such a picture, to
    # predict volumes
    window: ClassVar[tuple[float, float]] = (0, 255)  # HU
    quarter_turns: ClassVar[int] = 1  # counterclockwise: the pictures named mirrored_*

    def find_groups(self) -> dict[str, str]:
        """id -> its scan."""
        return scans(self.ids)


def scans(ids: list[str]) -> dict[str, str]:
    """id -> scan, the five digits in its name."""
    found = {id: re.fullmatch(r"[a-z]+_(\d{5})_\d+", id) for id in ids}
    for id, match in found.items():
        if match is None:
            raise InputError(
                f"the name {id!r} holds no scan, as flipped_10001_103 does; remove the file."
            )
    return {id: f"scan {match[1]}" for id, match in found.items() if match}


def protocol(ids: list[str]) -> str:
    """The text of ``protocols/lits-2d.csv``, made from the 643 ids by the rule in its header."""
    groups = scans(ids)
    split = group_split(groups, {"train": 0.8, "val": 0.1, "test": 0.1}, seed=42)
    counts = "/".join(str(len({groups[id] for id in members})) for members in split.values())
    sizes = "/".join(str(len(members)) for members in split.values())
    return protocol_text("lits-2d", 1, _RULE.format(counts=counts, sizes=sizes), split)
