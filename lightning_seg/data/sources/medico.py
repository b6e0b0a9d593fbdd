"""Medico 2020: 160 frames to test polyp segmentation (see ``base.polyp_test``)."""

from functools import partial
from typing import ClassVar

from lightning_seg.data.rules import Rule, for_testing
from lightning_seg.data.sources.base.origins import GuardedOrigin, Origin
from lightning_seg.data.sources.base.polyp_test import PolypTest


class Medico(PolypTest):
    __doc__ = PolypTest.__doc__
    default_protocol: ClassVar[str] = "medico"
    origin: ClassVar[Origin] = GuardedOrigin(
        "its owners give it on request",
        "Medico/images/*.jpg and Medico/masks/*, named alike",
    )
    rules: ClassVar[dict[str, Rule]] = {"medico": partial(for_testing, "medico")}
    title: ClassVar[str] = "Medico"
    names: ClassVar[tuple[str, ...]] = (
        "Medico_automatic_polyp_segmentation_challenge_test_data",
        "Medico",
        "medico",
    )
