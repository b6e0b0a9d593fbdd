"""CVC-ClinicDB: 612 frames of 29 colonoscopy sequences with polyp masks, 288 x 384 pixels (height x width).

Bernal et al., WM-DOVA maps for accurate polyp highlighting in colonoscopy, CMIG 2015. The owners ask for research and
educational use. Some masks have grey pixels at the outline, hence the threshold 127.

``groups`` joins the frames of one sequence (``protocols/clinicdb-frames.csv``). The 29 sequences come from 25 videos, and
the owners' table does not say which of them share one.
"""

import csv
from pathlib import Path
from typing import ClassVar

from lightning_seg.data.sources.base import (
    Sample,
    check_threshold,
    find_folder,
    find_root,
    pair_files,
    read_pair,
)
from lightning_seg.data.splits import PROTOCOLS, SPLITS, group_split, protocol_text
from lightning_seg.errors import InputError, unknown

NAMES = ("CVC-ClinicDB", "cvc-clinicdb")
LAYOUTS = (("images", "masks"), ("Original", "Ground Truth"))

# name -> (shares of train, val and test, whether sequences stay whole, rule)
SHARES: dict[str, tuple[tuple[float, float, float], bool, str]] = {
    "clinicdb-sequences": (
        (0.8, 0.1, 0.1),
        True,
        "80/10/10 % of the frames as near as whole sequences allow: {sequences} sequences. The ids sorted as text, "
        "shuffled by Python's random.Random(42); each id in turn brings its whole sequence of clinicdb-frames.csv into "
        "the first of train, val, test that has room for it, or else into the one with most room",
    ),
    "clinicdb-459-153": (
        (0.675, 0.075, 0.25),
        False,
        "LEAKS: the frames of one sequence stand in train, val and test, so its scores say nothing about unseen videos "
        "(clinicdb-sequences does not leak). 459/153 frames as in DCA, whose own lists are not public; the 46 validation "
        "frames are carved from the 459. The ids sorted as text, shuffled by Python's random.Random(42) and cut",
    ),
}


class CVCClinicDB:
    """``images/*.png`` and ``masks/*.png``, or the owners' ``Original/*.tif`` and ``Ground Truth/*.tif``, named 1 to 612.

    Args:
        root: the folder that holds these two, or its parent; default: ``CVC-ClinicDB`` or ``cvc-clinicdb`` in
            $LIGHTNING_SEG_DATA.
        mask_threshold: a pixel is polyp where its grey value is larger.
    """

    classes: ClassVar[tuple[str, ...]] = ("polyp",)
    in_channels: ClassVar[int] = 3
    default_protocol: ClassVar[str] = "clinicdb-sequences"

    def __init__(self, root: Path | None = None, mask_threshold: int = 127) -> None:
        check_threshold(mask_threshold)
        self._files = pair_files(*_folders(find_root("cvc_clinicdb", root, NAMES)))
        self.mask_threshold = mask_threshold
        self.ids = list(self._files)
        known = sequences()
        for id in self.ids:
            if id not in known:
                raise InputError(
                    f"{self._files[id][0]} is no frame of CVC-ClinicDB, 1 to {len(known)}; remove it."
                )
        self.groups = {id: known[id] for id in self.ids}

    def files(self, id: str) -> tuple[Path, ...]:
        """What ``read`` opens."""
        return self._files[id]

    def read(self, id: str) -> Sample:
        """Image (288, 384, 3) RGB and mask (288, 384, 1)."""
        return read_pair(*self._files[id], self.mask_threshold)


def _folders(place: Path) -> tuple[Path, Path]:
    for images, masks in LAYOUTS:
        folder = find_folder(place, NAMES, (images, masks))
        if folder is not None:
            return folder / images, folder / masks
    layouts = " nor ".join(f"{images}/ and {masks}/" for images, masks in LAYOUTS)
    raise InputError(f"{place} holds neither {layouts}; give the folder of CVC-ClinicDB.")


def sequences() -> dict[str, str]:
    """id -> sequence, for all 612 frames."""
    lines = (PROTOCOLS / "clinicdb-frames.csv").read_text(encoding="utf-8").splitlines()
    rows = csv.DictReader(line for line in lines if not line.startswith("#"))
    return {
        str(frame): f"sequence {row['sequence']}"
        for row in rows
        for frame in range(int(row["first"]), int(row["last"]) + 1)
    }


def protocol(name: str) -> str:
    """The text of ``protocols/<name>.csv``, made from the 612 ids by the rule in its header."""
    if name not in SHARES:
        raise unknown("protocol of CVC-ClinicDB", name, SHARES)
    shares, whole, rule = SHARES[name]
    known = sequences()
    groups = known if whole else {id: id for id in known}
    split = group_split(groups, dict(zip(SPLITS, shares, strict=True)), seed=42)
    sizes = "/".join(str(len(ids)) for ids in split.values())
    counts = "/".join(str(len({known[id] for id in ids})) for ids in split.values())
    rule = f"{rule.format(sequences=counts)} ({sizes} frames): lightning_seg.data.sources.cvc_clinicdb.protocol('{name}')."
    return protocol_text(name, 1, rule, split, leaks=not whole)
