"""Plots: marks in a frame, drawn as SVG for a page or as a picture; and the look of pages."""

from lightning_seg.plots.axis import Axis
from lightning_seg.plots.page import PAGE_STYLE, PLOT_STYLE, SORT_SCRIPT, page_environment
from lightning_seg.plots.picture import draw_picture, write_picture
from lightning_seg.plots.plot import Plot
from lightning_seg.plots.svg import draw_svg

__all__ = [
    "PAGE_STYLE",
    "PLOT_STYLE",
    "SORT_SCRIPT",
    "Axis",
    "Plot",
    "draw_picture",
    "draw_svg",
    "page_environment",
    "write_picture",
]
