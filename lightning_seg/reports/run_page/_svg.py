"""A plot as inline SVG, coloured by the page's style sheet, so that it follows light and dark."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup, escape

WIDTH, HEIGHT = 360, 232
RIGHT, TOP, BOTTOM = 12, 12, 40  # margins around the frame; the left one follows from the ticks
CHARACTER = 6.8  # width of a digit
MOST = 600  # points of a line: more cannot be seen


@dataclass(frozen=True)
class Axis:
    """A linear axis. ``whole``: ticks at whole numbers only; ``names``: text for the ticks 0, 1, 2,
    ... of categories."""

    label: str
    low: float
    high: float
    whole: bool = False
    names: tuple[str, ...] = ()

    def at(self, value: float) -> float:
        """The place of a value between 0 and 1."""
        extent = (self.high - self.low) or 1.0
        return (value - self.low) / extent

    def ticks(self) -> list[tuple[float, str]]:
        if self.names:
            return list(enumerate(self.names))
        raw = (self.high - self.low) / 5 or 1.0
        power = 10.0 ** math.floor(math.log10(raw))
        steps = [factor * power for factor in (1, 2, 5, 10)]
        step = next(each for each in steps if each >= raw * 0.95)
        step = max(1.0, round(step)) if self.whole else step
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        places = [i * step for i in range(first, last + 1)]
        return [(place, f"{place:.6g}") for place in places]


@dataclass
class Plot:
    """Marks in a frame. ``alt`` is what a screen reader says; ``css`` names a class of the style
    sheet."""

    x: Axis
    y: Axis
    alt: str
    height: int = HEIGHT
    marks: list[Markup] = field(default_factory=list)

    @property
    def left(self) -> float:
        longest = max(len(name) for _, name in self.y.ticks())
        label = 18 if self.y.label else 0
        return 14 + CHARACTER * longest + label

    def px(self, value: float) -> float:
        width = WIDTH - self.left - RIGHT
        return round(self.left + width * self.x.at(value), 1)

    def py(self, value: float) -> float:
        height = self.height - TOP - BOTTOM
        return round(self.height - BOTTOM - height * self.y.at(value), 1)

    def line(
        self,
        xs: Sequence[float],
        ys: Sequence[float],
        css: str,
    ) -> None:
        """A line through the points; where there is a single one, a dot."""
        every = math.ceil(len(xs) / MOST) or 1
        points = [point for point in zip(xs, ys, strict=True) if all(map(math.isfinite, point))]
        kept = points[::every]
        if len(points) % every != 1 % every:
            kept += points[-1:]
        if len(kept) < 2:
            shown_xs = [x for x, _ in kept]
            shown_ys = [y for _, y in kept]
            self.dots(shown_xs, shown_ys, css)
        path = " ".join(f"{self.px(x)},{self.py(y)}" for x, y in kept)
        self.marks.append(Markup('<polyline class="line {}" points="{}"/>').format(css, path))

    def dots(
        self,
        xs: Iterable[float],
        ys: Iterable[float],
        css: str,
        radius: float = 3,
    ) -> None:
        """Many dots as one path."""
        points = zip(xs, ys, strict=True)
        path = "".join(f"M{self.px(x)} {self.py(y)}h0" for x, y in points)
        mark = Markup('<path class="dots {}" stroke-width="{}" d="{}"/>')
        self.marks.append(mark.format(css, 2 * radius, path))

    def link(
        self,
        x: float,
        y: float,
        css: str,
        target: str,
        title: str,
    ) -> None:
        """A dot with a tooltip that leads to an element of the page."""
        dot = Markup('<circle class="{}" cx="{}" cy="{}" r="4.5"><title>{}</title></circle>')
        mark = dot.format(css, self.px(x), self.py(y), title)
        if target:
            mark = Markup('<a href="#{}">{}</a>').format(target, mark)
        self.marks.append(mark)

    def segment(
        self,
        start: tuple[float, float],
        end: tuple[float, float],
        css: str,
    ) -> None:
        x1, y1 = start
        x2, y2 = end
        mark = Markup('<line class="{}" x1="{}" y1="{}" x2="{}" y2="{}"/>')
        ends = (self.px(x1), self.py(y1), self.px(x2), self.py(y2))
        self.marks.append(mark.format(css, *ends))

    def text(
        self,
        x: float,
        y: float,
        text: str,
        css: str = "note",
        anchor: str = "start",
    ) -> None:
        mark = Markup('<text class="{}" x="{}" y="{}" text-anchor="{}">{}</text>')
        place = (self.px(x), self.py(y))
        self.marks.append(mark.format(css, *place, anchor, text))

    def svg(self) -> Markup:
        opening = (
            f'<svg viewBox="0 0 {WIDTH} {self.height}" role="img" aria-label="{escape(self.alt)}">'
        )
        marks = Markup("").join(self.marks)
        return Markup(opening) + self._frame() + marks + Markup("</svg>")

    def _frame(self) -> Markup:
        right, bottom = WIDTH - RIGHT, self.height - BOTTOM
        parts = [Markup('<path class="frame" d="M{} {}H{}"/>').format(self.left, bottom, right)]
        grid = Markup('<path class="grid" d="{}"/>')
        text = Markup('<text x="{}" y="{}" text-anchor="{}">{}</text>')
        for value, name in self.x.ticks():
            parts.append(text.format(self.px(value), bottom + 15, "middle", name))
        for value, name in self.y.ticks():
            y = self.py(value)
            parts.append(grid.format(f"M{self.left} {y}H{right}"))
            parts.append(text.format(self.left - 6, y + 4, "end", name))
        middle = (self.left + right) / 2
        parts.append(text.format(middle, self.height - 6, "middle", self.x.label))
        if self.y.label:
            turned = Markup(
                '<text transform="translate(11 {}) rotate(-90)" text-anchor="middle">{}</text>'
            )
            parts.append(turned.format((TOP + bottom) / 2, self.y.label))
        return Markup("").join(parts)
