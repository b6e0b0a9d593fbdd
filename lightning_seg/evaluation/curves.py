"""Curves of all pixels together, from a histogram of probabilities (2, bins): pixels of background
and of foreground."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lightning_seg.evaluation.probability import CALIBRATION_BINS, ece

Histogram = NDArray[np.int64]
Values = NDArray[np.float64]


class PRCurve(NamedTuple):
    """Points of the curve at each threshold, the lower edge of a bin: pixels counted by it, precision (1 where nothing
    is predicted) and recall."""

    thresholds: Values
    tp: Values
    fp: Values
    tn: Values
    fn: Values
    precision: Values
    recall: Values

    @property
    def average_precision(self) -> float:
        """The sum of precision over the steps of recall, as scikit-learn defines it."""
        return float(np.sum(-np.diff(self.recall, append=0.0) * self.precision))


class Reliability(NamedTuple):
    """The bins that hold pixels: their mean probability, their share of foreground, their
    number; and the calibration error."""

    probability: Values
    frequency: Values
    pixels: Values
    ece: float


@dataclass(frozen=True)
class BestThreshold:
    """The threshold with the highest Dice pooled over pixels, in the mean over the classes.

    Attributes:
        value: a probability above it is predicted.
        dice: at this threshold.
    """

    value: float
    dice: float


def best_threshold(histogram: NDArray[np.int64]) -> BestThreshold | None:
    """The best of 255 thresholds between 0 and 1; None where no class has any foreground.

    Args:
        histogram: (K, 2, bins) pixels of background and of foreground by probability.
    """
    shown = [one for one in histogram if one[1].any()]
    if not shown:
        return None
    curves = [pr_curve(one) for one in shown]
    dice = np.mean([2 * c.tp / (2 * c.tp + c.fp + c.fn) for c in curves], axis=0)
    # of equal ones the nearest to .5; 0 is no threshold
    distance = np.abs(curves[0].thresholds - 0.5)
    order = np.lexsort((distance[1:], -dice[1:].round(9)))
    place = 1 + int(order[0])
    return BestThreshold(float(curves[0].thresholds[place]), float(dice[place]))


def pr_curve(histogram: Histogram) -> PRCurve:
    """Precision and recall at as many thresholds as the histogram has bins."""
    fp, tp = np.asarray(histogram, dtype=np.float64)[:, ::-1].cumsum(1)[:, ::-1]
    tn, fn = fp[0] - fp, tp[0] - tp
    precision = np.where(tp + fp > 0, tp / np.maximum(tp + fp, 1), 1.0)
    thresholds = np.arange(len(tp)) / len(tp)
    return PRCurve(thresholds, tp, fp, tn, fn, precision, tp / np.maximum(tp + fn, 1))


def counted(
    tp: NDArray[np.floating],
    fp: NDArray[np.floating],
) -> Histogram:
    """The histogram of which `pr_curve` made ``tp`` and ``fp`` (bins,)."""
    return np.rint(-np.diff(np.stack([fp, tp]).astype(np.float64), append=0.0)).astype(np.int64)


def reliability(sums: Values) -> Reliability:
    """Measure how often pixels of a predicted probability are foreground; sums (bins, 3) as
    `probability.calibration_sums` gives them."""
    pixels, foreground, probability = sums[sums[:, 0] > 0].T
    return Reliability(probability / pixels, foreground / pixels, pixels, float(ece(sums)))


def calibration_of(histogram: Histogram, bins: int = CALIBRATION_BINS) -> Values:
    """The sums (bins, 3) of `reliability`, each pixel taken at the centre of its bin in the
    histogram.

    With the 256 bins of `SegmentationCounts` a mean probability, and so the ECE, is off by at most
    1/512.
    """
    fine = histogram.shape[1]
    coarse, pixels = np.arange(fine) * bins // fine, histogram.sum(0)
    weights = (pixels, histogram[1], pixels * (np.arange(fine) + 0.5) / fine)
    return np.stack([np.bincount(coarse, weight, bins) for weight in weights], -1)
