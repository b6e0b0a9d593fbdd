"""``lightning-seg compare --unpaired``: the difference of two sets of images, in domain against
external, as a table."""

from collections.abc import Sequence

from lightning_seg.data.split_sizes import FEWEST_UNITS
from lightning_seg.errors import InputError
from lightning_seg.evaluation.compare import UnpairedDifference, compare_data_sets
from lightning_seg.runs.scored_models import ScoredModel
from lightning_seg.tables import NONE, Table, interval_text, number_text

_HEADER = ("class", "score", "convention", "first", "second", "UNPAIRED difference", "95 %", "")
_NOTE = (
    "UNPAIRED: the first minus the second, over other images ({units} groups or images); each is "
    "resampled by itself, intervals are percentiles of the bootstrap; of fewer than {fewest} groups "
    "or images on either side there is no interval."
)


def print_unpaired(runs: Sequence[ScoredModel], scores: Sequence[str], resamples: int) -> None:
    """Print the differences of two models or data sets.

    Raises:
        InputError: there are not two, they hold the same images, or were scored in unlike ways.
    """
    if len(runs) != 2:
        raise InputError(f"--unpaired compares two results, not {len(runs)}; give two.")
    first, second = runs
    check_unpaired(first, second)
    rows = [
        _row(first, second, name, score, convention, resamples)
        for score in scores
        for name in first.tables[0].classes
        for convention in _conventions(first, second, score)
    ]
    units = " and ".join(str(len(set(run.tables[0].groups))) for run in runs)
    notes = [f"{run.name}: {note}" for run in runs for note in run.summary.cautions()]
    if first.summary.checkpoint != second.summary.checkpoint:
        notes.append("the two were scored with different checkpoints, which differ, too")
    if shared := _shared(first, second):
        notes.append(
            f"{len(shared)} groups bear the same name in both: if they are the same patients, the "
            "interval is wrong"
        )
    for run in runs:
        print(f"{run.name}: {run.summary.data_name} {run.summary.protocol}, {run.paths[0]}")
    printed = Table(
        _HEADER,
        rows,
        title=f"{first.name} ({first.summary.data_name}) against {second.name} "
        f"({second.summary.data_name})",
        caption=_NOTE.format(units=units, fewest=FEWEST_UNITS),
        left=("class", "score", "convention", ""),
        note="\n".join(dict.fromkeys(notes)) if first.summary.dataset else "",
    )
    printed.show(width=150)


def check_unpaired(first: ScoredModel, second: ScoredModel) -> None:
    """InputError where two results share images, or differ in more than their images."""
    ours, theirs = first.summary, second.summary
    for key in ("scored_at", "scored_size"):
        here, there = getattr(ours, key), getattr(theirs, key)
        if here and there and here != there:
            raise InputError(
                f"{first.name} and {second.name} differ in {key} ({here!r} and {there!r}), not in "
                "their images alone; test both alike."
            )
    if first.tables[0].classes != second.tables[0].classes:
        raise InputError(f"{first.name} and {second.name} hold other classes; compare like ones.")
    shared = _shared(first, second)
    if shared and "test-only" not in (ours.protocol, theirs.protocol):
        raise InputError(
            f"{first.name} and {second.name} share {len(shared)} images or groups of one data set, "
            f"first {min(shared)!r}, so they are not independent; compare them without --unpaired."
        )


def _shared(first: ScoredModel, second: ScoredModel) -> set[str]:
    """The groups of one name in both, where both are of one data set."""
    if first.summary.dataset != second.summary.dataset:
        return set()
    return set(first.tables[0].groups) & set(second.tables[0].groups)


def _conventions(first: ScoredModel, second: ScoredModel, score: str) -> list[str]:
    if score == "ece":
        return ["pooled"]
    measured = all(score in run.tables[0].measures for run in (first, second))
    return ["image"] if measured else ["image", "pooled"]


def _row(
    first: ScoredModel,
    second: ScoredModel,
    name: str,
    score: str,
    convention: str,
    resamples: int,
) -> tuple[str, ...]:
    found = compare_data_sets(first.tables, second.tables, name, score, convention, resamples)
    enough = min(found.groups) >= FEWEST_UNITS
    return (
        name,
        score,
        convention,
        number_text(found.first, 4),
        number_text(found.second, 4),
        number_text(found.difference, 4),
        interval_text((found.low, found.high), 4, "to") if enough else NONE,
        _words(found) if enough else "too few images",
    )


def _words(found: UnpairedDifference) -> str:
    return "no difference shown" if found.low <= 0 <= found.high else "they differ"
