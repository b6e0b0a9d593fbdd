"""Plots: marks in a frame, drawn as SVG for a page or as a picture."""

from lightning_seg.plots.axis import Axis
from lightning_seg.plots.picture import draw_picture, write_picture
from lightning_seg.plots.plot import Plot
from lightning_seg.plots.svg import PLOT_STYLE, draw_svg

__all__ = ["PLOT_STYLE", "Axis", "Plot", "draw_picture", "draw_svg", "write_picture"]
