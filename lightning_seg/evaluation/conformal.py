"""Conformal risk control: thresholds whose error rate on new images is bounded on average.

Angelopoulos, Bates, Fisch, Lei, Schuster: Conformal Risk Control, ICLR 2024 (arXiv 2208.02814).
The loss of an image at a threshold lies in [0, 1] and is monotone in it. Of n exchangeable units
that chose nothing before, the threshold is the tightest one at which (sum of losses + 1) / (n + 1)
is at most the promised rate; then the expected loss of a further unit is at most that rate, over
draws of the n units and of the further one together.

* The false-negative rate of a class, the share of its true pixels that a mask misses, over images
  that hold the class: it bounds the ``outer`` mask, which is the smallest that keeps the promise.
* The false-positive rate, the share of all other pixels that a mask covers: it bounds the ``inner``
  mask, the largest that keeps the promise.

The exchangeable unit is the group (patient, sequence, pair of near-duplicates) where groups are
known: the loss of a group is the mean over its images.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lightning_seg.errors import InputError
from lightning_seg.evaluation.conventions import add, positions
from lightning_seg.tables import count_text

Kind = Literal["outer", "inner"]
Values = NDArray[np.float64]
# steps of the logit, so that probabilities near 0 and 1 stay apart
THRESHOLDS: Values = 1 / (1 + np.exp(-np.linspace(-14.0, 14.0, 561)))
ERRORS = {"outer": "false-negative rate", "inner": "false-positive rate"}


@dataclass(frozen=True)
class Bound:
    """The thresholds of one kind of mask, and the promise that chose them.

    Attributes:
        rate: the promised error, see `ERRORS`.
        thresholds: of each class; a probability above it belongs to the mask.
        units: of each class, groups that the threshold was fitted to.
        risks: of each class, the mean error of these units at the threshold.
    """

    rate: float
    thresholds: tuple[float, ...]
    units: tuple[int, ...]
    risks: tuple[float, ...]

    def masks(self, probability: Any) -> Any:
        """(K, ...) bool of probabilities (K, ...)."""
        limits = np.asarray(self.thresholds, np.float64)
        return probability > limits.reshape(-1, *(1,) * (probability.ndim - 1))


@dataclass(frozen=True)
class Guarantee:
    """What a checkpoint promises of its outer and inner masks.

    Attributes:
        classes: names of the masks' channels.
        protocol: of the images that it was fitted to, with its digest.
        images: that were reserved for it.
        grouped: whether groups of several images are known among them.
    """

    classes: tuple[str, ...]
    outer: Bound | None
    inner: Bound | None
    protocol: str
    protocol_digest: str
    images: int
    grouped: bool = False

    @property
    def bounds(self) -> dict[Kind, Bound]:
        """Those that were asked for."""
        both: dict[Kind, Bound | None] = {"outer": self.outer, "inner": self.inner}
        return {kind: bound for kind, bound in both.items() if bound is not None}

    @property
    def unit(self) -> str:
        """What is exchangeable: ``group`` or ``image``."""
        return "group" if self.grouped else "image"

    def sentences(self) -> list[str]:
        """The promise in words, what it assumes, and what ends it."""
        said = [_promise(kind, bound, self.unit) for kind, bound in self.bounds.items()]
        units = min(min(bound.units) for bound in self.bounds.values())
        said.append(
            f"It holds on average over draws of the {count_text(units, self.unit)} that it was "
            f"fitted to and of a new {self.unit}, not for each picture, and only where new "
            f"{self.unit}s come from the same source (exchangeable); of another camera, hospital "
            "or kind of picture (a shift) it promises nothing."
        )
        return said

    def to_json(self) -> dict[str, Any]:
        """Plain values, for a checkpoint."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Guarantee":
        """Read what `to_json` gave."""
        parts = dict(content)
        for kind in ERRORS:
            bound = parts[kind]
            if bound is not None:
                lists = ("thresholds", "units", "risks")
                parts[kind] = Bound(bound["rate"], *(tuple(bound[name]) for name in lists))
        return cls(**parts | {"classes": tuple(parts["classes"])})


def _promise(kind: Kind, bound: Bound, unit: str) -> str:
    share = f"{100 * bound.rate:g} %"
    if kind == "outer":
        return (
            f"The outer contour misses on average at most {share} of the true pixels of a class "
            f"(expected false-negative rate of a new {unit} that holds it)."
        )
    return (
        f"The inner contour covers on average at most {share} of the pixels that are not of the "
        f"class (expected false-positive rate of a new {unit})."
    )


def error_curves(
    probability: NDArray[np.floating],
    truth: NDArray[np.bool_],
    counted: NDArray[np.bool_] | None = None,
) -> dict[Kind, Values]:
    """The errors of one image and class at all `THRESHOLDS`; nan where it has no such pixels.

    Args:
        probability, truth: (H, W).
        counted: (H, W) False where pixels are ignored.
    """
    kept = slice(None) if counted is None else counted
    maps, inside = probability[kept].ravel(), truth[kept].ravel()
    above = _shares_above(maps[~inside])
    return {"outer": 1 - _shares_above(maps[inside]), "inner": above}


def _shares_above(probability: NDArray[np.floating]) -> Values:
    """The share of pixels above each threshold; nan of none."""
    if not probability.size:
        return np.full(len(THRESHOLDS), math.nan)
    exceeded = np.searchsorted(THRESHOLDS, probability.astype(np.float64), "left")
    counts = np.bincount(exceeded, minlength=len(THRESHOLDS) + 1)
    return counts[::-1].cumsum()[::-1][1:] / probability.size


def unit_losses(curves: Values, groups: Sequence[str]) -> Values:
    """(U, T) the mean errors of groups; images (N, T) without any such pixels (nan) are left
    out."""
    known = ~np.isnan(curves[:, 0])
    members = positions(tuple(group for group, kept in zip(groups, known, strict=True) if kept))
    if not len(members):
        return curves[:0]
    ones = np.ones((len(members), 1))
    sums = add(np.concatenate([curves[known], ones], 1), members)
    means: Values = sums[:, :-1] / sums[:, -1:]
    return means


def controlled_threshold(losses: Values, rate: float, kind: Kind) -> int:
    """The place in `THRESHOLDS` of the tightest threshold that keeps the promise.

    Args:
        losses: (U, T) of units that are exchangeable with a further one.
        rate: the expected loss of a further one is at most this.

    Raises:
        InputError: the units are too few for the rate, or no threshold keeps it.
    """
    units = len(losses)
    fewest = math.ceil(round(1 / rate, 9)) - 1
    if units < max(fewest, 1):
        raise InputError(
            f"a {ERRORS[kind]} of {rate:g} needs {fewest} or more groups that chose nothing "
            f"before, and here are {units}; promise a larger rate, or train under a protocol that "
            "reserves more."
        )
    bounded = (losses.sum(0) + 1) / (units + 1)
    kept = np.flatnonzero(bounded <= rate + 1e-12)
    if not len(kept):
        raise InputError(
            f"no threshold keeps a {ERRORS[kind]} of {rate:g} on {count_text(units, 'group')}: "
            f"the least is {bounded.min():.4f}; promise a larger rate."
        )
    # misses grow with the threshold, false alarms shrink
    return int(kept[-1] if kind == "outer" else kept[0])


def fit_bound(
    curves: Values, groups: Sequence[str], rate: float, kind: Kind, classes: Sequence[str]
) -> Bound:
    """The thresholds of all classes.

    Args:
        curves: (N, K, T) of images that chose nothing before, see `error_curves`.
        groups: of the images.

    Raises:
        InputError: the rate is none, or cannot be kept.
    """
    if not 0 < rate < 1:
        raise InputError(f"the {ERRORS[kind]} is {rate:g}; give a share between 0 and 1, as 0.1.")
    thresholds, units, risks = [], [], []
    for place, name in enumerate(classes):
        losses = unit_losses(curves[:, place], groups)
        try:
            chosen = controlled_threshold(losses, rate, kind)
        except InputError as error:
            raise InputError(f"{name}: {error}") from error
        thresholds.append(float(THRESHOLDS[chosen]))
        units.append(len(losses))
        risks.append(float(losses[:, chosen].mean()))
    return Bound(rate, tuple(thresholds), tuple(units), tuple(risks))
