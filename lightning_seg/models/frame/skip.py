"""What a network may put between its encoder and its decoder: ``skip="dca"`` or ``skip={"name":
"dca", "heads": 8}``.

A skip module turns a pyramid into one of the same shapes. Its ``raw`` says whether it norms the
skips itself: encoders that can then hand out the sums before their norm and activation
(`TappedEncoder`).
"""

import inspect
from collections.abc import Sequence
from typing import Any

from torch import nn

from lightning_seg.errors import unknown
from lightning_seg.models.frame.dual_cross_attention import DualCrossAttention
from lightning_seg.models.frame.options import typed


class PlainSkip(nn.Identity):
    """The pyramid as it is."""

    raw = False


SKIPS = {"dca": DualCrossAttention}


def make_skip(
    skip: str | dict[str, Any] | None,
    channels: Sequence[int],
    strides: Sequence[int] | None = None,
) -> PlainSkip | DualCrossAttention:
    """The skip module ``skip`` for a pyramid, fine to coarse and with the bottleneck, which it
    leaves alone.

    Args:
        skip: a name, or a dictionary of ``name`` and options of its constructor, or None for plain
            skips.
        channels, strides: of the pyramid (default strides: 1, 2, 4, ...).
    """
    if skip is None:
        return PlainSkip()
    options = {"name": skip} if isinstance(skip, str) else dict(skip)
    name = options.pop("name", None)
    if name not in SKIPS:
        raise unknown("skip", name, SKIPS)
    known = inspect.signature(SKIPS[name]).parameters.keys() - {"channels", "strides"}
    for option in options.keys() - known:
        raise unknown(f"option of skip {name}", option, known)
    options = typed(f"skip {name!r}", SKIPS[name], options, skip={"channels", "strides"})
    return SKIPS[name](channels, strides or [2**i for i in range(len(channels))], **options)
