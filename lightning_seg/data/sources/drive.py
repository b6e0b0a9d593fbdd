"""DRIVE: 40 photographs of the retina with vessel masks, 584 x 565 pixels (height x width), 20 for
training and 20 for testing.

Staal et al., Ridge-Based Vessel Segmentation in Color Images of the Retina, IEEE TMI 2004,
https://drive.grand-challenge.org. The masks are the first observer's; the region of a sample is the
owners' field of view (``mask/``). The second observer (``test/2nd_manual/``) is not read.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from lightning_seg.data.reading.masks import read_mask
from lightning_seg.data.sources.base import Sample, find_folder
from lightning_seg.data.sources.base.origins import GuardedOrigin, Origin
from lightning_seg.data.sources.base.pairs import Files, Pairs, joined, pair_files
from lightning_seg.data.splits import protocol_text
from lightning_seg.errors import InputError

VALIDATION = 4
_RULE = (
    "the owners' 20 test images; of their 20 training images the last {count} by name validate, which the owners leave "
    "open, and the others train: lightning_seg.data.sources.drive.protocol(ids)."
)


class DRIVE(Pairs):
    """The owners' folder: ``images/*.tif``, ``1st_manual/*.gif``, ``mask/*.gif``, in two halves.

    Args:
        root: the folder that holds training/ and test/, or its parent; default: ``DRIVE`` or
            ``drive`` in $LIGHTNING_SEG_DATA.
        field_of_view: False for copies without ``mask/``: samples then have no region.
        mask_threshold: see ``Pairs``.
    """

    classes: ClassVar[tuple[str, ...]] = ("vessel",)
    default_protocol: ClassVar[str] = "drive"
    origin: ClassVar[Origin] = GuardedOrigin(
        "its owners ask for registration at https://drive.grand-challenge.org",
        "DRIVE/training/ and DRIVE/test/, each with images/*.tif, 1st_manual/*.gif and mask/*.gif",
    )
    title: ClassVar[str] = "DRIVE"
    names: ClassVar[tuple[str, ...]] = ("DRIVE", "drive")

    def __init__(
        self,
        root: Path | None = None,
        field_of_view: bool = True,
        mask_threshold: int | None = None,
    ) -> None:
        self.regions = field_of_view
        super().__init__(root, mask_threshold)

    def find_files(self, place: Path) -> Files:
        """Image, mask and, with ``field_of_view``, the field of view of each id."""
        folder = find_folder(place, self.names, ("training/images", "test/images"))
        if folder is None:
            raise InputError(
                f"{place} does not hold training/images/ and test/images/; give the folder of DRIVE."
            )
        return self._half(folder / "training") | self._half(folder / "test")

    def _half(self, half: Path) -> Files:
        # some copies leave out the labels of the test images
        if not (half / "1st_manual").is_dir():
            raise InputError(
                f"{half} holds images without their labels, 1st_manual/; get a copy that has them."
            )
        pairs = pair_files(half / "images", half / "1st_manual", _manual, aside=self.aside)
        if not self.regions:
            return dict(pairs)
        if not (half / "mask").is_dir():
            raise InputError(
                f"{half} holds images without their fields of view, mask/; "
                "get a copy that has them, or set field_of_view: false."
            )
        views = pair_files(half / "images", half / "mask", lambda stem: f"{stem}_mask")
        return {id: (*pair, views[id][1]) for id, pair in pairs.items()}

    def read(self, id: str) -> Sample:
        """Image (584, 565, 3) RGB, mask (584, 565, 1) and region, 2 in the field of view, else
        1."""
        sample = super().read(id)
        if not self.regions:
            return sample
        image, _, view = self.files(id)
        inside = joined(image, sample.image, view, read_mask(view)[..., None]).mask[..., 0]
        return sample._replace(region=inside + np.uint8(1))


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
