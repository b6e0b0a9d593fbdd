"""Scores of a run on corrupted test images."""

from pathlib import Path
from typing import NamedTuple

from lightning_seg.evaluation.robustness import FILE, CorruptedScore, Robustness
from lightning_seg.evaluation.summary import FILE as SUMMARY_FILE
from lightning_seg.evaluation.summary import Summary
from lightning_seg.plots import draw_svg
from lightning_seg.reports.robustness import meaning_of, score_cells, severity_plot
from lightning_seg.reports.run_page._figures import Figure
from lightning_seg.reports.run_page._run import ReportedRun
from lightning_seg.runs.scored_weights import replaced_weights


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
        if named and not _is_of_others(file.parent):
            found.append(_part(Robustness.read(file), before.strip("-")))
    return found


def _is_of_others(folder: Path) -> bool:
    """Tell whether the checkpoint has become another since; scores of clean images say it too."""
    scored = next((file.parent for file in sorted(folder.glob(f"*/{SUMMARY_FILE}"))), None)
    return scored is not None and bool(replaced_weights(Summary.read(scored), scored))


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
