"""Plots of a board: narrow, so that a phone shows them at full size."""

from collections.abc import Sequence
from math import floor, inf, isfinite

import numpy as np
from numpy.typing import NDArray

from experiments.leaderboard.boards import Board, BoardLine
from lightning_seg.plots import Axis, Plot

STANDINGS = {"leader": "best", "tied with the leader": "tied"}  # -> class of the style sheet
GOLDEN = 0.618034


def pareto(board: Board) -> Plot | None:
    """Dice against multiply-adds, or against parameters where an image has no one size.

    None for fewer than two ranked models of known cost.
    """
    lines = [line for line in board.lines if line.ranking.rank and line.first.parameters]
    if len(lines) < 2:
        return None
    counted = all(line.first.gmacs for line in lines)
    costs = [_cost(line, counted) for line in lines]
    values = [line.ranking.value for line in lines]
    unit = "GMACs of one image" if counted else "million parameters"
    low, high = _at_least(0.02, min(values), max(values))
    padding = 0.08 * (high - low)
    across = Axis(f"{unit}; in the circles the rank", min(costs) / 1.4, max(costs) * 1.4, log=True)
    plot = Plot(across, Axis("Dice", low - padding, high + padding), f"Dice against {unit}", 300)
    plot.line(*_front(costs, values, across.high), "front")
    for line, cost in reversed(list(zip(lines, costs, strict=True))):
        found = line.ranking
        title = f"{_label(line)}, {cost:.2f}, {found.value:.4f}"
        plot.disc(cost, found.value, _class(line), title, text=str(found.rank), radius=8)
    return plot


def ranks(board: Board) -> Plot | None:
    """The 95 % interval of each model's rank; None for fewer than two models."""
    lines = [line for line in board.lines if line.ranking.rank]
    if len(lines) < 2:
        return None
    across = Axis("rank", 1, len(lines), whole=True)
    plot = _rows_of(lines, across, "95 % intervals of the ranks", 30)
    for line, place in _places(lines):
        found, css = line.ranking, _class(line)
        plot.segment((found.rank_low, place), (found.rank_high, place), f"span {css}")
        plot.dots([found.rank], [place], css, 5)
    return plot


def strips(board: Board) -> Plot | None:
    """The Dice of each test image (mean over the seeds), the mean and its interval.

    None without per-image tables.
    """
    lines = [line for line in board.lines if len(line.images)]
    if not lines:
        return None
    worst = min(float(line.images.min()) for line in lines)
    across = Axis("Dice of each test image", min(0.9, floor(10 * worst) / 10), 1)
    plot = _rows_of(lines, across, across.label, 42)
    for line, place in _places(lines):
        found, css = line.ranking, _class(line)
        heights = place + _spread_heights(len(line.images))
        plot.dots(line.images.tolist(), heights.tolist(), f"faint {css}", 2)
        if isfinite(found.low):
            plot.segment((found.low, place), (found.high, place), f"interval {css}")
        mean = (found.value, place - 0.26), (found.value, place + 0.26)
        plot.segment(*mean, f"mean {css}")
    return plot


def _cost(line: BoardLine, counted: bool) -> float:
    known = line.first.gmacs if counted else (line.first.parameters or 0) / 1e6
    return float(known or 0)


def _rows_of(lines: Sequence[BoardLine], across: Axis, alt: str, height: int) -> Plot:
    """A row for each line, the first on top, its label above it."""
    down = Axis("", -0.5, len(lines) - 0.2, bare=True)
    plot = Plot(across, down, alt, 60 + height * len(lines))
    for line, place in _places(lines):
        plot.text(across.low, place + 0.38, _label(line), "label")
    return plot


def _places(lines: Sequence[BoardLine]) -> list[tuple[BoardLine, int]]:
    return [(line, len(lines) - 1 - place) for place, line in enumerate(lines)]


def _spread_heights(number: int) -> NDArray[np.float64]:
    """Heights that spread evenly and come out alike every time."""
    shares = (np.arange(number) * GOLDEN) % 1
    return np.asarray((shares - 0.5) * 0.46, np.float64)


def _front(
    costs: Sequence[float], values: Sequence[float], end: float
) -> tuple[list[float], list[float]]:
    """The step line of the models that no other one surpasses at equal or lower cost."""
    points: list[tuple[float, float]] = []
    best = -inf
    pairs = zip(costs, values, strict=True)
    for cost, value in sorted(pairs, key=lambda pair: (pair[0], -pair[1])):
        if value > best:
            if points:
                points.append((cost, best))
            points.append((cost, value))
            best = value
    points.append((end, best))
    return [cost for cost, _ in points], [value for _, value in points]


def _at_least(span: float, low: float, high: float) -> tuple[float, float]:
    """The range, widened on both sides where it is narrower than ``span``."""
    more = max(0.0, span - (high - low)) / 2
    return low - more, high + more


def _class(line: BoardLine) -> str:
    return STANDINGS.get(line.standing, "behind")


def _label(line: BoardLine) -> str:
    return f"{line.ranking.rank}  {line.first.model}"
