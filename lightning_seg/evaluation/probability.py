"""How good the probabilities are: calibration error, Brier score, area under the ROC curve; all
from sums that add up."""

import numpy as np
from numpy.typing import NDArray

CALIBRATION_BINS = 16
ROC_BINS, _LOGIT = (
    2048,
    16.0,
)  # equal steps of the logit from -16 to 16: probabilities near 0 and 1 stay apart
Values = NDArray[np.float64]


def calibration_sums(
    probability: NDArray[np.floating],
    truth: NDArray[np.bool_],
) -> Values:
    """(bins, 3) by predicted probability, in bins of equal width: pixels, foreground pixels, sum of
    probabilities."""
    flat = np.asarray(probability, dtype=np.float64).ravel()
    bins = np.minimum((flat * CALIBRATION_BINS).astype(np.intp), CALIBRATION_BINS - 1)
    weights = (None, truth.ravel(), flat)
    return np.stack([np.bincount(bins, weight, CALIBRATION_BINS) for weight in weights], -1).astype(
        np.float64
    )


def ece(sums: Values) -> Values:
    """Expected calibration error of sums (..., bins, 3): gap of foreground share and mean
    probability, weighted by pixels."""
    pixels, foreground, probability = np.moveaxis(sums, -1, 0)
    return np.abs(foreground - probability).sum(-1) / np.maximum(pixels.sum(-1), 1)


def roc_sums(
    probability: NDArray[np.floating],
    truth: NDArray[np.bool_],
) -> NDArray[np.int64]:
    """(2, ROC_BINS) background and foreground pixels by probability."""
    with np.errstate(divide="ignore"):  # the logit of 0 and 1
        logit = np.log(probability) - np.log1p(-probability)
    step = 2 * _LOGIT / ROC_BINS
    bins = np.clip((logit + _LOGIT) / step, 0, ROC_BINS - 1).astype(np.intp) + ROC_BINS * truth
    return np.bincount(bins.ravel(), minlength=2 * ROC_BINS).reshape(2, ROC_BINS)


def roc_auc(sums: NDArray[np.int64]) -> float:
    """Probability that a foreground pixel ranks above a background pixel, ties half; nan where
    there are not both."""
    background, foreground = np.asarray(sums, dtype=np.float64)
    pairs = background.sum() * foreground.sum()
    below = background.cumsum() - background / 2
    return float((foreground * below).sum() / pairs) if pairs else float("nan")
