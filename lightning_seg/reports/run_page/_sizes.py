"""Results by the size and number of the lesions, and by the columns of the table: the strata of `lightning_seg.evaluation`, with
what was found, missed and false."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lightning_seg.evaluation import ScoreTable, pooled, statistic, strata
from lightning_seg.evaluation.intervals import bca


class Group(NamedTuple):
    """Images of one stratum. Shares are of the pixels of the truth: found and missed add up to
    1."""

    name: str
    rule: str
    rows: NDArray[np.intp]  # of the table
    dice: float  # mean over images
    interval: tuple[float, float]
    dice_pooled: float
    found: float
    missed: float
    false: float
    unseen: int  # images of which no lesion pixel was found


class EmptyGroup(NamedTuple):
    """Images whose truth is empty."""

    rows: NDArray[np.intp]
    alarms: int  # images with a predicted pixel


def by_size(table: ScoreTable, name: str) -> list[Group]:
    """The images that hold the class ``name``: small, medium and large, then those of one and of
    several lesions."""
    return [
        _group_of_size(table, name, stratum.name, stratum.rule, np.flatnonzero(stratum.rows))
        for stratum in strata(table, name)
        if stratum.name != "empty" and not stratum.column
    ]


def by_column(table: ScoreTable, name: str) -> dict[str, list[Group]]:
    """column of the data set's table -> the images of each of its values."""
    found: dict[str, list[Group]] = {}
    for stratum in (each for each in strata(table, name) if each.column):
        rows = np.flatnonzero(stratum.rows)
        group = _group_of_size(table, name, stratum.name, stratum.rule, rows)
        found.setdefault(stratum.column, []).append(group)
    return found


def without_lesion(table: ScoreTable, name: str) -> EmptyGroup:
    counts = table.of(name)
    rows = np.flatnonzero(counts[:, 0] + counts[:, 2] == 0)
    return EmptyGroup(rows, int((counts[rows, 1] > 0).sum()))


def _group_of_size(
    table: ScoreTable,
    name: str,
    label: str,
    rule: str,
    rows: NDArray[np.intp],
) -> Group:
    dice, counts = statistic([table.at(rows)], name, "dice", "image"), table.of(name)[rows]
    # a value of a column may have no lesion at all
    tp, fp, fn, _ = counts.sum(0) / max(counts[:, [0, 2]].sum(), 1)
    unseen = int(((counts[:, 0] == 0) & (counts[:, 2] > 0)).sum())
    pooled_dice = float(pooled(counts, "dice"))
    return Group(label, rule, rows, dice.value, bca(dice), pooled_dice, tp, fn, fp, unseen)
