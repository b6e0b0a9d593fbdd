"""Distances between the boundaries of two masks, in 2-D and 3-D: HD95 and NSD.

NSD is the normalised surface distance. The surface of a mask are its elements with a background
element beside one of their faces; beyond the array all is background. Distances are Euclidean
between centres of elements, in the unit of ``spacing``, by a k-d tree of the surface (the same
figures as distance transforms, at the cost of the surface instead of the volume).

Empty masks: both empty is perfect agreement (HD95 0, NSD 1). One empty is complete failure: NSD 0,
and HD95 is the diagonal of the array, the largest distance it can hold. So neither a missed lesion
nor a false alarm falls out of a mean.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lightning_seg.errors import InputError

Mask = NDArray[np.bool_]
Distances = NDArray[np.float64]


class SurfaceDistances(NamedTuple):
    """The distances of each surface element to the nearest one of the other mask; inf where the other mask is
    empty."""

    to_truth: Distances  # one for each surface element of the prediction
    to_prediction: Distances  # one for each surface element of the truth


def surface_distances(
    prediction: Mask, truth: Mask, spacing: Sequence[float] | float = 1.0
) -> SurfaceDistances:
    """Distances between the surfaces of two masks of one shape.

    Args:
        spacing: size of an element along each axis, or one number for all, in any unit (mm).
    """
    from scipy.spatial import cKDTree  # scipy.spatial takes a while to import

    if prediction.shape != truth.shape:
        raise InputError(
            f"the masks have the shapes {prediction.shape} and {truth.shape}; give two of one shape."
        )
    scale = _scale(spacing, truth.ndim)
    ours, theirs = _surface(prediction) * scale, _surface(truth) * scale
    if not len(ours) or not len(theirs):
        return SurfaceDistances(*(np.full(len(each), np.inf) for each in (ours, theirs)))
    # twice as fast to build, no slower to ask
    options = {"compact_nodes": False, "balanced_tree": False}
    return SurfaceDistances(
        cKDTree(theirs, **options).query(ours)[0],  # type: ignore[arg-type]
        cKDTree(ours, **options).query(theirs)[0],  # type: ignore[arg-type]
    )


def hd95(
    prediction: Mask,
    truth: Mask,
    spacing: Sequence[float] | float = 1.0,
) -> float:
    """The larger of the two directed 95th percentiles of surface distances.

    As Metrics Reloaded and MONAI define it.
    """
    return boundary_scores(prediction, truth, spacing)[0]


def nsd(
    prediction: Mask,
    truth: Mask,
    spacing: Sequence[float] | float = 1.0,
    tolerance: float = 1.0,
) -> float:
    """Share of both surfaces within ``tolerance`` (unit of ``spacing``) of the other.

    Nikolov et al. 2018, as MONAI counts.
    """
    return boundary_scores(prediction, truth, spacing, tolerance)[1]


def boundary_scores(
    prediction: Mask,
    truth: Mask,
    spacing: Sequence[float] | float = 1.0,
    tolerance: float = 1.0,
) -> tuple[float, float]:
    """`hd95` and `nsd` from one set of distances."""
    distances = surface_distances(prediction, truth, spacing)
    scale = _scale(spacing, truth.ndim)
    if not len(distances.to_truth) and not len(distances.to_prediction):
        return 0.0, 1.0
    if not len(distances.to_truth) or not len(distances.to_prediction):
        diagonal = (np.array(truth.shape) - 1) * scale
        return float(np.linalg.norm(diagonal)), 0.0
    reach = tolerance + 1e-9 * scale.max()  # a distance of the tolerance itself is within it
    within = sum(int((each <= reach).sum()) for each in distances)
    farthest = max(float(np.percentile(each, 95)) for each in distances)
    return farthest, within / sum(map(len, distances))


def _scale(
    spacing: Sequence[float] | float,
    axes: int,
) -> NDArray[np.float64]:
    scale = np.asarray(spacing, dtype=np.float64)
    positive = np.isfinite(scale) & (scale > 0)
    if scale.shape not in ((), (axes,)) or not positive.all():
        raise InputError(
            f"spacing is {spacing}; give one positive number, or one for each of the {axes} axes."
        )
    return np.broadcast_to(scale, (axes,))


def _surface(mask: Mask) -> NDArray[np.intp]:
    """Indices (M, axes) of the surface elements, in order."""
    box = bounding_box(mask)
    part = mask[box].astype(bool)
    inside = part.copy()
    for axis in range(mask.ndim):  # an erosion by the face neighbours
        core = np.moveaxis(inside, axis, 0)
        whole = np.moveaxis(part, axis, 0)
        core[1:] &= whole[:-1]
        core[:-1] &= whole[1:]
        core[:1] = core[-1:] = False
    return np.argwhere(part & ~inside) + [side.start for side in box]


def bounding_box(mask: Mask) -> tuple[slice, ...]:
    """The smallest box that holds the mask; of no extent where it is empty."""
    box = []
    for axis in range(mask.ndim):
        others = tuple(other for other in range(mask.ndim) if other != axis)
        used = np.flatnonzero(mask.any(axis=others))
        first, last = (used[0], used[-1]) if len(used) else (0, -1)
        box.append(slice(int(first), int(last) + 1))
    return tuple(box)
