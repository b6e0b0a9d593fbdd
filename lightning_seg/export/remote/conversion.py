"""Stands here for the file that an export carries: the text of ``data.reading.conversion``."""

from lightning_seg.data.reading.conversion import (
    COLOURS_LOST,
    NEARLY_BLACK,
    is_coloured,
    picture_array,
)

__all__ = ["COLOURS_LOST", "NEARLY_BLACK", "is_coloured", "picture_array"]
