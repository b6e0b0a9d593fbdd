"""STARE: 20 retinal photographs with vessel masks of two observers, 605 x 700 pixels (height x width).

Hoover et al., Locating blood vessels in retinal images by piecewise threshold probing, TMI 2000,
https://cecas.clemson.edu/~ahoover/stare. The owners define no split: ``stare-16-4`` is SA-UNetv2's, and the rules
``leave-im0001`` to ``leave-im0324`` leave one out (see ``rules``).

The owners publish no fields of view, so samples have no region.
"""

from pathlib import Path
from typing import ClassVar

from lightning_seg.data.sources.base import Sample, find_folder, find_root, pair_files, read_pair
from lightning_seg.data.splits import protocol_text
from lightning_seg.errors import InputError, unknown

NAMES = ("STARE", "stare")
OBSERVERS = ("ah", "vk")
NUMBERS = (1, 2, 3, 4, 5, 44, 77, 81, 82, 139, 162, 163, 235, 236, 239, 240, 255, 291, 319, 324)
_RULE = (
    "the last 4 by name test, as in SA-UNetv2 (inferred from its notebook); of its 16 training images the last 2 by name "
    "validate: lightning_seg.data.sources.stare.protocol()."
)


class STARE:
    """``stare-images/*.ppm`` (or ``images/``) and ``labels-ah/*.ah.ppm``, as the owners' archives hold them or unpacked (.gz).

    Args:
        root: the folder that holds these two, or its parent; default: ``STARE`` or ``stare`` in $LIGHTNING_SEG_DATA.
        observer: whose masks: ``ah`` (Hoover, the usual truth) or ``vk`` (Kouznetsova).
    """

    classes: ClassVar[tuple[str, ...]] = ("vessel",)
    in_channels: ClassVar[int] = 3
    default_protocol: ClassVar[str] = "stare-16-4"

    def __init__(self, root: Path | None = None, observer: str = "ah") -> None:
        if observer not in OBSERVERS:
            raise unknown("observer of STARE", observer, OBSERVERS)
        place, labels = find_root("stare", root, NAMES), f"labels-{observer}"
        found = (
            (folder / images, folder / labels)
            for images in ("stare-images", "images")
            if (folder := find_folder(place, NAMES, (images, labels))) is not None
        )
        folders = next(found, None)
        if folders is None:
            raise InputError(
                f"{place} does not hold stare-images/ and {labels}/; give the folder of STARE."
            )
        self._files = pair_files(*folders, lambda stem: f"{stem}.{observer}")
        self.ids = list(self._files)
        self.groups = {id: id for id in self.ids}

    def files(self, id: str) -> tuple[Path, ...]:
        """What ``read`` opens."""
        return self._files[id]

    def read(self, id: str) -> Sample:
        """Image (605, 700, 3) RGB and mask (605, 700, 1)."""
        return read_pair(*self._files[id])


def protocol() -> str:
    """The text of ``protocols/stare-16-4.csv``, made by the rule in its header."""
    ids = [f"im{number:04d}" for number in NUMBERS]
    return protocol_text(
        "stare-16-4", 1, _RULE, {"train": ids[:14], "val": ids[14:16], "test": ids[16:]}
    )
