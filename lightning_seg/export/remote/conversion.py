"""Stands here for the file that an export carries: the text of ``data.reading.conversion``."""

from lightning_seg.data.reading.conversion import picture_array

__all__ = ["picture_array"]
