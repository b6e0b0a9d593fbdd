"""CVC-ClinicDB: 612 frames of 29 colonoscopy sequences with polyp masks, 288 x 384 pixels (height x
width).

Bernal et al., WM-DOVA maps for accurate polyp highlighting in colonoscopy, CMIG 2015. The owners
ask for research and educational use. Some masks have grey pixels at the outline, hence the
threshold 127.

``groups`` joins the frames of one sequence (``protocols/clinicdb-frames.csv``). The 29 sequences
come from 25 videos, and the owners' table does not say which of them share one.
"""

import csv
from typing import ClassVar

from lightning_seg.data.reading.masks import USUAL_THRESHOLD
from lightning_seg.data.sources.base.origins import GuardedOrigin, Origin
from lightning_seg.data.sources.base.pairs import Pairs
from lightning_seg.data.splits import PROTOCOLS, SPLITS, group_split, protocol_text
from lightning_seg.errors import InputError, unknown

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


class CVCClinicDB(Pairs):
    """``images/*.png`` and ``masks/*.png``, or ``Original/*.tif`` and ``Ground Truth/*.tif``.

    Frames are named 1 to 612.

    Args:
        root: the folder that holds these two, or its parent; default: ``CVC-ClinicDB`` or
            ``cvc-clinicdb`` in $LIGHTNING_SEG_DATA.
        mask_threshold: a pixel is polyp where its mask is brighter; default: 127, since 138 of the
            612 masks hold a few grey pixels.
    """

    classes: ClassVar[tuple[str, ...]] = ("polyp",)
    default_protocol: ClassVar[str] = "clinicdb-sequences"
    origin: ClassVar[Origin] = GuardedOrigin(
        "its owners give a RAR archive at https://polyp.grand-challenge.org/CVCClinicDB",
        "CVC-ClinicDB/Original/1.tif to 612.tif and CVC-ClinicDB/Ground Truth/1.tif to 612.tif",
    )
    title: ClassVar[str] = "CVC-ClinicDB"
    names: ClassVar[tuple[str, ...]] = ("CVC-ClinicDB", "cvc-clinicdb")
    layouts: ClassVar[tuple[tuple[str, str], ...]] = (
        ("images", "masks"),
        ("Original", "Ground Truth"),
    )
    published_threshold: ClassVar[int | None] = USUAL_THRESHOLD

    def find_groups(self) -> dict[str, str]:
        """id -> its sequence; InputError for a picture that is no frame of the data set."""
        known = sequences()
        for id in self.ids:
            if id not in known:
                raise InputError(
                    f"{self.files(id)[0]} is no frame of CVC-ClinicDB, 1 to {len(known)}; "
                    "remove it."
                )
        return {id: known[id] for id in self.ids}


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
