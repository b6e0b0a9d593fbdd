"""EndoTect 2020: 200 frames to test polyp segmentation (see ``base.polyp_test``)."""

from functools import partial
from typing import ClassVar

from lightning_seg.data.rules import Rule, for_testing
from lightning_seg.data.sources.base.origins import GuardedOrigin, Origin
from lightning_seg.data.sources.base.polyp_test import PolypTest


class EndoTect(PolypTest):
    __doc__ = PolypTest.__doc__
    default_protocol: ClassVar[str] = "endotect"
    origin: ClassVar[Origin] = GuardedOrigin(
        "its owners give it on request",
        "EndoTect/images/*.jpg and EndoTect/masks/*, named alike",
    )
    rules: ClassVar[dict[str, Rule]] = {"endotect": partial(for_testing, "endotect")}
    title: ClassVar[str] = "EndoTect"
    names: ClassVar[tuple[str, ...]] = (
        "EndoTect_2020_Segmentation_Test_Dataset",
        "EndoTect",
        "endotect",
    )
