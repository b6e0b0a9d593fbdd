"""A plot: what is to be drawn, in the values of its axes."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lightning_seg.plots.axis import Axis

WIDTH, HEIGHT = 360, 232
TOP, RIGHT, BOTTOM = 12, 12, 40  # margins around the frame; the left one follows from the ticks
CHARACTER = 6.8  # width of a digit
MOST = 600  # points of a line: more cannot be seen

Point = tuple[float, float]


@dataclass(frozen=True)
class LineMark:
    """A line through points."""

    points: tuple[Point, ...]
    css: str


@dataclass(frozen=True)
class DotsMark:
    """Many dots of one look."""

    points: tuple[Point, ...]
    css: str
    radius: float


@dataclass(frozen=True)
class DiscMark:
    """A disc with a tooltip and a text inside, that may lead to an element of the page."""

    place: Point
    css: str
    title: str
    target: str
    text: str
    radius: float


@dataclass(frozen=True)
class SegmentMark:
    """A straight line between two points."""

    start: Point
    end: Point
    css: str


@dataclass(frozen=True)
class TextMark:
    """Words at a point: ``start``, ``middle`` or ``end`` of them stands there."""

    place: Point
    text: str
    css: str
    anchor: str


@dataclass(frozen=True, eq=False)
class CellsMark:
    """A matrix of values from 0 to 1 as coloured cells, around the whole numbers of both axes."""

    values: NDArray[np.float64]


Mark = LineMark | DotsMark | DiscMark | SegmentMark | TextMark | CellsMark


@dataclass
class Plot:
    """Marks in a frame.

    Attributes:
        alt: what a screen reader says.
        margin: the room at the right of the frame.
        marks: what is drawn, the last on top; their ``css`` names classes of `PLOT_STYLE` or of
            the page.
    """

    x: Axis
    y: Axis
    alt: str
    height: int = HEIGHT
    width: int = WIDTH
    margin: int = RIGHT
    marks: list[Mark] = field(default_factory=list)

    @property
    def left(self) -> float:
        """The left end of the frame."""
        longest = max((len(name) for _, name in self.y.ticks()), default=0)
        label = 18 if self.y.label else 0
        return 14 + CHARACTER * longest + label

    @property
    def right(self) -> float:
        """The right end of the frame."""
        return self.width - self.margin

    @property
    def bottom(self) -> float:
        """The lower end of the frame."""
        longest = max((len(name) for _, name in self.x.ticks()), default=0)
        return self.height - BOTTOM - (CHARACTER * longest if self.x.turned else 0)

    def px(self, value: float) -> float:
        """The pixel of a value across."""
        return round(self.left + (self.right - self.left) * self.x.at(value), 1)

    def py(self, value: float) -> float:
        """The pixel of a value from above."""
        return round(self.bottom - (self.bottom - TOP) * self.y.at(value), 1)

    def pixels(self, points: Iterable[Point]) -> list[Point]:
        """The pixels of points."""
        return [(self.px(x), self.py(y)) for x, y in points]

    def line(
        self,
        xs: Sequence[float],
        ys: Sequence[float],
        css: str,
    ) -> None:
        """Draw a line through the points; a single one is a dot."""
        points = [point for point in zip(xs, ys, strict=True) if all(map(math.isfinite, point))]
        every = math.ceil(len(points) / MOST) or 1
        kept = points[::every]
        if len(points) % every != 1 % every:
            kept += points[-1:]
        if len(kept) < 2:
            self.marks.append(DotsMark(tuple(kept), css, 3))
        else:
            self.marks.append(LineMark(tuple(kept), css))

    def dots(
        self,
        xs: Iterable[float],
        ys: Iterable[float],
        css: str,
        radius: float = 3,
    ) -> None:
        """Draw many dots."""
        self.marks.append(DotsMark(tuple(zip(xs, ys, strict=True)), css, radius))

    def disc(
        self,
        x: float,
        y: float,
        css: str,
        title: str,
        target: str = "",
        text: str = "",
        radius: float = 4.5,
    ) -> None:
        """Draw a disc with a tooltip, a text inside and an element of the page that it leads to."""
        self.marks.append(DiscMark((x, y), css, title, target, text, radius))

    def segment(self, start: Point, end: Point, css: str) -> None:
        """Draw a straight line."""
        self.marks.append(SegmentMark(start, end, css))

    def text(
        self,
        x: float,
        y: float,
        text: str,
        css: str = "",
        anchor: str = "start",
    ) -> None:
        """Write words."""
        self.marks.append(TextMark((x, y), text, css, anchor))

    def cells(self, values: NDArray[np.float64]) -> None:
        """Draw a matrix, its first row at the bottom."""
        self.marks.append(CellsMark(values))
