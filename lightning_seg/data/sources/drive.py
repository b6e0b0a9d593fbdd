"""DRIVE: 40 photographs of the retina with vessel masks, 584 x 565 pixels (height x width), 20 for training and 20 for testing.

Staal et al., Ridge-Based Vessel Segmentation in Color Images of the Retina, IEEE TMI 2004, https://drive.grand-challenge.org.
The masks are the first observer's; the region of a sample is the owners' field of view (``mask/``). The second observer
(``test/2nd_manual/``) is not read.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from lightning_seg.data.sources.base import (
    Sample,
    find_folder,
    find_root,
    joined,
    pair_files,
    read_mask,
    read_pair,
)
from lightning_seg.data.splits import protocol_text
from lightning_seg.errors import InputError

NAMES = ("DRIVE", "drive")
VALIDATION = 4
_RULE = (
    "the owners' 20 test images; of their 20 training images the last {count} by name validate, which the owners leave "
    "open, and the others train: lightning_seg.data.sources.drive.protocol(ids)."
)


class DRIVE:
    """The owners' folder: ``images/*.tif``, ``1st_manual/*.gif`` and ``mask/*.gif`` in ``training/`` and in ``test/``.

    Args:
        root: the folder that holds training/ and test/, or its parent; default: ``DRIVE`` or ``drive`` in
            $LIGHTNING_SEG_DATA.
        field_of_view: False for copies without ``mask/``: samples then have no region.
    """

    classes: ClassVar[tuple[str, ...]] = ("vessel",)
    in_channels: ClassVar[int] = 3
    default_protocol: ClassVar[str] = "drive"

    def __init__(self, root: Path | None = None, field_of_view: bool = True) -> None:
        place = find_root("drive", root, NAMES)
        folder = find_folder(place, NAMES, ("training/images", "test/images"))
        if folder is None:
            raise InputError(
                f"{place} does not hold training/images/ and test/images/; give the folder of DRIVE."
            )
        self.regions = field_of_view
        self._files: dict[str, tuple[Path, ...]] = {}
        for half in (folder / "training", folder / "test"):
            self._files |= _triples(half) if field_of_view else _pairs(half)
        self.ids = sorted(self._files)
        self.groups = {id: id for id in self.ids}

    def files(self, id: str) -> tuple[Path, ...]:
        """What ``read`` opens."""
        return self._files[id]

    def read(self, id: str) -> Sample:
        """Image (584, 565, 3) RGB, mask (584, 565, 1) and region (584, 565), 2 in the field of view and 1 around it."""
        image, manual, *views = self._files[id]
        sample = read_pair(image, manual)
        for view in views:
            inside = joined(image, sample.image, view, read_mask(view)[..., None]).mask[..., 0]
            sample = sample._replace(region=inside + np.uint8(1))
        return sample


def _pairs(half: Path) -> dict[str, tuple[Path, Path]]:
    if not (half / "1st_manual").is_dir():  # some copies leave out the labels of the test images
        raise InputError(
            f"{half} holds images without their labels, 1st_manual/; get a copy that has them."
        )
    return pair_files(half / "images", half / "1st_manual", _manual)


def _triples(half: Path) -> dict[str, tuple[Path, Path, Path]]:
    pairs = _pairs(half)
    if not (half / "mask").is_dir():
        raise InputError(
            f"{half} holds images without their fields of view, mask/; get a copy that has them, or set field_of_view: false."
        )
    views = pair_files(half / "images", half / "mask", lambda stem: f"{stem}_mask")
    return {id: (*pair, views[id][1]) for id, pair in pairs.items()}


def _manual(stem: str) -> str:
    return f"{stem.partition('_')[0]}_manual1"  # 21_training -> 21_manual1


def protocol(ids: Sequence[str]) -> str:
    """The text of ``protocols/drive.csv``, made from the 40 ids by the rule in its header."""
    training = sorted(id for id in ids if id.endswith("_training"))
    split = {
        "train": training[:-VALIDATION],
        "val": training[-VALIDATION:],
        "test": sorted(id for id in ids if id.endswith("_test")),
    }
    return protocol_text("drive", 1, _RULE.format(count=VALIDATION), split)
