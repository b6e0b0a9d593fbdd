"""How much of a picture its masks cover, and whether they seem to mark what surrounds the class."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from lightning_seg.tables import count_text

NEARLY_FULL = 0.9  # share of a picture


class Covering(Protocol):
    """Anything that says how much of a picture its classes cover, as `MaskShare` does."""

    @property
    def foreground(self) -> tuple[float, ...]: ...

    @property
    def rim(self) -> float: ...


class MaskShare(NamedTuple):
    """How much of a picture its classes cover.

    Attributes:
        foreground: each class's share of the pixels.
        rim: share of the picture's outermost pixels that belong to a class.
    """

    foreground: tuple[float, ...]
    rim: float


def mask_share(mask: np.ndarray) -> MaskShare:
    """Measure a mask (H, W, K) of 0 and 1."""
    # class by class and side by side: numpy reduces a short last axis twenty times as slowly
    height, width, classes = mask.shape
    counts = [np.count_nonzero(mask[..., k]) for k in range(classes)]
    sides = [side.max(axis=1) for side in (mask[0], mask[-1], mask[:, 0], mask[:, -1])]
    rim = float(np.concatenate(sides).mean())
    return MaskShare(tuple(count / (height * width) for count in counts), rim)


def seems_inverted(masks: Sequence[Covering]) -> bool:
    """Tell whether the one class surrounds what should be it: in most masks it fills the rim and
    over half."""
    single = [mask for mask in masks if len(mask.foreground) == 1]
    around = [mask for mask in single if mask.rim > NEARLY_FULL and 0.5 < mask.foreground[0] < 1]
    return len(around) > len(masks) / 2


INVERTED = (
    "the class fills the rim of the picture and over half of it, as if the background were marked"
)


def covering_doubt(masks: Sequence[Covering], what: str, few: float = 0.0) -> str:
    """Doubts about masks that cover much, in words: inverted, or nearly whole pictures;
    empty where they do not.

    Args:
        what: one of them, in words, such as ``training mask``.
        few: share of the masks that may cover nearly whole pictures.
    """
    if seems_inverted(masks):
        return f"in most {what}s {INVERTED}"
    count = sum(max(mask.foreground) > NEARLY_FULL for mask in masks)
    if count <= few * len(masks):
        return ""
    covered = f"a class covers over {NEARLY_FULL:.0%} of the picture"
    return f"in {count} of {count_text(len(masks), what)} {covered}"
