"""What the columns of a score table say of each other: a table that lies alone has no summary that
would tell counts under exchanged headings."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lightning_seg.errors import InputError
from lightning_seg.evaluation.conventions import SCORES, per_image
from lightning_seg.evaluation.table import ScoreTable

_ROUNDING = 1e-3  # of scores that were written with few digits
Rows = NDArray[np.bool_]  # (N, K)


def check_columns(table: ScoreTable, path: Path) -> None:
    """InputError where counts cannot be those of the measures beside them."""
    for what, wrong in _contradictions(table):
        if wrong.any():
            row, place = np.argwhere(wrong)[0]
            raise InputError(
                f"{path} contradicts itself: of {table.ids[row]} ({table.classes[place]}) {what}; "
                "its columns were exchanged or changed by hand: take the table as the test wrote it."
            )


def _contradictions(table: ScoreTable) -> Iterator[tuple[str, Rows]]:
    """Relations that hold in every table, and the rows where they do not."""
    tp, fp, fn, _ = np.moveaxis(table.counts, -1, 0)
    for name in table.measures.keys() & {*SCORES, "mcc"}:
        apart = np.abs(table.measures[name] - per_image(table.counts, name))
        yield f"{name} is not that of tp, fp, fn and tn", apart > _ROUNDING
    if table.components is not None:
        what = "components and tp + fn do not agree on whether there is any truth"
        yield what, (table.components > 0) != (tp + fn > 0)
    if table.fov_counts is not None:
        beyond: Rows = np.any(table.fov_counts > table.counts, axis=-1)
        yield "more pixels are in the field of view than in all", beyond
    if table.calibration is not None:
        foreground = table.calibration[..., 1].sum(-1)
        yield "tp + fn is not the foreground of calibration", np.abs(foreground - tp - fn) > 0.5
    if "cldice" in table.measures:
        skeletons = table.measures["cldice"] > 0
        yield "cldice finds an overlap and tp none", skeletons & (tp == 0) & (fp + fn > 0)
