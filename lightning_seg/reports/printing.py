"""The scores of a test or validation on the terminal, every one named by its convention."""

from collections.abc import Iterator
from math import isfinite

from lightning_seg.data.split_sizes import FEWEST_UNITS
from lightning_seg.evaluation.measures import MEASURES
from lightning_seg.evaluation.strata import MOST_VALUES
from lightning_seg.evaluation.summary import Estimate, FoldScores, Summary, VolumeSummary
from lightning_seg.tables import Table, count_text, halves, interval_text, number_text, print_rich

NOTES = {measure.name: measure.remark for measure in MEASURES} | {"ece": "pooled, lower is better"}
OVERLAP_HEADER = ("class", "score", "mean over images", "95 %", "pooled over pixels", "95 %")
EMPTY_RULE = (
    "a score of 0/0 counts 1 where truth and prediction of an image are both empty, else 0; "
    "where those of all images are, it is undefined (-)"
)
MAIN = ("image", "pooled")  # the conventions of the first table


def print_scores(summary: Summary) -> None:
    """Print two tables: overlap under the two main conventions, then everything else."""
    table = Table(
        OVERLAP_HEADER,
        overlap_rows(summary),
        title=headline(summary),
        caption=f"{summary.interval_words}; {EMPTY_RULE}",
        left=("class", "score"),
        note="\n".join(summary.cautions()),
    )
    table.show()
    if summary.folds is not None:
        _print_folds(summary.folds)
    if any(summary.measures.values()):
        others = Table(
            ("measure", "value", "95 %") * 2,
            halves(other_scores(summary)),
            title="other measures and conventions; means over images where nothing else is said",
            left=("measure",),
        )
        others.show()
    print_rich(*_stratum_lines(summary))
    if rows := column_rows(summary):
        table = Table(
            ("class", "part of the images", "images", "groups", "mean Dice", "95 %"),
            rows,
            title="by the columns of the table",
            caption=f"intervals over groups, as above; - of fewer than {FEWEST_UNITS} groups",
            left=("class", "part of the images"),
        )
        table.show()
    if summary.unused_columns:
        names = ", ".join(summary.unused_columns)
        print_rich(
            f"columns without scores by value: {names} (one value alone, or more than "
            f"{MOST_VALUES} texts)"
        )


FOLD_HEADER = ("class", "score", "mean over images", "SD", "pooled over pixels", "SD")


def _print_folds(folds: FoldScores) -> None:
    """Print the scores as means over the folds, each scored by itself."""
    tested = len(folds.protocols)
    of = "" if tested == folds.planned else f" of {folds.planned} (PARTIAL)"
    table = Table(
        FOLD_HEADER,
        fold_rows(folds),
        title=f"mean and standard deviation over {tested}{of} folds, each scored by itself",
        left=("class", "score"),
    )
    table.show()


def fold_rows(folds: FoldScores) -> list[tuple[str, ...]]:
    """Class, score, and its mean and standard deviation over folds under the main conventions."""
    rows = []
    for name, scores in folds.values.items():
        for score in scores:
            cells = [
                number_text(number)
                for convention in MAIN
                for number in (
                    folds.mean(name, score, convention),
                    folds.spread(name, score, convention),
                )
            ]
            rows.append((name, score, *cells))
    return rows


def column_rows(summary: Summary) -> list[tuple[str, ...]]:
    """Class, value of a column, images, groups, mean Dice and its interval."""
    return [
        (
            name,
            part.name,
            str(part.images),
            str(part.groups),
            *_cells(Estimate(part.value, part.interval)),
        )
        for name, parts in summary.strata.items()
        for part in parts
        if part.column
    ]


def headline(summary: Summary) -> str:
    """Tell what was scored, and how."""
    parts = [
        f"{summary.split} scores: protocol {summary.protocol} ({summary.protocol_digest})",
        count_text(summary.images, "image"),
        f"at {summary.scored_at} ({summary.size})",
        f"threshold {summary.threshold_text}",
        *inference_words(summary),
    ]
    return ", ".join(parts)


def inference_words(summary: Summary) -> Iterator[str]:
    """Tell what made the probabilities besides one pass of one network."""
    found = summary.inference
    if found.get("tta", "none") != "none":
        yield f"test-time augmentation {found['tta']}"
    if found.get("ensemble"):
        yield f"mean of {len(found['ensemble']) + 1} checkpoints"
    if found.get("postprocess"):
        yield f"post-processing {found['postprocess']}"
    if found.get("precision"):
        yield f"computed in {found['precision']}"
    if found.get("engine", "torch") != "torch":
        yield f"engine {found['engine']}"


def overlap_rows(summary: Summary) -> list[tuple[str, ...]]:
    """Class, score, and its value and interval under the two main conventions."""
    return [
        (name, score, *_cells(values["image"]), *_cells(values["pooled"]))
        for name, scores in summary.scores.items()
        for score, values in scores.items()
    ]


def other_scores(summary: Summary) -> Iterator[tuple[str, str, str]]:
    """All but overlap under the two main conventions, as name with convention, value and
    interval."""
    for name in summary.scores:
        label = f"{name}: " if len(summary.scores) > 1 else ""
        for found in _other_measures(summary, name):
            yield f"{label}{found[0]}", *found[1:]


def _other_measures(
    summary: Summary,
    name: str,
) -> Iterator[tuple[str, str, str]]:
    for measure, value in summary.measures.get(name, {}).items():
        note = NOTES.get(measure, "")
        yield f"{measure} ({note})" if note else measure, *_cells(value)
    for key, most in summary.maxima.get(name, {}).items():
        yield f"{key} (max of 256)", number_text(most), ""
    for key, area in summary.roc_auc.get(name, {}).items():
        where = ", in FOV" if key == "fov" else ""
        yield f"ROC AUC (pooled{where})", number_text(area), ""
    for score, values in summary.scores[name].items():
        for convention in (key for key in values if key not in MAIN):
            yield f"{score} ({convention})", *_cells(values[convention])


def _stratum_lines(summary: Summary) -> Iterator[str]:
    """Rows by size and number of lesions, and what was empty."""
    for name, every in summary.strata.items():
        parts = [part for part in every if not part.column]
        if len(parts) > 1:
            values = [f"{part.name} {number_text(part.value, 3)} ({part.images})" for part in parts]
            what = f"mean Dice of {name} by size (thirds) and number of lesions (images)"
            yield f"{what}: {', '.join(values)}"
        empty = summary.empty[name]
        if empty.images:
            share = f"{empty.false_positive_rate:.0%}"
            yield f"{count_text(empty.images, 'image')} without {name}: false positives in {share} of them"


def _cells(found: Estimate) -> tuple[str, str]:
    digits = 2 if isfinite(found.value) and found.value >= 10 else 4
    return number_text(found.value, digits), interval_text(found.interval, digits - 1)


def print_volumes(volumes: VolumeSummary) -> None:
    """Print the means over whole scans."""
    rows = []
    for name, scores in volumes.scores.items():
        for measure, found in scores.items():
            digits = 2 if measure.endswith("95_mm") else 4
            interval = interval_text(found.interval, digits - 1)
            rows.append((name, measure, number_text(found.value, digits), interval))
    missing = len(volumes.incomplete)
    left_out = f"; {missing} without all their slices left out" if missing else ""
    near = f"NSD: surfaces within {volumes.nsd_tolerance_mm:g} mm of each other"
    table = Table(
        ("class", "score", "mean over scans", "95 %"),
        rows,
        title=f"whole volumes: mean over {count_text(volumes.scans, 'scan')}{left_out}",
        caption=f"95 % BCa bootstrap intervals over scans, - of fewer than {FEWEST_UNITS}; {near}",
        left=("class", "score"),
    )
    table.show()
