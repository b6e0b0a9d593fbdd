"""Measures of one image and class beside its counts, in `test` and `validate`, never in `fit`.

They cost milliseconds. A measure is one entry of `MEASURES`; score tables, summaries, comparisons,
leaderboards and what commands print follow from that.

* ``boundary``: ``hd95``, the 95th percentile of surface distances in pixels of the scored size, and
  ``nsd``, the share of the surfaces within 2 pixels of each other (see ``boundary.py``).
* ``topology``: ``cldice``, the overlap of skeletons with masks. Shit et al. 2021.
* ``saliency``: what polyp papers report, of the stretched map (see ``saliency.py``): ``s_measure``,
  ``e_measure`` (mean over 256 thresholds), ``e_measure_adaptive``, ``weighted_f``, ``mae``,
  ``dice_pranet`` and ``iou_pranet`` (means over 256 thresholds).
* ``probability``: ``brier``, the mean squared error, and the sums from which ECE and the area under
  the ROC curve follow.
* ``confidence``: what the network itself says of an image, without its truth: ``expected_dice`` and
  ``entropy`` (see ``confidence.py``).

Ignored pixels (``region`` 0) are background of truth and prediction here, and left out of ``mae``
and ``probability``.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lightning_seg.errors import unknown
from lightning_seg.evaluation.boundary import boundary_scores, bounding_box
from lightning_seg.evaluation.confidence import expected_dice, mean_entropy
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
# of which the maximum over thresholds is reported too
CURVES = ("dice_pranet", "iou_pranet", "e_measure")
_NO_CURVES = np.zeros((len(CURVES), LEVELS))
_NO_CALIBRATION = np.zeros((CALIBRATION_BINS, 3))
Mask = NDArray[np.bool_]


class Plane:
    """One image and class, and what several measures of it share.

    Args:
        probability: (H, W).
        truth: (H, W).
        counted: (H, W) False where pixels are ignored.
        prediction: (H, W); None: where the probability is above .5.
    """

    def __init__(
        self,
        probability: NDArray[np.floating],
        truth: Mask,
        counted: Mask | None = None,
        prediction: Mask | None = None,
    ) -> None:
        self.kept = slice(None) if counted is None else counted
        predicted = probability > 0.5 if prediction is None else prediction
        if counted is not None:
            probability, truth = np.where(counted, probability, 0.0), truth & counted
            predicted = predicted & counted
        self.probability, self.truth = probability, truth
        self.prediction: Mask = predicted

    @cached_property
    def boundary(self) -> tuple[float, float]:
        """HD95 and NSD."""
        return boundary_scores(self.prediction, self.truth, tolerance=NSD_TOLERANCE)

    @cached_property
    def stretched(self) -> NDArray[np.float64]:
        """The map with its own minimum at 0 and maximum at 1."""
        return stretch(self.probability)

    @cached_property
    def curves(self) -> NDArray[np.float64]:
        """(3, 256): `CURVES` over thresholds 1 ... 0."""
        counts = threshold_counts(self.stretched, self.truth)
        return threshold_curves(counts, int(self.truth.sum()), self.truth.size)

    @property
    def components(self) -> int:
        """Lesions of the truth: 8-connected."""
        from scipy.ndimage import label

        _, count = label(self.truth, np.ones((3, 3)))
        return int(count)

    @property
    def calibration(self) -> NDArray[np.float64]:
        """(bins, 3), see `calibration_sums`."""
        return calibration_sums(self.probability[self.kept], self.truth[self.kept])


@dataclass(frozen=True)
class Measure:
    """A column of the score table.

    Attributes:
        compute: the value of one image and class.
        note: what a reader of its value must know.
        lower_is_better: of two models the one with less of it is the better.
        of_foreground: says nothing where no image has any foreground or prediction.
        heading: of its column on leaderboards; empty where it has none.
        digits: behind the point there.
    """

    name: str
    family: str
    compute: Callable[[Plane], float]
    note: str = ""
    lower_is_better: bool = False
    of_foreground: bool = False
    heading: str = ""
    digits: int = 4

    @property
    def remark(self) -> str:
        """All that a reader of its value must know."""
        direction = "lower is better" if self.lower_is_better else ""
        return ", ".join(filter(None, (self.note, direction)))


def _absolute_error(plane: Plane) -> float:
    errors = np.abs(plane.stretched - plane.truth)
    return float(errors[plane.kept].mean())


def _squared_error(plane: Plane) -> float:
    errors = (plane.probability - plane.truth)[plane.kept]
    return float((errors**2).mean())


def _expected_dice(plane: Plane) -> float:
    return expected_dice(plane.probability, plane.prediction)


def _entropy(plane: Plane) -> float:
    return mean_entropy(plane.probability[plane.kept])


def _mean_curve(place: int) -> Callable[[Plane], float]:
    return lambda plane: float(plane.curves[place].mean())


_LEVELS = f"mean of {LEVELS}"
MEASURES = (
    Measure(
        "hd95",
        "boundary",
        lambda p: p.boundary[0],
        "px",
        lower_is_better=True,
        of_foreground=True,
        heading="HD95 px",
        digits=1,
    ),
    Measure(
        "nsd",
        "boundary",
        lambda p: p.boundary[1],
        f"within {NSD_TOLERANCE:g} px",
        of_foreground=True,
        heading="NSD",
    ),
    Measure("cldice", "topology", lambda p: cldice(p.prediction, p.truth)),
    Measure("s_measure", "saliency", lambda p: s_measure(p.stretched, p.truth)),
    Measure("e_measure", "saliency", _mean_curve(2), _LEVELS),
    Measure("e_measure_adaptive", "saliency", lambda p: adaptive_e_measure(p.stretched, p.truth)),
    Measure("weighted_f", "saliency", lambda p: weighted_f(p.stretched, p.truth)),
    Measure("mae", "saliency", _absolute_error, lower_is_better=True),
    Measure("dice_pranet", "saliency", _mean_curve(0), _LEVELS),
    Measure("iou_pranet", "saliency", _mean_curve(1), _LEVELS),
    Measure("brier", "probability", _squared_error, lower_is_better=True),
    Measure("expected_dice", "confidence", _expected_dice, "of the map alone, no truth"),
    Measure("entropy", "confidence", _entropy, "bits of a pixel, no truth", lower_is_better=True),
)
FAMILIES: dict[str, tuple[str, ...]] = {
    family: tuple(each.name for each in MEASURES if each.family == family)
    for family in dict.fromkeys(each.family for each in MEASURES)
}


class Measured(NamedTuple):
    """The findings of one image and class; see `Plane` for the parts."""

    values: dict[str, float]
    components: int
    calibration: NDArray[np.float64]
    curves: NDArray[np.float64]


def chosen_measures(families: Sequence[str]) -> tuple[Measure, ...]:
    """The measures of these families; InputError for an unknown one."""
    for family in families:
        if family not in FAMILIES:
            raise unknown("family of measures", family, FAMILIES)
    return tuple(each for each in MEASURES if each.family in families)


def measure_names(families: Sequence[str]) -> tuple[str, ...]:
    """The names of the measures of these families; InputError for an unknown one."""
    return tuple(each.name for each in chosen_measures(families))


def measure(
    probability: NDArray[np.floating],
    truth: Mask,
    counted: Mask | None = None,
    families: Sequence[str] = tuple(FAMILIES),
    prediction: Mask | None = None,
) -> Measured:
    """All measures of the families; arguments as for `Plane`."""
    plane = Plane(probability, truth, counted, prediction)
    chosen = chosen_measures(families)
    curves, calibration = _NO_CURVES, _NO_CALIBRATION
    if "saliency" in families:
        curves = plane.curves
    if "probability" in families:
        calibration = plane.calibration
    values = {each.name: each.compute(plane) for each in chosen}
    return Measured(values, plane.components, calibration, curves)


def cldice(prediction: Mask, truth: Mask) -> float:
    """The harmonic mean of the shares of each skeleton that lies in the other mask.

    Both empty: 1; one empty: 0.
    """
    from skimage.morphology import skeletonize

    if not prediction.any() or not truth.any():
        return float(prediction.any() == truth.any())
    here, there = bounding_box(prediction), bounding_box(truth)
    precision = truth[here][skeletonize(prediction[here])].mean()
    sensitivity = prediction[there][skeletonize(truth[there])].mean()
    return float(2 * precision * sensitivity / max(precision + sensitivity, 1e-12))
