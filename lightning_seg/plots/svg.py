"""A plot as inline SVG, coloured by the page's style sheet, so that it follows light and dark."""

from markupsafe import Markup, escape

from lightning_seg.plots.plot import (
    TOP,
    CellsMark,
    DiscMark,
    DotsMark,
    LineMark,
    Mark,
    Plot,
    SegmentMark,
    TextMark,
)

_TEXT = Markup('<text class="{}" x="{}" y="{}" text-anchor="{}">{}</text>')


def draw_svg(plot: Plot) -> Markup:
    """Draw a plot for a page whose style sheet holds `PLOT_STYLE`."""
    box = f"0 0 {plot.width} {plot.height}"
    opening = f'<svg viewBox="{box}" role="img" aria-label="{escape(plot.alt)}">'
    marks = [_mark(plot, mark) for mark in plot.marks]
    return Markup("").join([Markup(opening), *_frame(plot), *marks, Markup("</svg>")])


def _mark(plot: Plot, mark: Mark) -> Markup:
    match mark:
        case LineMark(points, css):
            path = " ".join(f"{x},{y}" for x, y in plot.pixels(points))
            return Markup('<polyline class="line {}" points="{}"/>').format(css, path)
        case DotsMark(points, css, radius):
            path = "".join(f"M{x} {y}h0" for x, y in plot.pixels(points))
            dots = Markup('<path class="dots {}" stroke-width="{}" d="{}"/>')
            return dots.format(css, 2 * radius, path)
        case DiscMark():
            return _disc(plot, mark)
        case SegmentMark(start, end, css):
            (x1, y1), (x2, y2) = plot.pixels((start, end))
            segment = Markup('<line class="{}" x1="{}" y1="{}" x2="{}" y2="{}"/>')
            return segment.format(css, x1, y1, x2, y2)
        case TextMark(place, text, css, anchor):
            return _TEXT.format(css, *plot.pixels([place])[0], anchor, text)
        case CellsMark():
            raise NotImplementedError("a matrix is drawn as a picture only")


def _disc(plot: Plot, mark: DiscMark) -> Markup:
    """The disc, in a link where it leads somewhere."""
    x, y = plot.pixels([mark.place])[0]
    circle = Markup('<circle class="disc {}" cx="{}" cy="{}" r="{}"><title>{}</title></circle>')
    drawn = circle.format(mark.css, x, y, mark.radius, mark.title)
    if mark.text:
        drawn += _TEXT.format("inside", x, round(y + 3.6, 1), "middle", mark.text)
    if mark.target:
        drawn = Markup('<a href="#{}">{}</a>').format(mark.target, drawn)
    return drawn


def _frame(plot: Plot) -> list[Markup]:
    """The axes with ticks and labels.

    Grid lines stand at the ticks of y, and at those of x where y has none or x is logarithmic.
    """
    left, right, bottom = plot.left, plot.right, plot.bottom
    grid = Markup('<path class="grid" d="{}"/>')
    parts = [Markup('<path class="frame" d="M{} {}H{}"/>').format(left, bottom, right)]
    for value, name in plot.x.ticks():
        x = plot.px(value)
        if plot.x.log or plot.y.bare:
            parts.append(grid.format(f"M{x} {TOP}V{bottom}"))
        parts.append(_TEXT.format("", x, bottom + 15, "middle", name))
    for value, name in plot.y.ticks():
        y = plot.py(value)
        parts.append(grid.format(f"M{left} {y}H{right}"))
        parts.append(_TEXT.format("", round(left - 6, 1), round(y + 4, 1), "end", name))
    middle = round((left + right) / 2, 1)
    parts.append(_TEXT.format("", middle, plot.height - 6, "middle", plot.x.label))
    if plot.y.label:
        turned = '<text transform="translate(11 {}) rotate(-90)" text-anchor="middle">{}</text>'
        parts.append(Markup(turned).format((TOP + bottom) / 2, plot.y.label))
    return parts
