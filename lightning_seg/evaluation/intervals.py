"""95 % intervals by the bootstrap over images."""

import warnings

import numpy as np
from numpy.typing import NDArray

from lightning_seg.evaluation.conventions import Counts, per_image, pooled


def interval(counts: Counts, score: str, convention: str, resamples: int = 2000, seed: int = 0) -> tuple[float, float]:
    """Bootstrap interval (95 %, BCa) of a score over the images of ``counts`` (N, 4). Efron 1987, by scipy.

    Args:
        convention: ``image`` or ``pooled``.

    Returns:
        Lower and upper bound; both the score itself where it does not vary, nan for fewer than two images.
    """
    from scipy.stats import bootstrap

    counts = np.asarray(counts, dtype=np.int64)
    if len(counts) < 2:
        return float("nan"), float("nan")
    values = per_image(counts, score)

    def statistic(rows: NDArray[np.int64], axis: int = -1) -> NDArray[np.float64]:
        return values[rows].mean(axis) if convention == "image" else pooled(counts[rows], score)

    rows = np.arange(len(counts))
    if np.ptp(values) == 0:
        return float(statistic(rows)), float(statistic(rows))
    for method in ("BCa", "percentile"):  # BCa is undefined (nan) where single images do not move the score
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            random = np.random.default_rng(seed)
            bounds = bootstrap((rows,), statistic, n_resamples=resamples, method=method, rng=random).confidence_interval
        if np.isfinite([bounds.low, bounds.high]).all():
            break
    return float(bounds.low), float(bounds.high)
