"""What a network may put between its encoder and its decoder: ``skip="dca"`` or ``skip={"name": "dca", "heads": 8}``.

A skip module turns a pyramid into one of the same shapes. Its ``raw`` says whether it norms the skips itself: encoders that can then
hand out the sums before their norm and activation (`TappedEncoder`).
"""

from collections.abc import Sequence
from typing import Any

from torch import nn

from lightning_seg.errors import InputError, unknown
from lightning_seg.models._dca import DualCrossAttention


class PlainSkip(nn.Identity):
    """The pyramid as it is."""

    raw = False


SKIPS = {"dca": DualCrossAttention}


def make_skip(
    skip: str | dict[str, Any] | None, channels: Sequence[int], strides: Sequence[int] | None = None
) -> PlainSkip | DualCrossAttention:
    """The skip module ``skip`` for a pyramid, fine to coarse and with the bottleneck, which it leaves alone.

    Args:
        skip: a name, or a dictionary of ``name`` and options of its constructor, or None for plain skips.
        channels, strides: of the pyramid (default strides: 1, 2, 4, ...).
    """
    if skip is None:
        return PlainSkip()
    options = {"name": skip} if isinstance(skip, str) else dict(skip)
    name = options.pop("name", None)
    if name not in SKIPS:
        raise unknown("skip", name, SKIPS)
    return SKIPS[name](channels, strides or [2**i for i in range(len(channels))], **_typed(name, options))


def _typed(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """The options as their annotated types; a misspelt or mistyped one is a sentence."""
    from jsonargparse import ArgumentError, ArgumentParser

    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(SKIPS[name], skip={"channels", "strides"})
    defaults = parser.get_defaults().as_dict()
    for option in options:
        if option not in defaults:
            raise unknown(f"option of skip {name}", option, defaults)
    try:
        return parser.parse_object(options).as_dict()
    except ArgumentError as error:
        raise InputError(f"skip {name!r} does not take these options: {' '.join(str(error).split())}") from error
