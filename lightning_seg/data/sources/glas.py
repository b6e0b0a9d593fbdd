"""GlaS (Warwick-QU): 165 histological pictures of colon with gland masks, 430x567 to 522x775
pixels.

Sirinukunwattana et al., Gland segmentation in colon histology images: the GlaS challenge contest,
MedIA 2017. For research only. The masks number the glands; here they are one class. The pictures
come from 16 patients, and the challenge's own test parts share most of them with its training part
(the owners' Grade.csv, ``protocols/glas-patients.csv``): the protocol ``glas`` declares that it
leaks, ``auto`` or ``fold-1-of-5`` divide by patient.
"""

import csv
from pathlib import Path
from typing import ClassVar

from lightning_seg.data.reading.masks import read_nonzero
from lightning_seg.data.reading.pictures import read_image
from lightning_seg.data.sources.base import Sample
from lightning_seg.data.sources.base.origins import GuardedOrigin, Origin
from lightning_seg.data.sources.base.pairs import Files, Pairs, joined, pair_files
from lightning_seg.data.splits import PROTOCOLS, group_split, protocol_text
from lightning_seg.errors import InputError

_RULE = (
    "LEAKS: 79 of the 80 test pictures show a patient of train or val (glas-patients.csv). The challenge's own parts: testA "
    "and testB test (80); of its 85 training pictures 10 % validate, as near as whole patients allow: the ids sorted, shuffled "
    "by Python's random.Random(42), each in turn brings its patient into the first of train, val that has room: "
    "lightning_seg.data.sources.glas.protocol()."
)


class GlaS(Pairs):
    """The owners' one folder: ``train_1.bmp`` with ``train_1_anno.bmp``, likewise ``testA_*``.

    Args:
        root: this folder or its parent; default: ``GlaS`` or ``Warwick QU Dataset (Released
            2016_07_08)`` in $LIGHTNING_SEG_DATA.
    """

    classes: ClassVar[tuple[str, ...]] = ("gland",)
    default_protocol: ClassVar[str] = "glas"
    origin: ClassVar[Origin] = GuardedOrigin(
        "its owners ask for a login at https://warwick.ac.uk",
        "GlaS/train_1.bmp with GlaS/train_1_anno.bmp, and likewise testA_* and testB_*",
    )
    title: ClassVar[str] = "GlaS"
    names: ClassVar[tuple[str, ...]] = (
        "GlaS",
        "glas",
        "Warwick QU Dataset (Released 2016_07_08)",
        "Warwick_QU_Dataset",
    )

    def __init__(self, root: Path | None = None) -> None:
        super().__init__(root)

    def find_files(self, place: Path) -> Files:
        """Picture and annotation of each id."""
        for folder in (place, *(place / name for name in self.names)):
            if any(folder.glob("*_anno.bmp")):
                return dict(pair_files(folder, folder, _annotation, _is_picture, self.aside))
        raise InputError(
            f"{place} does not hold train_1_anno.bmp and its like; give the folder of GlaS."
        )

    def find_groups(self) -> dict[str, str]:
        """id -> its patient; InputError for a picture that is none of the data set."""
        known = glas_patients()
        for id in self.ids:
            if id not in known:
                raise InputError(
                    f"{self.files(id)[0]} is no picture of GlaS, train_1 to testB_20; remove it."
                )
        return {id: known[id] for id in self.ids}

    def read(self, id: str) -> Sample:
        """Image (H, W, 3) RGB and mask (H, W, 1): 1 on every gland, which the files number."""
        image, glands = self.files(id)
        return joined(image, read_image(image), glands, read_nonzero(glands)[..., None])


def _annotation(stem: str) -> str:
    return f"{stem}_anno"


def _is_picture(stem: str) -> bool:
    return not stem.endswith("_anno")


def glas_patients() -> dict[str, str]:
    """id -> patient, for all 165 pictures."""
    lines = (PROTOCOLS / "glas-patients.csv").read_text(encoding="utf-8").splitlines()
    rows = csv.DictReader(line for line in lines if not line.startswith("#"))
    return {row["id"]: f"patient {row['patient']}" for row in rows}


def protocol() -> str:
    """The text of ``protocols/glas.csv``, made by the rule in its header."""
    training = {id: patient for id, patient in glas_patients().items() if id.startswith("train_")}
    split = group_split(training, {"train": 0.9, "val": 0.1}, seed=42)
    split["test"] = tuple(id for id in glas_patients() if id not in training)
    return protocol_text("glas", 1, _RULE, split, leaks=True)
