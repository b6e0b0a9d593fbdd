"""The table and the summary in a folder of scores, which have to say the same."""

import hashlib
from math import isfinite
from pathlib import Path

import numpy as np

from lightning_seg.errors import InputError
from lightning_seg.evaluation.conventions import SCORES, per_image, pooled
from lightning_seg.evaluation.summary import Summary
from lightning_seg.evaluation.table import ScoreTable

_DIGITS = 16  # of a digest
_ROUNDING = 1e-6


def scores_file(folder: Path) -> Path:
    """The table in a folder of scores: the Parquet file, which also holds the sums of calibration,
    where it is there."""
    parquet = folder / "scores.parquet"
    return parquet if parquet.is_file() else folder / "scores.csv"


def table_digest(file: Path) -> str:
    """16 hex digits of the content of a score table's file."""
    return hashlib.sha256(file.read_bytes()).hexdigest()[:_DIGITS]


def check_summary(summary: Summary, folder: Path) -> None:
    """InputError where ``scores.csv`` is not the table that the summary was made from, or the
    Parquet file beside it another one.

    The digest of the file is known since summaries keep it; its scores are computed again always.
    """
    file = folder / "scores.csv"
    if summary.table_digest and summary.table_digest != table_digest(file):
        raise _disagreement(file, "it was changed since it was written")
    table = ScoreTable.read(file)
    if len(table.ids) != summary.images:
        raise _disagreement(file, f"{len(table.ids)} images against {summary.images}")
    for name, scores in summary.scores.items():
        for score in scores.keys() & SCORES.keys():
            counts = table.of(name)
            found = {
                "image": float(per_image(counts, score).mean()),
                "pooled": float(pooled(counts, score)),
            }
            for convention in found.keys() & scores[score].keys():
                ours, theirs = found[convention], scores[score][convention].value
                # what is undefined today was 1 in older versions
                known = isfinite(ours) and isfinite(theirs)
                if known and abs(ours - theirs) > _ROUNDING:
                    what = f"{score} ({convention}) of {name} is {ours:.4f} against {theirs:.4f}"
                    raise _disagreement(file, what)
    parquet = scores_file(folder)
    if parquet != file and not _is_same(ScoreTable.read(parquet), table):
        raise _disagreement(parquet, "it holds other rows than scores.csv")


def is_copy(one: ScoreTable, other: ScoreTable) -> bool:
    """Tell whether two tables are of one network, as of a run and its copy."""
    return tells_networks_apart(one) and _is_same(one, other)


def tells_networks_apart(table: ScoreTable) -> bool:
    """Tell whether no two trainings have this table: predictions that are not all empty or all
    right."""
    tp, fp, fn, _ = np.moveaxis(table.counts, -1, 0)
    return bool((tp + fp).any() and (fp + fn).any())


def _is_same(one: ScoreTable, other: ScoreTable) -> bool:
    """Tell whether two tables hold the same rows; sums of calibration are in one kind of file."""
    if (one.ids, one.classes, one.groups) != (other.ids, other.classes, other.groups):
        return False
    if one.measures.keys() != other.measures.keys() or (one.counts != other.counts).any():
        return False
    pairs = ((one.measures[name], other.measures[name]) for name in one.measures)
    return all(np.allclose(*pair, rtol=1e-9, atol=0, equal_nan=True) for pair in pairs)


def _disagreement(file: Path, what: str) -> InputError:
    return InputError(
        f"{file} and the summary.json beside it do not say the same ({what}): one of them was "
        "changed by hand; test the run again."
    )
