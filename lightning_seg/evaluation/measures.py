"""What is measured of one image and class beside its counts, at a cost of milliseconds: in `test` and `validate`, never in `fit`.

* ``boundary``: ``hd95``, the 95th percentile of surface distances in pixels of the scored size, and ``nsd``, the share of the
  surfaces within 2 pixels of each other (see ``boundary.py``).
* ``topology``: ``cldice``, the overlap of skeletons with masks. Shit et al. 2021.
* ``saliency``: what polyp papers report, of the stretched map (see ``saliency.py``): ``s_measure``, ``e_measure`` (mean over 256
  thresholds), ``e_measure_adaptive``, ``weighted_f``, ``mae``, ``dice_pranet`` and ``iou_pranet`` (means over 256 thresholds).
* ``probability``: ``brier``, the mean squared error, and the sums from which ECE and the area under the ROC curve follow.

Ignored pixels (``region`` 0) are background of truth and prediction here, and left out of ``mae`` and ``probability``.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lightning_seg.errors import unknown
from lightning_seg.evaluation.boundary import boundary_scores, bounding_box
from lightning_seg.evaluation.probability import CALIBRATION_BINS, calibration_sums
from lightning_seg.evaluation.saliency import (
    LEVELS,
    adaptive_e_measure,
    s_measure,
    stretch,
    threshold_counts,
    threshold_curves,
    weighted_f,
)

NSD_TOLERANCE = 2.0  # pixels of the scored size
FAMILIES: dict[str, tuple[str, ...]] = {
    "boundary": ("hd95", "nsd"),
    "topology": ("cldice",),
    "saliency": (
        "s_measure",
        "e_measure",
        "e_measure_adaptive",
        "weighted_f",
        "mae",
        "dice_pranet",
        "iou_pranet",
    ),
    "probability": ("brier",),
}
CURVES = (
    "dice_pranet",
    "iou_pranet",
    "e_measure",
)  # of which the maximum over thresholds is reported too
Mask = NDArray[np.bool_]


class Measured(NamedTuple):
    """One image and class."""

    values: dict[str, float]
    components: int  # lesions of the truth: 8-connected
    calibration: NDArray[np.float64]  # (bins, 3)
    curves: NDArray[np.float64]  # (3, 256): CURVES over thresholds 1 ... 0


def names(families: Sequence[str]) -> tuple[str, ...]:
    """The measures of these families; InputError for an unknown one."""
    for family in families:
        if family not in FAMILIES:
            raise unknown("family of measures", family, FAMILIES)
    return tuple(
        name for family, members in FAMILIES.items() if family in families for name in members
    )


def measure(
    probability: NDArray[np.floating],
    truth: Mask,
    counted: Mask | None = None,
    families: Sequence[str] = tuple(FAMILIES),
) -> Measured:
    """All measures of the families.

    Args:
        probability: (H, W); the prediction is ``probability > 0.5``.
        counted: (H, W) False where pixels are ignored.
    """
    from scipy.ndimage import label

    kept = slice(None) if counted is None else counted
    if counted is not None:
        probability, truth = np.where(counted, probability, 0.0), truth & counted
    prediction, values = probability > 0.5, dict[str, float]()
    curves, calibration = np.zeros((len(CURVES), LEVELS)), np.zeros((CALIBRATION_BINS, 3))
    if "boundary" in families:
        values["hd95"], values["nsd"] = boundary_scores(prediction, truth, tolerance=NSD_TOLERANCE)
    if "topology" in families:
        values["cldice"] = cldice(prediction, truth)
    if "saliency" in families:
        found, curves = _saliency(probability, truth, kept)
        values |= found
    if "probability" in families:
        values["brier"] = float(((probability - truth)[kept] ** 2).mean())
        calibration = calibration_sums(probability[kept], truth[kept])
    return Measured(values, int(label(truth, np.ones((3, 3)))[1]), calibration, curves)


def _saliency(
    probability: NDArray[np.floating], truth: Mask, kept: Mask | slice
) -> tuple[dict[str, float], NDArray[np.float64]]:
    stretched = stretch(probability)
    curves = threshold_curves(threshold_counts(stretched, truth), int(truth.sum()), truth.size)
    return {
        "s_measure": s_measure(stretched, truth),
        "e_measure": float(curves[2].mean()),
        "e_measure_adaptive": adaptive_e_measure(stretched, truth),
        "weighted_f": weighted_f(stretched, truth),
        "mae": float(np.abs(stretched - truth)[kept].mean()),
        "dice_pranet": float(curves[0].mean()),
        "iou_pranet": float(curves[1].mean()),
    }, curves


def cldice(prediction: Mask, truth: Mask) -> float:
    """Harmonic mean of the shares of each skeleton that lies in the other mask; both empty 1, one empty 0."""
    from skimage.morphology import skeletonize

    if not prediction.any() or not truth.any():
        return float(prediction.any() == truth.any())
    here, there = bounding_box(prediction), bounding_box(truth)
    precision = truth[here][skeletonize(prediction[here])].mean()
    sensitivity = prediction[there][skeletonize(truth[there])].mean()
    return float(2 * precision * sensitivity / max(precision + sensitivity, 1e-12))
