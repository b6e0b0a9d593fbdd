"""Scores under corruptions, as a table and as curves over the severity."""

from lightning_seg.data.augment.corruptions import CORRUPTIONS, SEVERITIES
from lightning_seg.evaluation.robustness import CorruptedScore, Robustness
from lightning_seg.plots import Axis, Plot
from lightning_seg.tables import Table, interval_text, number_text

HEADER = ("corruption", "severity", "Dice", "95 %", "minus clean", "95 %")


def print_robustness(found: Robustness) -> None:
    """Print a table for each class."""
    for name in found.clean:
        value, low, high = found.clean[name]["dice"]
        Table(
            HEADER,
            robustness_rows(found, name),
            title=f"{name} under corruptions (seed {found.seed}): mean Dice over {found.images} "
            f"images, {number_text(value)} ({interval_text((low, high))}) as they are",
            caption="95 % BCa bootstrap intervals over "
            f"{found.resampled}; differences are paired, image by image",
            left=("corruption",),
            note="\n".join(found.cautions),
        ).show()


def robustness_rows(found: Robustness, name: str) -> list[tuple[str, ...]]:
    """Kind, severity, Dice and its interval, the difference from the clean images and its own."""
    return [(row.kind, str(row.severity), *score_cells(row)) for row in found.of(name)]


def score_cells(row: CorruptedScore) -> tuple[str, str, str, str]:
    """A score with its interval, and its difference from the clean images."""
    change = "-" if row.difference != row.difference else f"{row.difference:+.4f}"
    return (
        number_text(row.value),
        interval_text(row.interval),
        change,
        interval_text(row.difference_interval, word="to"),
    )


def severity_plot(found: Robustness, name: str, kind: str) -> Plot:
    """The mean Dice of a class by the severity of one kind, 0 being the images as they are."""
    rows = [row for row in found.of(name) if row.kind == kind]
    value, low, high = found.clean[name]["dice"]
    points = [(0, value, low, high)]
    points += [(row.severity, row.value, *row.interval) for row in rows]
    alt = f"Dice of {name} under {kind}: " + ", ".join(f"{v:.3f}" for _, v, _, _ in points)
    plot = Plot(Axis("severity", 0, SEVERITIES[-1], whole=True), Axis("Dice", 0, 1), alt)
    plot.segment((0, value), (SEVERITIES[-1], value), "mark")
    for place, _, lowest, highest in points:
        if lowest == lowest and highest == highest:
            plot.segment((place, lowest), (place, highest), "interval")
    places, values = [float(each[0]) for each in points], [each[1] for each in points]
    plot.line(places, values, "s1")
    plot.dots(places, values, "s1")
    return plot


def meaning_of(kind: str) -> str:
    """The levels of a kind in words: ``the quality of JPEG: 50, 30, 18, 10, 5``."""
    known = CORRUPTIONS.get(kind)
    if known is None:  # of a newer version
        return ""
    return f"{known.meaning}: {', '.join(f'{abs(level):g}' for level in known.levels)}"
