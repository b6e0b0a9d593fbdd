"""Scores from counts, and every convention under which they are averaged, by name.

Counts are integers ``(..., 4)``: TP, FP, FN, TN of one image and one class.

=============== ==================================================================================================
``image``       one score per image, then the mean over images. The headline of this project; PEFNet, Polyp-PVT.
``pooled``      the counts of all images are added, then one score is formed: ``IoU = D / (2 - D)`` and ``F1 = Dice`` hold
                exactly. UNet-A, DUCK-Net.
``batch<n>``    counts are added over n consecutive images of the split, one score per batch, then the mean: ``batch16``. DCA.
``two_class``   pooled, mean of the score of the foreground and of the background: the mDice and mIoU of mmsegmentation.
``volume``      counts are added over the images of a group (scan, patient), one score per group, then the mean over groups.
``pranet``      per image: probabilities are stretched to [0, 1] by their own minimum and maximum, the score is averaged
                over 256 thresholds, then over images (``measures``: dice_pranet, iou_pranet). Polyp-PVT's and PraNet's meanDic.
=============== ==================================================================================================

``_fov`` behind ``image``, ``pooled``, ... counts only pixels inside the field of view; without it the whole frame counts.

Empty masks: a score that is 0/0 counts 1 where truth and prediction are both empty, and 0 otherwise (so a false positive on an
image without the class costs a whole image). Specificity without any background pixel counts 1. MCC with an empty row or
column of the confusion matrix counts 1 where truth and prediction are equal, and 0 otherwise.

Nothing anywhere: where no image has any foreground and none is predicted in any of them, Dice, IoU, precision, recall, MCC and
the distances of outlines say nothing of a model. They are undefined then (nan, shown as ``-``), under every convention.
Specificity and accuracy count true negatives and stay defined.
"""

import re
from collections.abc import Callable, Iterable
from math import isnan, nan
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_seg.errors import unknown
from lightning_seg.evaluation.measures import MEASURES

Counts = NDArray[np.int64]
Values = NDArray[np.float64]

# score -> its numerator and denominator from (tp, fp, fn, tn)
SCORES: dict[str, Callable[..., tuple[NDArray[np.int64], NDArray[np.int64]]]] = {
    "dice": lambda tp, fp, fn, tn: (2 * tp, 2 * tp + fp + fn),
    "iou": lambda tp, fp, fn, tn: (tp, tp + fp + fn),
    "precision": lambda tp, fp, fn, tn: (tp, tp + fp),
    "recall": lambda tp, fp, fn, tn: (tp, tp + fn),
    "specificity": lambda tp, fp, fn, tn: (tn, tn + fp),
    "accuracy": lambda tp, fp, fn, tn: (tp + tn, tp + fp + fn + tn),
}
OF_FOREGROUND = frozenset(
    {
        *("dice", "iou", "precision", "recall", "mcc"),
        *(measure.name for measure in MEASURES if measure.of_foreground),
    }
)
LOWER_IS_BETTER = frozenset(
    {"ece", *(measure.name for measure in MEASURES if measure.lower_is_better)}
)
CONVENTIONS = ("image", "pooled", "batch<n>", "two_class", "volume")


def per_image(counts: Counts | Values, score: str) -> Values:
    """The score of each row of ``counts`` (..., 4)."""
    tp, fp, fn, tn = np.moveaxis(np.asarray(counts), -1, 0)
    if score == "mcc":
        return _mcc(tp, fp, fn, tn)
    if score not in SCORES:
        raise unknown("score", score, [*SCORES, "mcc"])
    above, below = SCORES[score](tp, fp, fn, tn)
    of_nothing = np.where(tp + fp + fn == 0, 1.0, 0.0)
    if score == "specificity":
        of_nothing = np.ones_like(of_nothing)
    return np.where(below > 0, above / np.maximum(below, 1), of_nothing)


def _mcc(*counts: Counts) -> Values:
    """Matthews' correlation of truth and prediction, in [-1, 1]."""
    tp, fp, fn, tn = (np.asarray(count, dtype=np.float64) for count in counts)
    of_foreground = np.sqrt((tp + fp) * (tp + fn))
    of_background = np.sqrt((tn + fp) * (tn + fn))
    variance = of_foreground * of_background
    varies = variance > 0
    of_nothing = np.where(fp + fn == 0, 1.0, 0.0)
    covariance = tp * tn - fp * fn
    return np.where(varies, covariance / np.where(varies, variance, 1), of_nothing)


def pooled(counts: Counts, score: str) -> Values:
    """The score of the counts added over the images, axis -2 of ``counts`` (..., N, 4)."""
    return per_image(np.asarray(counts).sum(-2), score)


def two_class(counts: Counts | Values, score: str) -> Values:
    """The mean score of foreground and background, of counts added already (..., 4)."""
    # TN FN FP TP: the counts with the roles of the classes exchanged
    background = counts[..., ::-1]
    return np.add(per_image(counts, score), per_image(background, score)) / 2


def units(
    convention: str,
    groups: tuple[str, ...],
) -> NDArray[np.intp]:
    """(N,) which batch or group each image's counts are added in.

    For ``batch<n>`` and ``volume``; else each image is its own.
    """
    batch = re.fullmatch(r"batch([1-9]\d*)", convention)
    if batch:
        return np.arange(len(groups)) // int(batch.group(1))
    if convention == "volume":
        return positions(groups)
    if convention not in ("image", "pooled", "two_class"):
        raise unknown("convention", convention, CONVENTIONS)
    return np.arange(len(groups))


def positions(names: tuple[str, ...]) -> NDArray[np.intp]:
    """(N,) the number of each name, counted by first appearance."""
    order = {name: place for place, name in enumerate(dict.fromkeys(names))}
    return np.array([order[name] for name in names], dtype=np.intp)


def add(
    values: NDArray[Any],
    unit: NDArray[np.intp],
) -> NDArray[Any]:
    """Rows of ``values`` (N, ...) added within each of the units (N,): (U, ...)."""
    number = int(unit.max(initial=-1)) + 1
    total = np.zeros((number, *values.shape[1:]), dtype=values.dtype)
    np.add.at(total, unit, values)
    return total


def undefined(counts: Counts, score: str) -> bool:
    """Tell whether a score of foreground has nothing to be of.

    That is where no image of counts (..., 4) has truth or prediction.
    """
    return score in OF_FOREGROUND and not np.asarray(counts)[..., :3].any()


def scores(counts: Counts) -> dict[str, float]:
    """Every score of (N, 4) counts under both conventions; one that is undefined is nan.

    ``dice`` is pooled, ``dice_image`` the mean over images, and so for all.
    """
    found = {}
    for name in SCORES:
        nothing = undefined(counts, name)
        found[name] = nan if nothing else float(pooled(counts, name))
        found[f"{name}_image"] = nan if nothing else float(per_image(counts, name).mean())
    return found | {"f1": found["dice"]}


def mean_of_defined(values: Iterable[float]) -> float:
    """The mean of the values that are defined: of the classes that there are; nan without any."""
    known = [value for value in values if not isnan(value)]
    return sum(known) / len(known) if known else nan
