"""Plots of a board as SVG that takes its colours from the page: narrow, so that a phone shows them at full size."""

from collections.abc import Callable, Iterable, Sequence
from html import escape
from math import ceil, floor, log10

import numpy as np

from experiments.leaderboard.boards import Board, BoardLine

WIDTH, LEFT, RIGHT = 420, 44, 12
Scale = Callable[[float], float]


def pareto(board: Board) -> str:
    """Dice against multiply-adds (or parameters, where an image has no one size): the front of accuracy and cost, or ''."""
    lines = [line for line in board.lines if line.ranking.rank and line.first.parameters]
    if len(lines) < 2:
        return ""
    counted = all(line.first.gmacs for line in lines)
    costs = [
        float((line.first.gmacs if counted else (line.first.parameters or 0) / 1e6) or 0)
        for line in lines
    ]
    values = [line.ranking.value for line in lines]
    bottom, top = 260, 14
    x = _log_scale(min(costs) / 1.4, max(costs) * 1.4)
    low, high = _at_least(0.02, min(values), max(values))
    y = _scale(low, high, bottom - 12, top + 8)
    body = [_tick_y(value, y) for value in _steps(low, high)]
    body += [_tick_x(cost, x, bottom) for cost in _log_steps(min(costs) / 1.4, max(costs) * 1.4)]
    body.append(f'<polyline class="front" points="{_front(costs, values, x, y)}"/>')
    for line, cost in sorted(
        zip(lines, costs, strict=True), key=lambda pair: -pair[0].ranking.rank
    ):
        at, r = (x(cost), y(line.ranking.value)), line.ranking
        body.append(
            f'<g class="{_class(line)}"><title>{escape(_label(line))}, {cost:.2f}, {r.value:.4f}</title>'
            f'<circle cx="{at[0]:.1f}" cy="{at[1]:.1f}" r="8"/>'
            f'<text class="inside" x="{at[0]:.1f}" y="{at[1] + 3.6:.1f}">{r.rank}</text></g>'
        )
    unit = "GMACs of one image" if counted else "million parameters"
    body.append(_text(WIDTH / 2, bottom + 34, f"{unit}; in the circles the rank", "middle"))
    return _svg(bottom + 42, body, f"Dice against {unit}")


def ranks(board: Board) -> str:
    """The 95 % interval of each model's rank; '' for fewer than two models."""
    lines = [line for line in board.lines if line.ranking.rank]
    if len(lines) < 2:
        return ""
    x = _scale(1, len(lines), 20, WIDTH - 20)
    step = ceil(len(lines) / 12)
    bottom = 30 * len(lines) + 6
    body = [_tick_x(rank, x, bottom, ".0f") for rank in range(1, len(lines) + 1, step)]
    for place, line in enumerate(lines):
        top, r = 30 * place + 14, line.ranking
        body.append(
            f'<g class="{_class(line)}">{_text(4, top, _label(line))}'
            f'<path class="span" d="M{x(r.rank_low):.1f} {top + 9}H{x(r.rank_high):.1f}"/>'
            f'<circle cx="{x(r.rank):.1f}" cy="{top + 9}" r="5"/></g>'
        )
    body.append(_text(WIDTH / 2, bottom + 34, "rank", "middle"))
    return _svg(bottom + 42, body, "95 % intervals of the ranks")


def strips(board: Board) -> str:
    """The Dice of each test image (mean over the seeds), the mean and its interval; '' without per-image tables."""
    lines = [line for line in board.lines if len(line.images)]
    if not lines:
        return ""
    floor_ = min(0.9, floor(10 * min(float(line.images.min()) for line in lines)) / 10)
    x = _scale(floor_, 1, 20, WIDTH - 20)
    height = 42
    bottom = height * len(lines) + 6
    body = [_tick_x(value, x, bottom, ".1f") for value in _steps(floor_, 1)]
    for place, line in enumerate(lines):
        top, r = height * place + 14, line.ranking
        dots = "".join(f"M{x(v):.1f} {top + 5 + dy:.1f}h0" for v, dy in _jittered(line.images, 20))
        body.append(
            f'<g class="{_class(line)}">{_text(4, top, _label(line))}<path class="dots" d="{dots}"/>'
            f'<path class="bar" d="M{x(r.low):.1f} {top + 15}H{x(r.high):.1f}"/>'
            f'<path class="mean" d="M{x(r.value):.1f} {top + 4}V{top + 26}"/></g>'
        )
    body.append(_text(WIDTH / 2, bottom + 34, "Dice of each test image", "middle"))
    return _svg(bottom + 42, body, "Dice of each test image")


def _jittered(values: Iterable[float], height: int) -> list[tuple[float, float]]:
    """Each value with a height of its own, the same at every call."""
    return [(float(value), height * (place * 0.618034 % 1)) for place, value in enumerate(values)]


def _front(costs: Sequence[float], values: Sequence[float], x: Scale, y: Scale) -> str:
    """The step line of the models that no other one surpasses at equal or lower cost."""
    points: list[tuple[float, float]] = []
    best = -np.inf
    for cost, value in sorted(
        zip(costs, values, strict=True), key=lambda pair: (pair[0], -pair[1])
    ):
        if value > best:
            points += [(x(cost), y(best)), (x(cost), y(value))] if points else [(x(cost), y(value))]
            best = value
    points.append((WIDTH - RIGHT, y(best)))
    return " ".join(f"{px:.1f},{py:.1f}" for px, py in points)


def _at_least(span: float, low: float, high: float) -> tuple[float, float]:
    """The range, widened on both sides where it is narrower than ``span``."""
    more = max(0.0, span - (high - low)) / 2
    return low - more, high + more


def _class(line: BoardLine) -> str:
    return {"leader": "best", "tied with the leader": "tied"}.get(line.standing, "behind")


def _label(line: BoardLine) -> str:
    return f"{line.ranking.rank}  {line.first.model}"


def _scale(low: float, high: float, start: float, end: float) -> Scale:
    return lambda value: start + (value - low) / ((high - low) or 1) * (end - start)


def _log_scale(low: float, high: float) -> Scale:
    linear = _scale(log10(low), log10(high), LEFT, WIDTH - RIGHT)
    return lambda value: linear(log10(value))


def _steps(low: float, high: float) -> list[float]:
    """At most eight round numbers between two values."""
    power = 10.0 ** floor(log10((high - low) or 1))
    step = next(power * f for f in (0.1, 0.2, 0.5, 1, 2) if (high - low) / (power * f) <= 7)
    return [step * i for i in range(ceil(low / step - 1e-9), floor(high / step + 1e-9) + 1)]


def _log_steps(low: float, high: float) -> list[float]:
    powers = [10.0**p for p in range(floor(log10(low)), ceil(log10(high)) + 1)]
    factors = (1, 2, 5) if high / low > 10 else (1, 1.5, 2, 3, 4, 6, 8)
    return [f * power for power in powers for f in factors if low <= f * power <= high]


def _tick_x(value: float, x: Scale, bottom: float, digits: str = "g") -> str:
    return f'<path class="grid" d="M{x(value):.1f} 4V{bottom}"/>{_text(x(value), bottom + 16, f"{value:{digits}}", "middle")}'


def _tick_y(value: float, y: Scale) -> str:
    label = _text(LEFT - 5, y(value) + 4, f"{value:.3f}".removesuffix("0"), "end")
    return f'<path class="grid" d="M{LEFT} {y(value):.1f}H{WIDTH - RIGHT}"/>{label}'


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _svg(height: float, body: Iterable[str], title: str) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(title)}">{"".join(body)}</svg>'
