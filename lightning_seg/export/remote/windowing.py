"""Stands here for the file that an export carries: the text of ``data.reading.windowing``."""

from lightning_seg.data.reading.windowing import channels_in_memory, checked_window, windowed

__all__ = ["channels_in_memory", "checked_window", "windowed"]
