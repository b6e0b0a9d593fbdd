"""95 % intervals and p-values by the bootstrap.

It draws images, or groups where any group holds several images; under the convention ``batch<n>``
it draws batches, whatever they mix.

Every score is a function of sums over independent units (`Statistic`), so that a resample is a
vector of weights: how often each unit was drawn. Scores drawn with the same weights are paired.
Several seeds of one model: the score of each seed, averaged.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from math import isnan, nan
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lightning_seg.data.split_sizes import FEWEST_UNITS
from lightning_seg.errors import InputError, unknown
from lightning_seg.evaluation.conventions import (
    SCORES,
    Counts,
    Values,
    add,
    per_image,
    positions,
    two_class,
    undefined,
    units,
)
from lightning_seg.evaluation.probability import ece
from lightning_seg.evaluation.table import ScoreTable

_KEPT = 16_000_000  # weights that are kept for the next score
_CHUNK = 4_000_000  # weights held at once where there are more


class Statistic(NamedTuple):
    """A score of S seeds over U units."""

    sums: Values  # (U, S, d): what each unit adds
    # sums over units (..., S, d) -> the score (...), mean over the seeds
    form: Callable[[Values], Values]

    @property
    def value(self) -> float:
        return float(self.form(self.sums.sum(0)))

    @property
    def seeds(self) -> Values:
        """(S,) the score of each seed."""
        total = self.sums.sum(0)
        return np.array([float(self.form(seed[None])) for seed in total])

    def resampled(self, resamples: int = 2000, seed: int = 0) -> Values:
        """(resamples,) the score of each resample.

        Paired with every other statistic of as many units.
        """
        parts = draw_weights(len(self.sums), resamples, seed)
        return np.concatenate([self.weighted(weights) for weights in parts])

    def weighted(self, weights: Values) -> Values:
        """(R,) the score where each unit counts as often as ``weights`` (R, U) say."""
        flat = self.sums.reshape(len(self.sums), -1)
        drawn = (weights @ flat).reshape(-1, *self.sums.shape[1:])
        return self.form(drawn)

    def minus(self, other: "Statistic") -> "Statistic":
        """The paired difference, over the same units."""
        seeds, own, theirs_own = self.sums.shape[1], self.sums.shape[2], other.sums.shape[2]

        def form(sums: Values) -> Values:
            ours, theirs = sums[..., :seeds, :own], sums[..., seeds:, :theirs_own]
            return self.form(ours) - other.form(theirs)

        # what is undefined of one of them has other sums than the other
        depth = max(own, theirs_own)
        both = [
            np.pad(s, ((0, 0), (0, 0), (0, depth - s.shape[2]))) for s in (self.sums, other.sums)
        ]
        return Statistic(np.concatenate(both, 1), form)


def draw_weights(
    units: int,
    resamples: int,
    seed: int,
) -> Iterator[NDArray[np.float64]]:
    """The number of times that each unit is drawn, (part of the resamples, units) at a time."""
    if units * resamples <= _KEPT:
        yield _few_weights(units, resamples, seed)
        return
    random = np.random.default_rng(seed)
    step = max(1, _CHUNK // units)
    for start in range(0, resamples, step):
        yield _draw_some(random, units, min(step, resamples - start))


@lru_cache(maxsize=2)
def _few_weights(
    units: int,
    resamples: int,
    seed: int,
) -> NDArray[np.float64]:
    return _draw_some(np.random.default_rng(seed), units, resamples)


def _draw_some(
    random: np.random.Generator,
    units: int,
    resamples: int,
) -> NDArray[np.float64]:
    drawn = random.integers(units, size=(resamples, units))
    drawn += units * np.arange(resamples)[:, None]
    often = np.bincount(drawn.ravel(), minlength=resamples * units)
    return often.reshape(resamples, units).astype(np.float64)


def statistic(
    tables: Sequence[ScoreTable], class_name: str, score: str, convention: str = "image"
) -> Statistic:
    """A score of one model, of whom each table is a seed, all over the same images.

    Args:
        score: of ``SCORES``, ``mcc``, ``ece`` (pooled) or a measure of the tables (mean over
            images).
        convention: see ``conventions``; ``_fov`` behind it counts inside the field of view.
    """
    first, groups = tables[0], same_groups(tables)
    if score == "ece":
        sums = np.stack([_calibration(table)[:, table.index(class_name)] for table in tables], 1)
        flat = sums.reshape(*sums.shape[:2], -1)  # (N, S, bins * 3)
        return Statistic(add(flat, positions(groups)), _ece_of_flat)
    base = convention.removesuffix("_fov")
    counts = np.stack(
        [_counts_under(table, convention)[:, table.index(class_name)] for table in tables], 1
    )
    if undefined(counts, score):
        return _nothing(len(tables), positions(groups))
    if score in SCORES or score == "mcc":
        return of_counts(counts, score, base, groups)
    for table in tables:
        if score not in table.measures:
            raise unknown("score", score, [*SCORES, "mcc", "ece", *first.measures])
    if convention != "image":
        raise InputError(
            f"{score} is a measure of single images, not {convention!r}; "
            "give the convention 'image'."
        )
    measured = [table.measures[score][:, table.index(class_name)] for table in tables]
    return mean_of(np.stack(measured, 1), positions(groups))


def _ece_of_flat(sums: Values) -> Values:
    by_bin = sums.reshape(*sums.shape[:-1], -1, 3)
    return ece(by_bin).mean(-1)


def _nothing(seeds: int, unit: NDArray[np.intp]) -> Statistic:
    """A score that is undefined, over as many units as it would have."""
    number = int(unit.max(initial=-1)) + 1
    sums = np.zeros((number, seeds, 1))
    return Statistic(sums, lambda s: np.full(s.shape[:-2], nan))


def of_counts(
    counts: Counts,
    score: str,
    convention: str,
    groups: tuple[str, ...],
) -> Statistic:
    """The score of counts (N, S, 4) of images and seeds."""
    added = add(np.asarray(counts, dtype=np.int64), units(convention, groups))
    if convention in ("pooled", "two_class"):
        form: Callable[[Values, str], Values] = (
            two_class if convention == "two_class" else per_image
        )
        sums = add(added.astype(np.float64), positions(groups))
        return Statistic(sums, lambda s: form(s, score).mean(-1))
    each = positions(groups) if convention == "image" else np.arange(len(added))
    return mean_of(per_image(added, score), each)


def mean_of(values: Values, unit: NDArray[np.intp]) -> Statistic:
    """The mean of values (N, S) of which some belong to one unit."""
    sums = add(np.stack([values, np.ones_like(values)], -1), unit)
    return Statistic(sums, lambda s: (s[..., 0] / s[..., 1]).mean(-1))


def _counts_under(table: ScoreTable, convention: str) -> Counts:
    if not convention.endswith("_fov"):
        return table.counts
    if table.fov_counts is None:
        raise InputError(
            f"{convention!r} needs counts inside a field of view, which these data have not; "
            "leave out '_fov'."
        )
    return table.fov_counts


def _calibration(table: ScoreTable) -> Values:
    if table.calibration is None:
        raise InputError(
            "the score table holds no calibration sums; read scores.parquet, or test the run again."
        )
    return table.calibration


def same_groups(tables: Sequence[ScoreTable]) -> tuple[str, ...]:
    """The group of each image.

    InputError where the tables are not over the same images in the same groups.
    """
    first = tables[0]
    for table in tables[1:]:
        if table.ids != first.ids:
            raise InputError(
                f"the score tables hold other images ({len(table.ids)} against {len(first.ids)}, "
                "or in another order); compare runs over one split."
            )
        if table.groups != first.groups:
            ours, theirs = len(set(table.groups)), len(set(first.groups))
            raise InputError(
                f"the score tables put the images into other groups ({ours} against {theirs}); "
                "test the older runs again."
            )
    return first.groups


def interval(
    counts: Counts,
    score: str,
    convention: str,
    resamples: int = 2000,
    seed: int = 0,
    groups: tuple[str, ...] = (),
) -> tuple[float, float]:
    """`bca` of a score of counts (N, 4) over images, or over ``groups`` (N,)."""
    counts = np.asarray(counts, dtype=np.int64)
    groups = groups or tuple(map(str, range(len(counts))))
    found = of_counts(counts[:, None], score, convention, groups)
    return bca(found, resamples, seed)


def bca(
    statistic: Statistic,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """95 % interval, bias-corrected and accelerated. Efron 1987.

    Returns:
        Lower and upper bound; both the score itself where it does not vary, nan for fewer than
        `FEWEST_UNITS` units, which say little, and of a score that is undefined.
    """
    from scipy.special import ndtr, ndtri

    if len(statistic.sums) < FEWEST_UNITS or isnan(statistic.value):
        return nan, nan
    drawn = statistic.resampled(resamples, seed)
    if np.ptp(drawn) < 1e-12:
        return statistic.value, statistic.value
    bias, acceleration = _corrections(statistic, drawn)
    z = bias + ndtri([0.025, 0.975])
    low, high = np.quantile(drawn, ndtr(bias + z / (1 - acceleration * z)))
    return float(low), float(high)


def p_value(
    difference: Statistic,
    resamples: int = 2000,
    seed: int = 0,
) -> float:
    """Two-sided p of a difference of 0: the level at which its BCa interval would end there.

    At least 2 / (resamples + 1); 1 where nothing differs, nan for fewer than `FEWEST_UNITS` units.
    """
    from scipy.special import ndtr, ndtri

    if len(difference.sums) < FEWEST_UNITS or isnan(difference.value):
        return nan
    drawn = difference.resampled(resamples, seed)
    if np.ptp(drawn) < 1e-12:
        return 1.0 if abs(difference.value) < 1e-12 else 2 / (resamples + 1)
    bias, acceleration = _corrections(difference, drawn)
    y = ndtri(_share_below(drawn, 0.0)) - bias
    # |acceleration| is at most 1/6
    tail = float(ndtr(y / max(1 + acceleration * y, 1e-6) - bias))
    both = 2 * min(tail, 1 - tail)
    return min(1.0, max(both, 2 / (resamples + 1)))


def _corrections(statistic: Statistic, drawn: Values) -> tuple[float, float]:
    """BCa's bias and acceleration; both 0 (the percentile interval) where they are undefined."""
    from scipy.special import ndtri

    bias = float(ndtri(_share_below(drawn, statistic.value)))
    without = statistic.form(statistic.sums.sum(0) - statistic.sums)  # the jackknife
    influence = without.mean() - without
    spread = float((influence**2).sum()) ** 1.5
    if spread < 1e-30 or abs(bias) > 1.5:
        return 0.0, 0.0
    return bias, float((influence**3).sum()) / (6 * spread)


def _share_below(drawn: Values, value: float) -> float:
    """Share of the resamples below ``value``, ties half, kept off 0 and 1."""
    below, up_to = (drawn < value).mean(), (drawn <= value).mean()
    share = (below + up_to) / 2
    edge = 1 / (len(drawn) + 1)
    return float(np.clip(share, edge, 1 - edge))
