"""Scores from counts, each convention by name.

Counts are integers ``(..., 4)``: TP, FP, FN, TN of one image and one class.

* *pooled*: the counts of all images are added, then one score is formed. ``IoU = D / (2 - D)`` and ``F1 = Dice`` hold exactly.
* *image* (``_image``): one score per image, then the mean.

Empty masks: a score that is 0/0 counts 1 where truth and prediction are both empty, and 0 otherwise (so a false positive on an
image without the class costs a whole image). Specificity without any background pixel counts 1.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]

# score -> its numerator and denominator from (tp, fp, fn, tn)
SCORES: dict[str, Callable[..., tuple[NDArray[np.int64], NDArray[np.int64]]]] = {
    "dice": lambda tp, fp, fn, tn: (2 * tp, 2 * tp + fp + fn),
    "iou": lambda tp, fp, fn, tn: (tp, tp + fp + fn),
    "precision": lambda tp, fp, fn, tn: (tp, tp + fp),
    "recall": lambda tp, fp, fn, tn: (tp, tp + fn),
    "specificity": lambda tp, fp, fn, tn: (tn, tn + fp),
    "accuracy": lambda tp, fp, fn, tn: (tp + tn, tp + fp + fn + tn),
}


def per_image(counts: Counts, score: str) -> NDArray[np.float64]:
    """The score of each row of ``counts`` (..., 4)."""
    tp, fp, fn, tn = np.moveaxis(np.asarray(counts, dtype=np.int64), -1, 0)
    above, below = SCORES[score](tp, fp, fn, tn)
    undefined = np.where(tp + fp + fn == 0, 1.0, 0.0) if score != "specificity" else np.ones(np.shape(tp))
    return np.where(below > 0, above / np.maximum(below, 1), undefined)


def pooled(counts: Counts, score: str) -> NDArray[np.float64]:
    """The score of the counts added over the images, axis -2 of ``counts`` (..., N, 4)."""
    return per_image(np.asarray(counts).sum(-2), score)


def scores(counts: Counts) -> dict[str, float]:
    """Every score of (N, 4) counts under both conventions: ``dice`` (pooled), ``dice_image`` (mean over images), ..."""
    both = {name: float(pooled(counts, name)) for name in SCORES}
    both["f1"] = both["dice"]
    return both | {f"{name}_image": float(per_image(counts, name).mean()) for name in SCORES}
