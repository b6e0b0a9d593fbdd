"""DRIVE: 40 photographs of the retina with vessel masks, 584 x 565 pixels (height x width), 20 for training and 20 for testing.

Staal et al., Ridge-Based Vessel Segmentation in Color Images of the Retina, IEEE TMI 2004, https://drive.grand-challenge.org.
The masks are the first observer's. Scores are over the whole frame for now: the field of view (``mask/``) and the second
observer (``test/2nd_manual/``) are not read.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from lightning_seg.data._source import Sample, find_folder, find_root, pair_files, read_pair
from lightning_seg.data.splits import protocol_text
from lightning_seg.errors import InputError

NAMES = ("DRIVE", "drive")
VALIDATION = 4
_RULE = (
    "the owners' 20 test images; of their 20 training images the last {count} by name validate, which the owners leave "
    "open, and the others train: lightning_seg.data.drive.protocol(ids)."
)


class DRIVE:
    """The owners' folder: ``{training,test}/images/*.tif`` and ``{training,test}/1st_manual/*.gif``.

    Args:
        root: the folder that holds training/ and test/, or its parent; default: ``DRIVE`` or ``drive`` in
            $LIGHTNING_SEG_DATA.
    """

    classes: ClassVar[tuple[str, ...]] = ("vessel",)
    in_channels: ClassVar[int] = 3
    default_protocol: ClassVar[str] = "drive"

    def __init__(self, root: Path | None = None) -> None:
        place = find_root("drive", root, NAMES)
        folder = find_folder(place, NAMES, ("training/images", "test/images"))
        if folder is None:
            raise InputError(f"{place} does not hold training/images/ and test/images/; give the folder of DRIVE.")
        self._files: dict[str, tuple[Path, Path]] = {}
        for half in (folder / "training", folder / "test"):
            if not (half / "1st_manual").is_dir():  # some copies leave out the labels of the test images
                raise InputError(f"{half} holds images without their labels, 1st_manual/; get a copy that has them.")
            self._files |= pair_files(half / "images", half / "1st_manual", _manual)
        self.ids = sorted(self._files)
        self.groups = {id: id for id in self.ids}

    def read(self, id: str) -> Sample:
        """Image (584, 565, 3) RGB and mask (584, 565, 1)."""
        return read_pair(*self._files[id])


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
