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
    """A linear axis. ``whole``: ticks at whole numbers only; ``names``: text for the ticks 0, 1, 2, ... of categories."""

    label: str
    low: float
    high: float
    whole: bool = False
    names: tuple[str, ...] = ()

    def at(self, value: float) -> float:
        """Where a value stands between 0 and 1."""
        return (value - self.low) / ((self.high - self.low) or 1.0)

    def ticks(self) -> list[tuple[float, str]]:
        if self.names:
            return list(enumerate(self.names))
        raw = (self.high - self.low) / 5 or 1.0
        power = 10.0 ** math.floor(math.log10(raw))
        step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * 0.95)
        step = max(1.0, round(step)) if self.whole else step
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [(i * step, f"{i * step:.6g}") for i in range(first, last + 1)]


@dataclass
class Plot:
    """Marks in a frame. ``alt`` is what a screen reader says; ``css`` names a class of the style sheet."""

    x: Axis
    y: Axis
    alt: str
    height: int = HEIGHT
    marks: list[Markup] = field(default_factory=list)

    @property
    def left(self) -> float:
        return (
            14
            + CHARACTER * max(len(name) for _, name in self.y.ticks())
            + (18 if self.y.label else 0)
        )

    def px(self, value: float) -> float:
        return round(self.left + (WIDTH - self.left - RIGHT) * self.x.at(value), 1)

    def py(self, value: float) -> float:
        return round(self.height - BOTTOM - (self.height - TOP - BOTTOM) * self.y.at(value), 1)

    def line(
        self,
        xs: Sequence[float],
        ys: Sequence[float],
        css: str,
    ) -> None:
        """A line through the points; where there is a single one, a dot."""
        every = math.ceil(len(xs) / MOST) or 1
        points = [
            (x, y) for x, y in zip(xs, ys, strict=True) if math.isfinite(x) and math.isfinite(y)
        ]
        kept = points[::every] + (points[-1:] if len(points) % every != 1 % every else [])
        if len(kept) < 2:
            self.dots([x for x, _ in kept], [y for _, y in kept], css)
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
        path = "".join(f"M{self.px(x)} {self.py(y)}h0" for x, y in zip(xs, ys, strict=True))
        self.marks.append(
            Markup('<path class="dots {}" stroke-width="{}" d="{}"/>').format(css, 2 * radius, path)
        )

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
        circle = dot.format(css, self.px(x), self.py(y), title)
        self.marks.append(
            Markup('<a href="#{}">{}</a>').format(target, circle) if target else circle
        )

    def segment(
        self,
        start: tuple[float, float],
        end: tuple[float, float],
        css: str,
    ) -> None:
        places = (self.px(start[0]), self.py(start[1]), self.px(end[0]), self.py(end[1]))
        self.marks.append(
            Markup('<line class="{}" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(css, *places)
        )

    def text(
        self,
        x: float,
        y: float,
        text: str,
        css: str = "note",
        anchor: str = "start",
    ) -> None:
        mark = Markup('<text class="{}" x="{}" y="{}" text-anchor="{}">{}</text>')
        self.marks.append(mark.format(css, self.px(x), self.py(y), anchor, text))

    def svg(self) -> Markup:
        opening = (
            f'<svg viewBox="0 0 {WIDTH} {self.height}" role="img" aria-label="{escape(self.alt)}">'
        )
        return Markup(opening) + self._frame() + Markup("").join(self.marks) + Markup("</svg>")

    def _frame(self) -> Markup:
        right, bottom = WIDTH - RIGHT, self.height - BOTTOM
        parts = [Markup('<path class="frame" d="M{} {}H{}"/>').format(self.left, bottom, right)]
        grid, text = (
            Markup('<path class="grid" d="{}"/>'),
            Markup('<text x="{}" y="{}" text-anchor="{}">{}</text>'),
        )
        for value, name in self.x.ticks():
            parts.append(text.format(self.px(value), bottom + 15, "middle", name))
        for value, name in self.y.ticks():
            parts.append(grid.format(f"M{self.left} {self.py(value)}H{right}"))
            parts.append(text.format(self.left - 6, self.py(value) + 4, "end", name))
        parts.append(text.format((self.left + right) / 2, self.height - 6, "middle", self.x.label))
        if self.y.label:
            turned = Markup(
                '<text transform="translate(11 {}) rotate(-90)" text-anchor="middle">{}</text>'
            )
            parts.append(turned.format((TOP + bottom) / 2, self.y.label))
        return Markup("").join(parts)
