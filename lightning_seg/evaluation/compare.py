"""The difference of runs over the same images, paired, with Holm's correction over all pairs."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lightning_seg.data.split_sizes import FEWEST_UNITS
from lightning_seg.evaluation.intervals import bca, p_value, same_groups, statistic
from lightning_seg.evaluation.table import ScoreTable


class Comparison(NamedTuple):
    """Model a minus model b; the interval is of 95 % (BCa, paired)."""

    difference: float
    low: float
    high: float
    p_bootstrap: float
    p_wilcoxon: float  # of differences of the units' means; nan where a convention adds pixels up
    images: int
    groups: int


def compare_models(
    a: Sequence[ScoreTable],
    b: Sequence[ScoreTable],
    class_name: str,
    score: str = "dice",
    convention: str = "image",
    resamples: int = 2000,
    seed: int = 0,
) -> Comparison:
    """The paired difference of two models, each given by one table per seed, over the same images or groups.

    Args:
        score, convention: see `intervals.statistic`.
    """
    groups = same_groups([*a, *b])
    first, second = (statistic(tables, class_name, score, convention) for tables in (a, b))
    difference = first.minus(second)
    return Comparison(
        first.value - second.value,
        *bca(difference, resamples, seed),
        p_value(difference, resamples, seed),
        _wilcoxon(
            _units(a, class_name, score, convention) - _units(b, class_name, score, convention)
        ),
        len(groups),
        len(set(groups)),
    )


def _units(
    tables: Sequence[ScoreTable], class_name: str, score: str, convention: str
) -> NDArray[np.float64]:
    """The mean score over seeds of each independent unit: of a volume, or of the images of a group;
    none where a convention adds up the pixels of all."""
    if score == "ece" or convention.removesuffix("_fov") not in ("image", "volume"):
        return np.zeros(0)
    found = statistic(tables, class_name, score, convention)
    sums = found.sums
    if np.isnan(found.value):
        return np.full(len(sums), np.nan)
    return (sums[..., 0] / sums[..., 1]).mean(1)


def _wilcoxon(differences: NDArray[np.float64]) -> float:
    from scipy.stats import wilcoxon

    if not len(differences) or np.isnan(differences).any():
        return float("nan")
    differences = np.round(differences, 12)  # equal scores are ties, whatever the last bit
    return float(wilcoxon(differences).pvalue) if differences.any() else 1.0


def holm(p: Sequence[float]) -> NDArray[np.float64]:
    """p-values corrected for their number, in their order. Holm 1979."""
    values = np.asarray(p, dtype=np.float64)
    order = np.argsort(values)
    stepped = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    corrected = np.empty_like(values)
    corrected[order] = np.minimum(stepped, 1)
    return corrected


class UnpairedDifference(NamedTuple):
    """A score on one set of images minus that on another; the interval is of 95 % (percentiles)."""

    first: float
    second: float
    low: float
    high: float
    groups: tuple[int, int]

    @property
    def difference(self) -> float:
        return self.first - self.second


def compare_data_sets(
    a: Sequence[ScoreTable],
    b: Sequence[ScoreTable],
    class_name: str,
    score: str = "dice",
    convention: str = "image",
    resamples: int = 2000,
    seed: int = 0,
) -> UnpairedDifference:
    """The difference of two sets of images, each given by one table per seed of a model.

    Both are resampled by themselves, images or groups. Efron and Tibshirani 1993, chapter 8.

    Args:
        score, convention: see `intervals.statistic`.
    """
    first, second = (statistic(tables, class_name, score, convention) for tables in (a, b))
    units = len(first.sums), len(second.sums)
    drawn = first.resampled(resamples, seed) - second.resampled(resamples, seed + 1)
    enough = min(units) >= FEWEST_UNITS
    low, high = np.quantile(drawn, [0.025, 0.975]) if enough else (np.nan, np.nan)
    return UnpairedDifference(first.value, second.value, float(low), float(high), units)
