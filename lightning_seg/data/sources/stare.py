"""STARE: 20 retinal photographs with vessel masks of two observers, 605 x 700 pixels.

Hoover et al., Locating blood vessels in retinal images by piecewise threshold probing, TMI 2000,
https://cecas.clemson.edu/~ahoover/stare. The owners define no split: ``stare-16-4`` is SA-UNetv2's,
and the rules ``leave-im0001`` to ``leave-im0324`` leave one out (see ``rules``).

The owners publish no fields of view, so samples have no region.
"""

from pathlib import Path
from typing import ClassVar

from lightning_seg.data.sources.base import find_folder
from lightning_seg.data.sources.base.origins import Archive, Origin, PublicOrigin
from lightning_seg.data.sources.base.pairs import Files, Pairs, pair_files
from lightning_seg.data.splits import protocol_text
from lightning_seg.errors import InputError, unknown

_OWNERS = "http://cecas.clemson.edu/~ahoover/stare/probing"
OBSERVERS = ("ah", "vk")
NUMBERS = (1, 2, 3, 4, 5, 44, 77, 81, 82, 139, 162, 163, 235, 236, 239, 240, 255, 291, 319, 324)
_RULE = (
    "the last 4 by name test, as in SA-UNetv2 (inferred from its notebook); of its 16 training images the last 2 by name "
    "validate: lightning_seg.data.sources.stare.protocol()."
)


class STARE(Pairs):
    """``stare-images/*.ppm`` (or ``images/``) and ``labels-ah/*.ah.ppm``, as archived or unpacked.

    Args:
        root: the folder that holds these two, or its parent; default: ``STARE`` or ``stare`` in
            $LIGHTNING_SEG_DATA.
        observer: whose masks: ``ah`` (Hoover, the usual truth) or ``vk`` (Kouznetsova).
        mask_threshold: see ``Pairs``.
    """

    classes: ClassVar[tuple[str, ...]] = ("vessel",)
    default_protocol: ClassVar[str] = "stare-16-4"
    origin: ClassVar[Origin] = PublicOrigin(
        "STARE",
        (
            Archive(
                f"{_OWNERS}/stare-images.tar",
                "stare-images",
                "5f7b509b6067cad4f1be84933145d783de9ec087b3eaaf4db0103dd0144dd433",
            ),
            Archive(
                f"{_OWNERS}/labels-ah.tar",
                "labels-ah",
                "ebf2f1e17ca955f24579d9edd990e2dae79a5c82def69f0985d8e24f826ddd2f",
            ),
            Archive(
                f"{_OWNERS}/labels-vk.tar",
                "labels-vk",
                "47474a701536b0cfdb369fdce012be36141e9f44d80387f0179446b5cb0f5576",
            ),
        ),
    )
    title: ClassVar[str] = "STARE"
    names: ClassVar[tuple[str, ...]] = ("STARE", "stare")

    def __init__(
        self,
        root: Path | None = None,
        observer: str = "ah",
        mask_threshold: int | None = None,
    ) -> None:
        if observer not in OBSERVERS:
            raise unknown("observer of STARE", observer, OBSERVERS)
        self.observer = observer
        super().__init__(root, mask_threshold)

    def find_files(self, place: Path) -> Files:
        """The image and the observer's mask of each id."""
        labels = f"labels-{self.observer}"
        for images in ("stare-images", "images"):
            folder = find_folder(place, self.names, (images, labels))
            if folder is not None:
                both = folder / images, folder / labels
                return dict(pair_files(*both, lambda stem: f"{stem}.{self.observer}"))
        raise InputError(
            f"{place} does not hold stare-images/ and {labels}/; give the folder of STARE."
        )


def protocol() -> str:
    """The text of ``protocols/stare-16-4.csv``, made by the rule in its header."""
    ids = [f"im{number:04d}" for number in NUMBERS]
    split = {"train": ids[:14], "val": ids[14:16], "test": ids[16:]}
    return protocol_text("stare-16-4", 1, _RULE, split)
