"""CHASE_DB1: 28 retinal photographs, both eyes of 14 children, with vessel masks of two observers,
960 x 999 pixels.

Fraz et al., An ensemble classification-based approach applied to retinal blood vessel segmentation,
TBME 2012, https://blogs.kingston.ac.uk/retinal/chasedb1. The owners define no split; the usual one,
which SA-UNet takes too, trains on the first 20 images and tests on the last 8. ``groups`` joins the
two eyes of a child.

The owners publish no fields of view, so samples have no region.
"""

from pathlib import Path
from typing import ClassVar

from lightning_seg.data.sources.base import find_folder
from lightning_seg.data.sources.base.origins import Archive, Origin, PublicOrigin
from lightning_seg.data.sources.base.pairs import Files, Pairs, pair_files
from lightning_seg.data.splits import protocol_text
from lightning_seg.errors import InputError, unknown

OBSERVERS = ("1stHO", "2ndHO")
_RULE = (
    "the first 20 images by name train and the last 8 test, as is usual (10 and 4 children); of the 20, both eyes of the "
    "last 2 children validate: lightning_seg.data.sources.chase_db1.protocol()."
)


class CHASEDB1(Pairs):
    """The owners' one folder: ``Image_01L.jpg`` with ``Image_01L_1stHO.png``; or two of these
    names.

    Args:
        root: the folder, or the parent of ``images/`` and ``masks/``; default: ``CHASE_DB1`` or
            ``CHASEDB1`` in $LIGHTNING_SEG_DATA.
        observer: whose masks: ``1stHO`` (the usual truth) or ``2ndHO``.
        mask_threshold: see ``Pairs``.
    """

    classes: ClassVar[tuple[str, ...]] = ("vessel",)
    default_protocol: ClassVar[str] = "chase-20-8"
    origin: ClassVar[Origin] = PublicOrigin(
        "CHASE_DB1", (Archive("https://researchdata.kingston.ac.uk/96/1/CHASEDB1.zip"),)
    )
    title: ClassVar[str] = "CHASE_DB1"
    names: ClassVar[tuple[str, ...]] = ("CHASE_DB1", "CHASEDB1", "chase_db1", "chasedb1")

    def __init__(
        self,
        root: Path | None = None,
        observer: str = "1stHO",
        mask_threshold: int | None = None,
    ) -> None:
        if observer not in OBSERVERS:
            raise unknown("observer of CHASE_DB1", observer, OBSERVERS)
        self.observer = observer
        super().__init__(root, mask_threshold)

    def find_files(self, place: Path) -> Files:
        """The image and the observer's mask of each id."""
        images, masks = self.find_layout(place)
        return dict(pair_files(images, masks, self._mask_stem, _is_image, self.aside))

    def _mask_stem(self, stem: str) -> str:
        return f"{stem}_{self.observer}"

    def find_layout(self, place: Path) -> tuple[Path, Path]:
        """Two folders, or the one that is both."""
        divided = find_folder(place, self.names, ("images", "masks"))
        if divided is not None:
            return divided / "images", divided / "masks"
        for folder in (place, *(place / name for name in self.names)):
            if any(folder.glob("Image_*HO.png")):
                return folder, folder
        raise InputError(
            f"{place} holds neither Image_01L_1stHO.png and its like nor images/ and masks/; "
            "give the folder of it."
        )

    def find_groups(self) -> dict[str, str]:
        """id -> the child."""
        return {id: _child(id) for id in self.ids}


def _is_image(stem: str) -> bool:
    return not stem.endswith("HO")


def _child(id: str) -> str:
    return f"child {id.removeprefix('Image_').rstrip('LR')}"  # Image_01L -> child 01


def protocol() -> str:
    """The text of ``protocols/chase-20-8.csv``, made by the rule in its header."""
    ids = [f"Image_{child:02d}{eye}" for child in range(1, 15) for eye in "LR"]
    return protocol_text(
        "chase-20-8", 1, _RULE, {"train": ids[:16], "val": ids[16:20], "test": ids[20:]}
    )
