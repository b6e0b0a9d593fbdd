"""Which model is best, and how sure that is: ranks with intervals, ties with the leader."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lightning_seg.data.split_sizes import FEWEST_UNITS
from lightning_seg.evaluation.compare import holm
from lightning_seg.evaluation.conventions import LOWER_IS_BETTER, Values
from lightning_seg.evaluation.intervals import (
    Statistic,
    bca,
    draw_weights,
    p_value,
    same_groups,
    statistic,
)
from lightning_seg.evaluation.table import ScoreTable

_BLOCK = 1_000_000  # scores held at once


class Ranking(NamedTuple):
    """A model among others. Intervals are of 95 %."""

    value: float  # mean over the seeds
    low: float
    high: float
    sd_over_seeds: float  # nan of a single seed
    rank: int  # 1 is best; equal values share the better rank
    rank_low: int
    rank_high: int
    tied_with_best: bool  # Holm-corrected p of the paired difference to the leader over .05, or unknown: too few units


def rank_intervals(
    tables: Mapping[str, Sequence[ScoreTable]],
    class_name: str,
    score: str = "dice",
    convention: str = "image",
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Ranking]:
    """Models ranked by a paired bootstrap over the same images or groups.

    Args:
        tables: model -> one table per seed; all tables over the same images.
        score, convention: see `intervals.statistic`.

    Returns:
        model -> Ranking, best first.
    """
    same_groups([table for seeds in tables.values() for table in seeds])
    models = {
        name: statistic(seeds, class_name, score, convention) for name, seeds in tables.items()
    }
    resamples = max(
        resamples, 100 * len(models)
    )  # or no difference could survive Holm's correction
    sign = -1.0 if score in LOWER_IS_BETTER else 1.0
    values = np.array([model.value for model in models.values()])
    rank = _ranks(sign * values[:, None])[:, 0]
    drawn = _drawn_ranks(list(models.values()), sign, resamples, seed)
    bounds = [np.quantile(each, [0.025, 0.975], method="nearest").astype(int) for each in drawn]
    tied = _tied(list(models.values()), int(np.argmin(rank)), resamples, seed)
    found = {
        name: Ranking(
            model.value,
            *bca(model, resamples, seed),
            _seed_deviation(model.seeds),
            int(rank[i]),
            int(bounds[i][0]),
            int(bounds[i][1]),
            tied[i],
        )
        for i, (name, model) in enumerate(models.items())
    }
    return dict(sorted(found.items(), key=lambda item: item[1].rank))


def _drawn_ranks(
    models: Sequence[Statistic], sign: float, resamples: int, seed: int
) -> NDArray[np.uint16]:
    """(M, resamples) the rank of each model in each resample; ``sign`` -1 where less is better.

    Only some of the resamples are scored at a time, so that memory holds no score of each model in
    each.
    """
    found = np.empty((len(models), resamples), np.uint16)
    step, done = max(1, _BLOCK // len(models)), 0
    for weights in draw_weights(len(models[0].sums), resamples, seed):
        for start in range(0, len(weights), step):
            part = weights[start : start + step]
            values = np.stack([model.weighted(part) for model in models])
            found[:, done : done + len(part)] = _ranks(sign * values)
            done += len(part)
    return found


def _ranks(values: Values) -> NDArray[np.int64]:
    """(M, R) of values, larger is better: one more than the number of models that are better.

    Each column is sorted once, so that the work grows with M log M and no array is larger than
    ``values``. An undefined value is worse than any other.
    """
    kept = np.where(np.isnan(values), -np.inf, values)
    ranks = np.empty(kept.shape, np.int64)
    for place, column in enumerate(kept.T):
        better = len(column) - np.searchsorted(np.sort(column), column + 1e-12, "right")
        ranks[:, place] = 1 + better
    return ranks


def _tied(
    models: list[Statistic],
    leader: int,
    resamples: int,
    seed: int,
) -> list[bool]:
    if len(models[leader].sums) < FEWEST_UNITS:
        return [True] * len(models)
    others = [place for place in range(len(models)) if place != leader]
    p = holm([p_value(models[leader].minus(models[place]), resamples, seed) for place in others])
    tied = dict(zip(others, ~(p <= 0.05), strict=True))
    return [bool(tied.get(place, True)) for place in range(len(models))]


def _seed_deviation(seeds: Values) -> float:
    return float(seeds.std(ddof=1)) if len(seeds) > 1 else float("nan")
