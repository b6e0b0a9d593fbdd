"""Scores of a run on corrupted test images."""

from typing import NamedTuple

from lightning_seg.evaluation.robustness import FILE, CorruptedScore, Robustness
from lightning_seg.plots import draw_svg
from lightning_seg.reports.robustness import meaning_of, score_cells, severity_plot
from lightning_seg.reports.run_page._figures import Figure
from lightning_seg.reports.run_page._run import ReportedRun


class RobustnessPart(NamedTuple):
    """The corruptions of one test.

    Attributes:
        use: how the network was used beside one pass of it, as its folder says.
        figures: of each class and kind.
        rows: class, kind, severity, and the cells of the table.
    """

    found: Robustness
    use: str
    figures: list[Figure]
    rows: list[tuple[str, CorruptedScore, tuple[str, str, str, str]]]


def robustness_parts(run: ReportedRun) -> list[RobustnessPart]:
    """What `test --corrupt` kept of the checkpoint of the page."""
    found = []
    for file in sorted(run.folder.glob(f"corrupted-test-*/*/{FILE}")):
        before, named, _ = file.parent.name.partition(run.checkpoint.stem)
        if named:
            found.append(_part(Robustness.read(file), before.strip("-")))
    return found


def _part(found: Robustness, use: str) -> RobustnessPart:
    figures = []
    for name in found.clean:
        label = f", {name}" if len(found.clean) > 1 else ""
        for kind in found.kinds:
            svg = draw_svg(severity_plot(found, name, kind))
            key = [("s1", "mean over images"), ("mark", "images as they are")]
            figures.append(Figure(f"{kind}{label}", svg, key, f"{meaning_of(kind)}."))
    rows = [(name, row, score_cells(row)) for name in found.clean for row in found.of(name)]
    return RobustnessPart(found, use, figures, rows)
