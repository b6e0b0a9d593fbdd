"""The figures of the page."""

import zlib
from typing import NamedTuple

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from lightning_seg.evaluation import ScoreTable, bca, per_image, statistic
from lightning_seg.evaluation.curves import pr_curve, reliability
from lightning_seg.plots import Axis, Plot, draw_svg
from lightning_seg.reports.reliability import reliability_plot, share_axis
from lightning_seg.reports.run_page._run import Histogram, ReportedRun, Series
from lightning_seg.reports.run_page._sizes import Group
from lightning_seg.tables import count_text


class Figure(NamedTuple):
    """A plot with its caption; ``key``: style class and meaning of each kind of mark."""

    title: str
    svg: Markup
    key: list[tuple[str, str]]
    caption: str = ""


def training_curves(run: ReportedRun) -> list[Figure]:
    """Loss, Dice and learning rate by epoch; none where the run recorded no epoch."""
    curves = {tag: run.events.by_epoch(tag) for tag in run.events.scalars}
    if "train/loss" not in curves or not len(curves["train/loss"][0]):
        return []
    losses = [("train/loss", "s2"), ("val/loss", "s1")]
    dice = [("train/dice", "s2"), ("val/dice", "s1"), ("val/dice_image", "s3")]
    rates = [(tag, "s1") for tag in curves if tag.startswith("lr-")][:1]
    named = [
        ("Loss", losses, None),
        ("Dice", dice, (0.0, 1.0)),
        ("Learning rate", rates, None),
    ]
    words = {
        "train/loss": "training",
        "val/loss": "validation",
        "train/dice": "training, pooled",
        "val/dice": "validation, pooled",
        "val/dice_image": "validation, mean over images",
    }
    figures = []
    for title, tags, limits in named:
        shown = [(tag, css) for tag, css in tags if tag in curves]
        series = [(curves[tag], css, words.get(tag, tag)) for tag, css in shown]
        if series:
            figures.append(_curves(title, series, limits, run))
    return figures


def _curves(
    title: str,
    series: list[tuple[Series, str, str]],
    limits: tuple[float, float] | None,
    run: ReportedRun,
) -> Figure:
    known = np.concatenate([values for (_, values), _, _ in series])
    known = known[np.isfinite(known)]
    low, high = limits or (min(0.0, float(known.min())), float(known.max()) * 1.05)
    filled = [(curve, word) for curve, _, word in series if len(curve[0])]
    last = max(float(epochs[-1]) for (epochs, _), _ in filled)
    ends = "; ".join(f"{word} ends at {values[-1]:.4g}" for (_, values), word in filled)
    across = Axis("epoch", 0, last, whole=True)
    plot = Plot(across, Axis("", low, high), f"{title} by epoch: {ends}")
    best = run.content["epoch"] + 1
    plot.segment((best, low), (best, high), "mark")
    for (epochs, values), css, _ in series:
        plot.line(epochs.tolist(), values.tolist(), css)
    key = [(css, word) for _, css, word in series]
    key.append(("mark", f"epoch {best}, this page"))
    return Figure(title, draw_svg(plot), key)


def precision_recall(histogram: Histogram, name: str) -> Figure:
    curve = pr_curve(histogram)
    half = len(curve.thresholds) // 2
    p, r = float(curve.precision[half]), float(curve.recall[half])
    ap = curve.average_precision
    alt = (
        f"Precision against recall of {name}: average precision {ap:.4f}; "
        f"at threshold 0.5 precision {p:.4f}, recall {r:.4f}"
    )
    plot = Plot(share_axis("recall"), share_axis("precision"), alt)
    plot.line(curve.recall.tolist(), curve.precision.tolist(), "s1")
    plot.disc(r, p, "s2", f"threshold 0.5: precision {p:.4f}, recall {r:.4f}")
    key = [("s2", f"threshold 0.5: precision {p:.3f}, recall {r:.3f}")]
    caption = f"All pixels together, average precision {ap:.4f}."
    return Figure("Precision and recall", draw_svg(plot), key, caption)


def dice_by_threshold(histogram: Histogram, name: str, threshold: float, test: bool) -> Figure:
    """Dice pooled over pixels at each threshold, and where the one that was used stands.

    Args:
        threshold: the one of the scores.
        test: say that a threshold chosen by this curve would flatter.
    """
    curve = pr_curve(histogram)
    dice = 2 * curve.tp / np.maximum(2 * curve.tp + curve.fp + curve.fn, 1)
    cuts, dice = curve.thresholds[1:], dice[1:]  # 0 is no threshold
    used = float(np.interp(threshold, cuts, dice))
    highest = int(dice.argmax())
    most = f"{dice[highest]:.3f} at {cuts[highest]:.2f}"
    alt = f"Dice of {name} against the threshold: {used:.4f} at {threshold:g}, the highest {most}"
    plot = Plot(share_axis("threshold"), share_axis("Dice, pooled over pixels"), alt)
    plot.line(cuts.tolist(), dice.tolist(), "s1")
    plot.disc(threshold, used, "s2", f"threshold {threshold:g}: Dice {used:.4f}")
    key = [("s2", f"threshold {threshold:g}, as scored: {used:.3f}")]
    caption = f"The highest is {most}."
    if test:
        caption += (
            " A threshold chosen on these images would flatter; test --threshold val takes one."
        )
    return Figure("Dice and threshold", draw_svg(plot), key, caption)


def calibration(sums: NDArray[np.float64], name: str) -> Figure:
    """Reliability diagram of sums (bins, 3), see `lightning_seg.evaluation.probability`."""
    found = reliability(sums)
    expected, true = (
        float(np.sum(found.pixels * each) / found.pixels.sum())
        for each in (found.probability, found.frequency)
    )
    key = [("s1", f"pixels in {len(sums)} bins of probability"), ("mark", "perfect")]
    caption = (
        f"Expected calibration error {found.ece:.4f} over all pixels, background included; "
        f"by their mean probability {100 * expected:.2f} % of the pixels would be {name}, and "
        f"{100 * true:.2f} % are."
    )
    return Figure("Reliability", draw_svg(reliability_plot(found, name)), key, caption)


def strip(
    table: ScoreTable,
    name: str,
    groups: list[Group],
    linked: list[tuple[int, str]],
) -> Figure:
    """Dice of every image in rows, all and by size, with the mean and its interval.

    Args:
        linked: rows of the table that the gallery shows, with what they lead to.
    """
    key = [
        ("s1", "one image"),
        ("interval", "mean and its 95 % interval"),
        ("s2", "worst, median and best"),
    ]
    plot = strip_plot(table, name, groups, linked)
    return Figure("Dice of every image", draw_svg(plot), key)


def strip_plot(
    table: ScoreTable,
    name: str,
    groups: list[Group],
    linked: list[tuple[int, str]],
) -> Plot:
    """Draw what `strip` shows."""
    dice = per_image(table.of(name), "dice")
    whole = statistic([table], name, "dice", "image")
    rows = [(group.name, group.rows, group.interval) for group in groups]
    rows.insert(0, ("all", np.arange(len(dice)), bca(whole)))
    rows.reverse()
    alt = (
        f"Dice of {count_text(len(dice), 'image')}, {name}: mean {dice.mean():.3f}, "
        f"median {np.median(dice):.3f}, worst {dice.min():.3f}"
    )
    labels = tuple(label for label, _, _ in rows)
    down = Axis("", -0.5, len(rows) - 0.5, names=labels)
    across = Axis("Dice of the image", -0.02, 1.02)
    plot = Plot(across, down, alt, 70 + 44 * len(rows))
    for place, (_, members, (low, high)) in enumerate(rows):
        heights = place + _spread_heights(len(members))
        plot.dots(dice[members].tolist(), heights.tolist(), "s1 faint", 2)
        if np.isfinite([low, high]).all():
            plot.segment((low, place), (high, place), "interval")
        mean = dice[members].mean()
        plot.segment((mean, place - 0.3), (mean, place + 0.3), "mean")
    top = len(rows) - 1 + _spread_heights(len(dice))
    for row, target in linked:
        title = f"{table.ids[row]}: Dice {dice[row]:.4f}"
        plot.disc(float(dice[row]), float(top[row]), "s2", title, target)
    return plot


def _spread_heights(number: int) -> NDArray[np.float64]:
    """Heights that spread evenly and come out alike every time (golden ratio)."""
    shares = (np.arange(number) * 0.618034) % 1
    return np.asarray((shares - 0.5) * 0.56, np.float64)


def anchor(id: str) -> str:
    """The name by which the page links to an image of the gallery."""
    return f"image-{zlib.crc32(id.encode()):08x}"
