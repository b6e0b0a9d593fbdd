"""Findings to know before one trusts or likes a run: each is one sentence that follows from the
run's own figures."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from lightning_seg.evaluation import per_image, pooled
from lightning_seg.reports.run_page._run import ReportedRun, ScoredSplit, Series
from lightning_seg.reports.run_page._sizes import by_size, without_lesion
from lightning_seg.runs import Run
from lightning_seg.runs.cautions import run_cautions
from lightning_seg.tables import count_text

LONG = 10  # epochs of a curve from which one may say that a training overfits
LEVELS = ("stop", "care", "note")  # how much a finding weighs
GAP = 0.05  # of Dice between training and validation, or small and large lesions, that is worth a sentence


_GRAVE = ("PARTIAL", "SYNTHETIC", "INTERRUPTED", "OTHER IMAGES", "this protocol")


class RunFinding(NamedTuple):
    level: str
    text: str


def findings(run: ReportedRun, result: ScoredSplit | None) -> list[RunFinding]:
    """Those of the data, the training and the scores, the gravest first."""
    found = [*_looks(result), *_fit_findings(run)]
    found += [RunFinding(_weight(text), f"{_upper(text)}.") for text in cautions_of(run, result)]
    if result is not None:
        found += [*(f for name in result.table.classes for f in _score_findings(result, name))]
    return sorted(found, key=lambda finding: LEVELS.index(finding.level))


def cautions_of(run: ReportedRun, *results: ScoredSplit | None) -> list[str]:
    """What must be said of a run: of its data and its end, also where nothing was scored, and of
    its results."""
    said = run_cautions(run.content, Run.holding(run.checkpoint))
    for result in results:
        said += result.summary.cautions() if result is not None else []
    return list(dict.fromkeys(said))


def _weight(caution: str) -> str:
    return "stop" if caution.startswith(_GRAVE) else "care"


def _looks(result: ScoredSplit | None) -> Iterator[RunFinding]:
    if result is None:
        yield RunFinding(
            "care", "Neither tested nor validated on its own: no per-image scores, so no intervals."
        )
    elif result.summary.split != "test":
        yield RunFinding(
            "care",
            "Not tested: the scores are those of validation, by which the epoch was chosen, so they flatter.",
        )
    elif (result.summary.looks or 1) > 1:
        yield RunFinding(
            "care",
            f"This test split had been scored {result.summary.looks} times when this test was made.",
        )


def _fit_findings(run: ReportedRun) -> Iterator[RunFinding]:
    if run.from_files:
        return
    epochs, _ = run.events.by_epoch("train/loss")
    trained, validated = run.events.by_epoch("train/dice"), run.events.by_epoch("val/dice")
    best = run.content["epoch"] + 1
    if not len(epochs):
        text = "The curves of the training are not kept in the run's folder, so none are shown."
        yield RunFinding("note", text)
        return
    if 1 < best == round(epochs[-1]) and run.checkpoint.name.startswith("best"):
        yield RunFinding(
            "note", f"The best epoch is the last of {best}: longer training may give more."
        )
    if len(trained[0]) and len(validated[0]):
        ours, theirs = (float(np.interp(best, *curve)) for curve in (trained, validated))
        if ours - theirs > GAP:
            text = f"Training Dice {ours:.3f} against {theirs:.3f} in validation at epoch {best} (pooled)"
            drawn_apart = _overfits(trained, validated)
            yield RunFinding("note", f"{text}: it overfits." if drawn_apart else f"{text}.")


def _overfits(trained: Series, validated: Series) -> bool:
    """Tell whether training still gained in the last third of the epochs and validation did not."""
    if min(len(trained[0]), len(validated[0])) < LONG:
        return False
    (ours_before, ours), (theirs_before, theirs) = map(_last_thirds, (trained, validated))
    return ours > ours_before and theirs <= theirs_before


def _last_thirds(curve: Series) -> tuple[float, float]:
    """The means of the second and of the last third of a curve."""
    _, middle, last = np.array_split(curve[1], 3)
    return float(middle.mean()), float(last.mean())


def _score_findings(result: ScoredSplit, name: str) -> Iterator[RunFinding]:
    counts = result.table.of(name)
    dice = per_image(counts, "dice")
    prefix = f"{name}: " if len(result.table.classes) > 1 else ""
    low, poor = int(((counts[:, 0] == 0) & (counts[:, 2] > 0)).sum()), int((dice < 0.5).sum())
    nothing = f"; in {low} of these nothing was found at all" if low else ""
    if poor:
        yield RunFinding(
            "note",
            f"{prefix}Dice is below 0.5 in {_of_images(poor, len(dice))}{nothing}.",
        )
    dice_of, empty = (
        {group.name: group.dice for group in by_size(result.table, name)},
        without_lesion(result.table, name),
    )
    least, most = dice_of.get("small"), dice_of.get("large")
    if least is not None and most is not None and most - least > GAP:
        yield RunFinding(
            "note", f"{prefix}Dice is {least:.3f} on small lesions and {most:.3f} on large ones."
        )
    if len(empty.rows):
        text = f"{prefix}No {name} is in {_of_images(len(empty.rows), len(dice))}; in {empty.alarms} of these the network saw some."
        yield RunFinding("note", text)
    gap = abs(float(pooled(counts, "dice")) - float(dice.mean()))
    if gap > GAP:
        yield RunFinding(
            "note",
            f"{prefix}Dice pooled and as mean over images are {gap:.3f} apart: compare only with the same convention.",
        )


def _of_images(number: int, total: int) -> str:
    return f"{number} of {count_text(total, 'image')}"


def _upper(text: str) -> str:
    return text[0].upper() + text[1:]
