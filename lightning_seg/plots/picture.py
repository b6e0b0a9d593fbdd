"""A plot as a picture, for TensorBoard and for files."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from lightning_seg.plots.plot import (
    RIGHT,
    TOP,
    CellsMark,
    DiscMark,
    DotsMark,
    LineMark,
    Mark,
    Plot,
    Point,
    SegmentMark,
    TextMark,
)

Picture = NDArray[np.uint8]

# the light colours of the pages
PAPER, INK, QUIET, GRID = "#ffffff", "#1b1f24", "#58606b", "#d9dde3"
COLOURS = {"s1": "#0060a8", "s2": "#b84a00", "s3": "#00785a", "mark": QUIET}
STROKES = {"line": 2, "mark": 1, "interval": 3, "mean": 2}  # class -> width
FINER = 2  # lines and discs have smooth edges: they are drawn finer than they are shown
FONT = 12  # pixels of a text
ALIGNED = {"start": "l", "middle": "m", "end": "r"}
BAR = 10  # width of the colour bar of a matrix


def draw_picture(plot: Plot, scale: int = 2) -> Picture:
    """Draw a plot in light colours as RGB (scale * height, scale * width, 3)."""
    canvas = _Canvas.empty(plot, scale * FINER)
    canvas.draw_frame()
    for mark in plot.marks:
        canvas.draw(mark)
    size = (scale * plot.width, scale * plot.height)
    return np.asarray(canvas.image.resize(size, Image.Resampling.BOX))


def write_picture(path: Path, plot: Plot) -> None:
    """Write a plot as a PNG, whatever the file is called."""
    Image.fromarray(draw_picture(plot)).save(path, "PNG")


@dataclass(frozen=True)
class _Canvas:
    """A picture in the making; places and sizes are those of the plot."""

    plot: Plot
    image: Image.Image
    pen: ImageDraw.ImageDraw
    scale: int

    @classmethod
    def empty(cls, plot: Plot, scale: int) -> "_Canvas":
        image = Image.new("RGB", (scale * plot.width, scale * plot.height), PAPER)
        return cls(plot, image, ImageDraw.Draw(image), scale)

    def draw(self, mark: Mark) -> None:
        match mark:
            case LineMark(points, css):
                self._line(self.plot.pixels(points), _colour(css), STROKES["line"])
            case DotsMark(points, css, radius):
                for place in self.plot.pixels(points):
                    self._disc(place, radius, _colour(css))
            case DiscMark():
                place = self.plot.pixels([mark.place])[0]
                self._disc(place, mark.radius + 0.75, PAPER)
                self._disc(place, mark.radius, _colour(mark.css))
            case SegmentMark(start, end, css):
                width = STROKES.get(css.split()[0], 1)
                self._line(self.plot.pixels((start, end)), _colour(css), width)
            case TextMark(place, text, css, anchor):
                colour = INK if "label" in css.split() else QUIET
                self._text(self.plot.pixels([place])[0], text, f"{ALIGNED[anchor]}s", colour)
            case CellsMark(values):
                self._cells(values)

    def draw_frame(self) -> None:
        """Draw axes with ticks and labels, as `draw_svg` does."""
        plot = self.plot
        left, right, bottom = plot.left, plot.right, plot.bottom
        for value, name in plot.x.ticks():
            x = plot.px(value)
            if plot.x.log or plot.y.bare:
                self._line([(x, TOP), (x, bottom)], GRID, 1)
            if plot.x.turned:
                self._turned_text((x, bottom + 6), name, "top")
            else:
                self._text((x, bottom + 15), name, "ms", QUIET)
        for value, name in plot.y.ticks():
            y = plot.py(value)
            self._line([(left, y), (right, y)], GRID, 1)
            self._text((left - 6, y), name, "rm", QUIET)
        self._line([(left, bottom), (right, bottom)], QUIET, 1)
        self._text(((left + right) / 2, plot.height - 6), plot.x.label, "ms", QUIET)
        if plot.y.label:
            self._turned_text((11, (TOP + bottom) / 2), plot.y.label, "middle")

    def _line(self, points: list[Point], colour: str, width: float) -> None:
        scaled = [self._scaled(point) for point in points]
        self.pen.line(scaled, colour, round(width * self.scale), "curve")

    def _disc(self, place: Point, radius: float, colour: str) -> None:
        self.pen.circle(self._scaled(place), radius * self.scale, colour)

    def _text(self, place: Point, text: str, anchor: str, colour: str) -> None:
        self.pen.text(self._scaled(place), text, colour, self._font(), anchor)

    def _turned_text(self, place: Point, text: str, end: str) -> None:
        """Write upwards around a place, or up to it."""
        font = self._font()
        width, height = round(font.getlength(text)) + 2, round(1.4 * FONT * self.scale)
        strip = Image.new("RGB", (max(width, 1), height), PAPER)
        ImageDraw.Draw(strip).text((0, height // 2), text, QUIET, font, "lm")
        x, y = self._scaled(place)
        top = y if end == "top" else y - width / 2
        self.image.paste(strip.rotate(90, expand=True), (round(x - height / 2), round(top)))

    def _cells(self, values: NDArray[np.float64]) -> None:
        """The matrix from the lower left corner up, and the bar of its colours."""
        rows, columns = values.shape
        plot = self.plot
        left, right = plot.px(-0.5), plot.px(columns - 0.5)
        top, bottom = plot.py(rows - 0.5), plot.py(-0.5)
        self._paste(values[::-1], (left, top), (right, bottom))
        bar = plot.width - RIGHT - BAR
        self._paste(np.linspace(1, 0, 64)[:, None], (bar, top), (bar + BAR, bottom))
        for value, y in ((0, bottom), (0.5, (top + bottom) / 2), (1, top + FONT / 2)):
            self._text((bar - 4, y), f"{value:g}", "rm", QUIET)

    def _paste(self, values: NDArray[np.float64], start: Point, end: Point) -> None:
        grey = np.rint(255 * np.nan_to_num(values).clip(0, 1)).astype(np.uint8)
        colours = cv2.cvtColor(cv2.applyColorMap(grey, cv2.COLORMAP_MAGMA), cv2.COLOR_BGR2RGB)
        (x1, y1), (x2, y2) = map(self._scaled, (start, end))
        size = (round(x2 - x1), round(y2 - y1))
        enlarged = Image.fromarray(colours).resize(size, Image.Resampling.NEAREST)
        self.image.paste(enlarged, (round(x1), round(y1)))

    def _scaled(self, place: Point) -> Point:
        return self.scale * place[0], self.scale * place[1]

    def _font(self) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
        return _load_font(FONT * self.scale)


@cache
def _load_font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _colour(css: str) -> str:
    """The colour of the last class that has one."""
    named = [COLOURS[name] for name in css.split() if name in COLOURS]
    return named[-1] if named else INK
