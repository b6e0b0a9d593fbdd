"""What a benchmark hands back: Markdown for RESULTS.md, every repetition for a JSON file, small charts."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lightning_seg.files import whole, write_whole

Repetitions = Sequence[float]


@dataclass(frozen=True)
class Bars:
    """A bar per label: the median of its repetitions, with whiskers from quartile to quartile."""

    title: str
    unit: str
    rows: Mapping[str, Repetitions]
    reference: float | None = None  # a dashed line

    def draw(self, axes: Any) -> None:
        low, middle, high = (
            np.array([np.quantile(v, q) for v in self.rows.values()]) for q in (0.25, 0.5, 0.75)
        )
        axes.barh(
            list(self.rows),
            middle,
            xerr=[middle - low, high - middle],
            color="#4878a8",
            ecolor="#303030",
        )
        axes.invert_yaxis()
        axes.set_xlabel(self.unit)
        if self.reference is not None:
            axes.axvline(self.reference, color="#303030", linestyle="--", linewidth=1)

    @property
    def height(self) -> float:
        return 0.9 + 0.28 * len(self.rows)


@dataclass(frozen=True)
class Lines:
    """A line per label in a log-log plot: ``x`` and ``y`` of each."""

    title: str
    x: str
    y: str
    rows: Mapping[str, tuple[Repetitions, Repetitions]]
    height: float = 3.2

    def draw(self, axes: Any) -> None:
        for label, (x, y) in self.rows.items():
            axes.loglog(x, y, marker="o", markersize=3, linewidth=1, label=label)
        axes.set_xlabel(self.x)
        axes.set_ylabel(self.y)
        axes.legend(fontsize=7, frameon=False)


@dataclass(frozen=True)
class Section:
    """``data``: what was measured, in plain lists and dictionaries; ``charts`` by the end of their file's name."""

    text: str
    data: Any = None
    charts: Mapping[str, Bars | Lines] = field(default_factory=dict)

    def write(self, folder: Path, name: str, facts: dict[str, Any]) -> list[str]:
        """Write ``<name>.json`` and ``<name>-<chart>.svg`` into ``folder``; Markdown links to them, seen from beside it."""
        if self.data is None:
            return []
        file = folder / f"{name}.json"
        write_whole(file, f"{json.dumps(facts | {'data': self.data}, indent=1)}\n".encode())
        links = [f"All repetitions: [{file.name}]({folder.name}/{file.name})."]
        for key, chart in self.charts.items():
            picture = folder / f"{name}-{key}.svg"
            _draw(chart, picture)
            links.append(f"![{chart.title}]({folder.name}/{picture.name})")
        return links


def _draw(chart: Bars | Lines, file: Path) -> None:
    import matplotlib
    from matplotlib.figure import Figure

    # text as text, and the same file for the same numbers
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "0", "font.size": 8}):
        figure = Figure(figsize=(6.4, chart.height), layout="constrained")
        axes = figure.subplots()
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_title(chart.title, fontsize=9)
        chart.draw(axes)
        with whole(file) as part:
            figure.savefig(part, format="svg", metadata={"Date": None})


def spread(values: Iterable[float], digits: int) -> str:
    """Median [lower quartile, upper quartile]."""
    lower, median, upper = np.quantile(list(values), [0.25, 0.5, 0.75])
    return f"{median:.{digits}f} [{lower:.{digits}f}, {upper:.{digits}f}]"


def ratios(of: Repetitions, to: Repetitions) -> list[float]:
    """Those within a repetition."""
    return [first / second for first, second in zip(of, to, strict=True)]


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """In Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)
