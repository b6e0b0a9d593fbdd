"""What may follow the threshold: steps on masks, written as a chain such as
``crf,fill_holes,min_area=50,keep_largest``.

A step takes the mask of one class, (H, W) or (D, H, W) of a volume, bool, and returns one of its
shape.
"""

from collections.abc import Callable, Sequence
from functools import partial

import cv2
import numpy as np
from numpy.typing import NDArray

from lightning_seg.errors import InputError, unknown

Mask = NDArray[np.bool_]


class Postprocess:
    """A chain of steps, applied to each class by itself in the order in which they are written.

    Args:
        text: names of ``STEPS``, joined by commas, ``min_area`` with its number:
            ``fill_holes,min_area=50``. A step after a class and a colon is for this class alone:
            ``liver:keep_largest``. An empty text leaves every mask as it is.
        classes: the names of the masks' classes.
    """

    def __init__(self, text: str, classes: Sequence[str]) -> None:
        self.text = text.replace(" ", "")
        self._steps = [_parse(part, list(classes)) for part in self.text.split(",") if part]

    def __bool__(self) -> bool:
        return bool(self._steps)

    def __call__(self, masks: Mask) -> Mask:
        """masks (K, H, W) or (K, D, H, W) -> the same shape; the argument stays as it is."""
        masks = masks.copy()
        for channels, step in self._steps:
            for k in channels:
                masks[k] = step(masks[k])
        return masks


def _parse(
    part: str,
    classes: list[str],
) -> tuple[Sequence[int], Callable[[Mask], Mask]]:
    """The channels that a step is for, and the step."""
    scope, colon, call = part.rpartition(":")
    if colon and scope not in classes:
        raise unknown("class", scope, classes)
    name, equals, value = call.partition("=")
    if name not in STEPS:
        raise unknown("step of post-processing", name, STEPS)
    if (name == "min_area") != bool(equals) or (
        equals and not (value.isdecimal() and int(value) > 0)
    ):
        raise InputError(
            f"the step {call!r} is incomplete or wrong; min_area takes its number of pixels, the "
            "others none."
        )
    step: Callable[[Mask], Mask] = partial(min_area, pixels=int(value)) if equals else STEPS[name]
    return ([classes.index(scope)] if colon else range(len(classes))), step


def components(mask: Mask) -> int:
    """The number of connected parts of a mask; pixels that touch at a corner are connected."""
    if mask.ndim == 2:
        count, _ = cv2.connectedComponents(mask.view(np.uint8), connectivity=8, ltype=cv2.CV_32S)
        return count - 1
    return int(_label_components(mask).max())


def keep_largest(mask: Mask) -> Mask:
    """The largest connected part alone."""
    labels = _label_components(mask)
    sizes = _component_sizes(labels)
    return labels == 1 + sizes[1:].argmax() if len(sizes) > 1 else mask


def min_area(mask: Mask, pixels: int) -> Mask:
    """Remove the connected parts of fewer than ``pixels`` pixels (of a volume: voxels)."""
    labels = _label_components(mask)
    keep = _component_sizes(labels) >= pixels
    keep[0] = False
    return keep[labels]


def fill_holes(mask: Mask) -> Mask:
    """Fill the background that the mask cuts off from the border; around corners it is not cut
    off."""
    from scipy import ndimage

    labels, count = ndimage.label(~mask)
    outside = np.zeros(count + 1, bool)
    for axis in range(mask.ndim):
        faces = np.moveaxis(labels, axis, 0)
        outside[faces[0]] = outside[faces[-1]] = True
    return mask | ~outside[labels]


def crf(
    mask: Mask,
    certainty: float = 0.7,
    sigma: float = 3.0,
    weight: float = 3.0,
    iterations: int = 10,
) -> Mask:
    """The conditional random field of ResUNet++ (Jha et al. 2021), which smooths outlines; of a
    volume slice by slice.

    Fully connected, two labels, mean field: each pixel believes its label with ``certainty``, and
    a Gaussian of ``sigma`` pixels pulls it to its neighbours' label with ``weight``, normalised
    symmetrically (Kraehenbuehl and Koltun 2011). As in the published code there is no term of
    colours. Exact Gaussians take the place of that code's permutohedral lattice.
    """
    if mask.ndim > 2:
        return np.stack([crf(plane, certainty, sigma, weight, iterations) for plane in mask])

    def blur(values: NDArray[np.float64]) -> NDArray[np.float64]:
        from scipy import ndimage

        return ndimage.gaussian_filter(values, sigma, mode="constant")

    norm = 1 / np.sqrt(blur(np.ones(mask.shape)))
    prior = np.where(mask, 1.0, -1.0) * np.log(certainty / (1 - certainty))
    balance = prior  # log odds of the class; the first belief follows from the prior alone
    for _ in range(iterations):
        agreement = np.tanh(balance / 2)  # belief in the class minus belief in the background
        balance = prior + weight * norm * blur(norm * agreement)
    return balance > 0


STEPS: dict[str, Callable[..., Mask]] = {
    "crf": crf,
    "fill_holes": fill_holes,
    "keep_largest": keep_largest,
    "min_area": min_area,
}


def _label_components(mask: Mask) -> NDArray[np.int32]:
    if mask.ndim == 2:  # a fifth of the time
        _, found = cv2.connectedComponents(mask.view(np.uint8), connectivity=8, ltype=cv2.CV_32S)
        return found.astype(np.int32, copy=False)
    from scipy import ndimage

    labels, _ = ndimage.label(mask, np.ones((3,) * mask.ndim))
    return labels


def _component_sizes(labels: NDArray[np.int32]) -> NDArray[np.int64]:
    """Pixels of each label; the first is the background."""
    return np.bincount(labels.ravel())
