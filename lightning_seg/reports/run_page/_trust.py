"""Which images to look at first, what that order is worth, and what contours promise."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lightning_seg.analysis.guarantee import Coverage, read_coverage
from lightning_seg.evaluation import ScoreTable, per_image
from lightning_seg.evaluation.conformal import Guarantee
from lightning_seg.evaluation.selective import RiskCoverage, risk_coverage
from lightning_seg.plots import Axis, Plot, draw_svg
from lightning_seg.reports.run_page._figures import Figure
from lightning_seg.reports.run_page._run import ReportedRun
from lightning_seg.runs.guarantees import guarantee_of
from lightning_seg.runs.scored_weights import weights_digest
from lightning_seg.tables import count_text, interval_text

CONFIDENCE = "expected_dice"
_FIRST = 8


class DoubtfulImage(NamedTuple):
    """An image to look at, with the Dice that its map alone expects and the one it has."""

    id: str
    expected: float
    dice: float


class GuaranteePart(NamedTuple):
    """The promise in words, and what the test split says of it."""

    sentences: list[str]
    rows: list[Coverage]
    images: int


def doubtful_images(table: ScoreTable) -> list[DoubtfulImage]:
    """The images of the lowest expected Dice of any class, lowest first; none where no confidence
    was measured."""
    if CONFIDENCE not in table.measures:
        return []
    expected = table.measures[CONFIDENCE]
    rows = np.arange(len(table.ids))
    worst = expected.argmin(1)
    order = np.argsort(expected[rows, worst], kind="stable")[: min(_FIRST, len(rows) // 2)]
    dice = np.stack([per_image(table.of(name), "dice") for name in table.classes], 1)
    return [
        DoubtfulImage(
            table.ids[row], float(expected[row, worst[row]]), float(dice[row, worst[row]])
        )
        for row in order
    ]


def selective_figure(table: ScoreTable, name: str) -> Figure | None:
    """The risk-coverage curve of a class; None where no confidence was measured, or of few images."""
    if CONFIDENCE not in table.measures:
        return None
    confidence = table.measures[CONFIDENCE][:, table.index(name)]
    risk = 1 - per_image(table.of(name), "dice")
    found = risk_coverage(confidence, risk, table.groups)
    if found is None:
        return None
    order = np.sort(risk)
    best = order.cumsum() / np.arange(1, len(order) + 1)
    plot = _curve_plot(found, best, name)
    key = [
        ("s1", "most confident first"),
        ("s3", "oracle: best first"),
        ("mark", "random order"),
    ]
    caption = (
        f"The mean of 1 - Dice of the share of images kept, by expected Dice. Area (AURC) "
        f"{found.aurc:.4f} ({interval_text(found.aurc_interval)}), random order {found.random:.4f} "
        f"({interval_text(found.random_interval)}), oracle {found.oracle:.4f}: "
        f"{100 * found.gain:.0f} % of the possible gain "
        f"({100 * found.gain_interval[0]:.0f} to {100 * found.gain_interval[1]:.0f} %); "
        "95 % bootstrap intervals."
    )
    return Figure("Which images to trust", draw_svg(plot), key, caption)


def _curve_plot(found: RiskCoverage, best: NDArray[np.float64], name: str) -> Plot:
    highest = max(float(found.risk.max()), found.random) * 1.05 or 1.0
    across, up = Axis("share of images kept", 0, 1), Axis("1 - Dice", 0, highest)
    alt = (
        f"Risk and coverage of {name}: area {found.aurc:.4f}, random order {found.random:.4f}, "
        f"oracle {found.oracle:.4f}"
    )
    plot = Plot(across, up, alt)
    plot.segment((0, found.random), (1, found.random), "mark")
    plot.line(found.coverage.tolist(), best.tolist(), "s3")
    plot.line(found.coverage.tolist(), found.risk.tolist(), "s1")
    return plot


def guarantee_part(run: ReportedRun) -> tuple[Guarantee | None, GuaranteePart | None]:
    """The guarantee of the checkpoint, and what the page says of it; None where it holds none."""
    found = guarantee_of(run.content)
    if found is None:
        return None, None
    measured = read_coverage(run.folder, run.checkpoint, weights_digest(run.content))
    kept = measured or {"coverage": [], "images": 0}
    source = (
        f"Fitted to {count_text(found.images, 'image')} of {found.protocol} that trained nothing "
        "and chose neither checkpoint nor threshold."
    )
    return found, GuaranteePart([*found.sentences(), source], kept["coverage"], kept["images"])
