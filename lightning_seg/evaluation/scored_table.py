"""The table and the summary in a folder of scores, which have to say the same."""

import hashlib
from math import isfinite
from pathlib import Path

from lightning_seg.errors import InputError
from lightning_seg.evaluation.conventions import SCORES, per_image, pooled
from lightning_seg.evaluation.summary import Summary
from lightning_seg.evaluation.table import ScoreTable

_DIGITS = 16  # of a digest
_ROUNDING = 1e-6


def table_digest(file: Path) -> str:
    """16 hex digits of the content of a score table's file."""
    return hashlib.sha256(file.read_bytes()).hexdigest()[:_DIGITS]


def check_summary(summary: Summary, folder: Path) -> None:
    """InputError where ``scores.csv`` is not the table that the summary was made from.

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


def _disagreement(file: Path, what: str) -> InputError:
    return InputError(
        f"{file} and the summary.json beside it do not say the same ({what}): one of them was "
        "changed by hand; test the run again."
    )
