"""MoNuSeg 2018: 44 histological pictures of several organs with outlines of their nuclei, 1000 x
1000 pixels.

Kumar et al., A multi-organ nucleus segmentation challenge, TMI 2020,
https://monuseg.grand-challenge.org; CC BY-NC-SA 4.0. Here the nuclei are one class, so that
touching ones merge. ``groups`` is the patient, in the first three fields of the TCGA barcode that
names each picture. Today's training archive holds 37 pictures; the protocol takes the challenge's
30.
"""

import random
from pathlib import Path
from typing import ClassVar

import numpy as np

from lightning_seg.data.reading.folders import Aside, walk_files
from lightning_seg.data.reading.masks import check_threshold, read_mask
from lightning_seg.data.reading.outlines import outlines, rasterise
from lightning_seg.data.reading.pictures import is_picture, read_image
from lightning_seg.data.sources.base import Sample, find_root
from lightning_seg.data.sources.base.origins import GuardedOrigin, Origin
from lightning_seg.data.sources.base.pairs import joined
from lightning_seg.data.splits import protocol_text
from lightning_seg.errors import InputError

NAMES = ("MoNuSeg", "monuseg", "MoNuSeg2018")
MASK_FOLDERS = ("masks", "binary masks", "labelcol", "groundtruth", "ground truth")  # in lower case
TRAINING = (
    "18-5592-01Z-00-DX1 21-5784-01Z-00-DX1 21-5786-01Z-00-DX1 38-6178-01Z-00-DX1 49-4488-01Z-00-DX1 50-5931-01Z-00-DX1 "
    "A7-A13E-01Z-00-DX1 A7-A13F-01Z-00-DX1 AR-A1AK-01Z-00-DX1 AR-A1AS-01Z-00-DX1 AY-A8YK-01A-01-TS1 B0-5698-01Z-00-DX1 "
    "B0-5710-01Z-00-DX1 B0-5711-01Z-00-DX1 CH-5767-01Z-00-DX1 DK-A2I6-01A-01-TS1 E2-A14V-01Z-00-DX1 E2-A1B5-01Z-00-DX1 "
    "G2-A2EK-01A-02-TSB G9-6336-01Z-00-DX1 G9-6348-01Z-00-DX1 G9-6356-01Z-00-DX1 G9-6362-01Z-00-DX1 G9-6363-01Z-00-DX1 "
    "HE-7128-01Z-00-DX1 HE-7129-01Z-00-DX1 HE-7130-01Z-00-DX1 KB-A93J-01A-01-TS1 NH-A8F7-01A-01-TS1 RD-A8N9-01A-01-TS1"
)
TEST = (
    "2Z-A9J9-01A-01-TS1 44-2665-01B-06-BS6 69-7764-01A-01-TS1 A6-6782-01A-01-BS1 AC-A2FO-01A-01-TS1 AO-A0J2-01A-01-BSA "
    "CU-A0YN-01A-02-BSB EJ-A46H-01A-03-TSC FG-A4MU-01B-01-TS1 GL-6846-01A-01-BS1 HC-7209-01A-01-TS1 HT-8564-01Z-00-DX1 "
    "IZ-8196-01A-01-BS1 ZF-A9R5-01A-01-TS1"
)
VALIDATION = 6
_RULE = (
    "the challenge's 14 test pictures; of its 30 training pictures the first {count} validate after the sorted ids were shuffled "
    "by Python's random.Random(42), and the others train: lightning_seg.data.sources.monuseg.protocol()."
)


class MoNuSeg:
    """The owners' folders, in any depth: ``Tissue Images/*.tif`` with ``Annotations/*.xml``,
    ``MoNuSegTestData/*.{tif,xml}``.

    A picture without outlines takes its binary mask of the same name from a folder masks/, Binary
    masks/ or labelcol/.

    Args:
        root: the folder of both parts; default: ``MoNuSeg`` or ``monuseg`` in $LIGHTNING_SEG_DATA.
        mask_threshold: of binary masks; a nucleus is where they are brighter. None: as their values
            say (see ``reading.masks``).
    """

    classes: ClassVar[tuple[str, ...]] = ("nucleus",)
    in_channels: ClassVar[int] = 3
    default_protocol: ClassVar[str] = "monuseg"
    origin: ClassVar[Origin] = GuardedOrigin(
        "its owners share it by Google Drive, linked at https://monuseg.grand-challenge.org",
        "MoNuSeg/Tissue Images/*.tif with MoNuSeg/Annotations/*.xml, and "
        "MoNuSeg/MoNuSegTestData/*.tif with *.xml",
    )

    def __init__(
        self,
        root: Path | None = None,
        mask_threshold: int | None = None,
    ) -> None:
        check_threshold(mask_threshold)
        self.mask_threshold, self.aside = mask_threshold, Aside()
        self._files = _picture_pairs(find_root("monuseg", root, NAMES), self.aside)
        self.ids = list(self._files)
        self.groups = {id: "-".join(id.split("-")[:3]) for id in self.ids}

    @property
    def left_aside(self) -> list[str]:
        """The unused parts of the folder, in words."""
        return self.aside.sentences()

    def files(self, id: str) -> tuple[Path, ...]:
        """The files that ``read`` opens."""
        return self._files[id]

    def read(self, id: str) -> Sample:
        """Image (1000, 1000, 3) RGB and mask (1000, 1000, 1): 1 where a pixel's centre lies in a
        nucleus."""
        picture, truth = self._files[id]
        image = read_image(picture)
        mask = self._mask(truth, image.shape[:2])
        return joined(picture, image, truth, mask[..., None])

    def _mask(
        self,
        truth: Path,
        shape: tuple[int, ...],
    ) -> np.ndarray:
        if truth.suffix.lower() == ".xml":
            return rasterise(outlines(truth), shape)
        return read_mask(truth, self.mask_threshold)


def _picture_pairs(
    root: Path,
    aside: Aside,
) -> dict[str, tuple[Path, Path]]:
    """id -> (picture, its outlines or else its mask), sorted."""
    pictures: dict[str, Path] = {}
    drawn: dict[str, Path] = {}
    masks: dict[str, Path] = {}
    for path in walk_files(root):
        if path.suffix.lower() == ".xml":
            kind = drawn
        elif not is_picture(path.name):
            aside.add("files that are neither pictures nor outlines", path)
            continue
        else:
            kind = masks if path.parent.name.lower() in MASK_FOLDERS else pictures
        if path.stem in kind:
            raise InputError(
                f"{kind[path.stem]} and {path} bear one name; keep one of them below {root}."
            )
        kind[path.stem] = path
    if not pictures:
        raise InputError(
            f"no pictures below {root}; give the folder of MoNuSeg, with Tissue Images/ and "
            "Annotations/."
        )
    truths = masks | drawn
    lonely = [id for id in pictures if id not in truths]
    if lonely:
        raise InputError(
            f"{pictures[lonely[0]]} has neither outlines (.xml) nor a mask ({len(lonely)} of "
            f"{len(pictures)} lack them); restore them or remove the pictures."
        )
    for id in truths.keys() - pictures.keys():
        aside.add("outlines or masks without a picture", truths[id])
    return {id: (pictures[id], truths[id]) for id in sorted(pictures)}


def protocol() -> str:
    """The text of ``protocols/monuseg.csv``, made by the rule in its header."""
    training, test = ([f"TCGA-{id}" for id in ids.split()] for ids in (TRAINING, TEST))
    shuffled = sorted(training)
    random.Random(42).shuffle(shuffled)
    split = {"train": shuffled[VALIDATION:], "val": shuffled[:VALIDATION], "test": test}
    return protocol_text("monuseg", 1, _RULE.format(count=VALIDATION), split)
