"""The figures of the page."""

import zlib
from typing import NamedTuple

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from lightning_seg.evaluation import ScoreTable, bca, per_image, statistic
from lightning_seg.evaluation.curves import pr_curve, reliability
from lightning_seg.reports.run_page._run import Histogram, ReportedRun, Series
from lightning_seg.reports.run_page._sizes import Group
from lightning_seg.reports.run_page._svg import Axis, Plot


class Figure(NamedTuple):
    """A plot with its caption; ``key``: style class and meaning of each kind of mark."""

    title: str
    svg: Markup
    key: list[tuple[str, str]]
    caption: str = ""


def training_curves(run: ReportedRun) -> list[Figure]:
    """Loss, Dice and learning rate by epoch; none where the run recorded no epoch."""
    curves = {tag: run.events.by_epoch(tag) for tag in run.events.scalars}
    if not len(curves.get("train/loss", ([],))[0]):
        return []
    rates = [(tag, "s1") for tag in curves if tag.startswith("lr-")][:1]
    named = [
        ("Loss", [("train/loss", "s2"), ("val/loss", "s1")], None),
        ("Dice", [("train/dice", "s2"), ("val/dice", "s1"), ("val/dice_image", "s3")], (0.0, 1.0)),
        ("Learning rate", rates, None),
    ]
    words = {
        "train/loss": "training",
        "val/loss": "validation",
        "train/dice": "training, pooled",
        "val/dice": "validation, pooled",
        "val/dice_image": "validation, mean over images",
    }
    return [
        _curves(
            title,
            [(curves[tag], css, words.get(tag, tag)) for tag, css in tags if tag in curves],
            limits,
            run,
        )
        for title, tags, limits in named
        if any(tag in curves for tag, _ in tags)
    ]


def _curves(
    title: str,
    series: list[tuple[Series, str, str]],
    limits: tuple[float, float] | None,
    run: ReportedRun,
) -> Figure:
    values = np.concatenate([values[np.isfinite(values)] for (_, values), _, _ in series])
    low, high = limits or (min(0.0, float(values.min())), float(values.max()) * 1.05)
    last = max(float(epochs[-1]) for (epochs, _), _, _ in series if len(epochs))
    ends = "; ".join(
        f"{word} ends at {values[-1]:.4g}" for (_, values), _, word in series if len(values)
    )
    plot = Plot(
        Axis("epoch", 0, last, whole=True), Axis("", low, high), f"{title} by epoch: {ends}"
    )
    best = run.content["epoch"] + 1
    plot.segment((best, low), (best, high), "mark")
    for (epochs, values), css, _ in series:
        plot.line(epochs.tolist(), values.tolist(), css)
    return Figure(
        title,
        plot.svg(),
        [*((css, word) for _, css, word in series), ("mark", f"epoch {best}, this page")],
    )


def precision_recall(histogram: Histogram, name: str) -> Figure:
    curve = pr_curve(histogram)
    half = len(curve.thresholds) // 2
    p, r, ap = float(curve.precision[half]), float(curve.recall[half]), curve.average_precision
    alt = f"Precision against recall of {name}: average precision {ap:.4f}; at threshold 0.5 precision {p:.4f}, recall {r:.4f}"
    plot = Plot(Axis("recall", 0, 1), Axis("precision", 0, 1), alt)
    plot.line(curve.recall.tolist(), curve.precision.tolist(), "s1")
    plot.link(r, p, "point s2", "", f"threshold 0.5: precision {p:.4f}, recall {r:.4f}")
    caption = f"All pixels together, average precision {ap:.4f}."
    return Figure(
        "Precision and recall",
        plot.svg(),
        [("s2", f"threshold 0.5: precision {p:.3f}, recall {r:.3f}")],
        caption,
    )


def calibration(sums: NDArray[np.float64], name: str) -> Figure:
    """Reliability diagram of sums (bins, 3), see `lightning_seg.evaluation.probability`."""
    found = reliability(sums)
    gap = float(np.sum(found.pixels * (found.frequency - found.probability)) / found.pixels.sum())
    side = "less" if gap < 0 else "more"
    alt = f"Reliability diagram of {name}: expected calibration error {found.ece:.4f}"
    plot = Plot(Axis("predicted probability", 0, 1), Axis("share of foreground", 0, 1), alt)
    plot.segment((0, 0), (1, 1), "mark")
    plot.line(found.probability.tolist(), found.frequency.tolist(), "s1")
    plot.dots(found.probability.tolist(), found.frequency.tolist(), "s1")
    caption = (
        f"Expected calibration error {found.ece:.4f} over all pixels, background included; on average there is "
        f"{abs(gap):.4f} {side} foreground than predicted."
    )
    return Figure(
        "Reliability",
        plot.svg(),
        [("s1", f"pixels in {len(sums)} bins of probability"), ("mark", "perfect")],
        caption,
    )


def strip(
    table: ScoreTable,
    name: str,
    groups: list[Group],
    linked: list[tuple[int, str]],
) -> Figure:
    """Dice of every image in rows, all and by size, with the mean and its interval; ``linked``: rows that the gallery shows."""
    dice, whole = per_image(table.of(name), "dice"), statistic([table], name, "dice", "image")
    rows = [
        ("all", np.arange(len(dice)), bca(whole)),
        *((group.name, group.rows, group.interval) for group in groups),
    ]
    rows.reverse()
    alt = f"Dice of {len(dice)} images, {name}: mean {dice.mean():.3f}, median {np.median(dice):.3f}, worst {dice.min():.3f}"
    heights = Axis("", -0.5, len(rows) - 0.5, names=tuple(label for label, _, _ in rows))
    plot = Plot(Axis("Dice of the image", -0.02, 1.02), heights, alt, 70 + 44 * len(rows))
    for place, (_, members, (low, high)) in enumerate(rows):
        plot.dots(
            dice[members].tolist(), (place + _spread_heights(len(members))).tolist(), "s1 faint", 2
        )
        if np.isfinite([low, high]).all():
            plot.segment((low, place), (high, place), "interval")
        plot.segment(
            (dice[members].mean(), place - 0.3), (dice[members].mean(), place + 0.3), "mean"
        )
    top = len(rows) - 1 + _spread_heights(len(dice))
    for row, target in linked:
        plot.link(
            float(dice[row]),
            float(top[row]),
            "point s2",
            target,
            f"{table.ids[row]}: Dice {dice[row]:.4f}",
        )
    key = [("s1", "one image"), ("interval", "mean and its 95 % interval")]
    return Figure("Dice of every image", plot.svg(), [*key, ("s2", "worst, median and best")])


def _spread_heights(number: int) -> NDArray[np.float64]:
    """Heights that spread evenly and come out alike every time (golden ratio)."""
    return np.asarray(((np.arange(number) * 0.618034) % 1 - 0.5) * 0.56, np.float64)


def anchor(id: str) -> str:
    """The name by which the page links to an image of the gallery."""
    return f"image-{zlib.crc32(id.encode()):08x}"
