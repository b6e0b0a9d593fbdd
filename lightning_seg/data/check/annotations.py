"""How far two annotations of one picture agree, where a picture stands twice in a data set.

No network that learns from such masks can be told from a perfect one beyond their agreement.
"""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from lightning_seg.data.check.duplicates import Pair
from lightning_seg.data.check.registration import affine_map, features, rooted
from lightning_seg.data.check.views import view
from lightning_seg.data.sources.base import Sample, Source

_ONE_PICTURE = ("identical", "same picture")


class Annotations(NamedTuple):
    """Two annotations of one picture. ``dice``: of each class, laid over each other; 1 where both
    are empty."""

    first: str
    second: str
    dice: tuple[float, ...]


def annotated_twice(source: Source, pairs: Sequence[Pair]) -> list[Annotations]:
    """The agreement of each pair of samples that show one picture, the lowest first.

    The masks are laid over each other as the pictures are; a pair that cannot be registered is
    left out, as are pixels that only one of the two pictures shows.
    """
    found = []
    for pair in (each for each in pairs if each.kind in _ONE_PICTURE):
        first, second = source.read(pair.first), source.read(pair.second)
        matrix = _native_map(first.image, second.image)
        if matrix is not None:
            found.append(
                Annotations(pair.first, pair.second, _dice_by_class(first, second, matrix))
            )
    return sorted(found, key=lambda each: min(each.dice))


def _native_map(
    first: np.ndarray,
    second: np.ndarray,
) -> np.ndarray | None:
    """(2, 3) map of the first image's pixels to the second's; None where there is none."""
    if first.shape == second.shape and np.array_equal(first, second):
        return np.eye(2, 3)
    views = [view(image) for image in (first, second)]
    found = affine_map(*(rooted(features(each)) for each in views))
    if found is None:
        return None
    ours, theirs = (_scaling(*pair) for pair in zip((first, second), views, strict=True))
    square = np.vstack([found, [0, 0, 1]])
    return (np.linalg.inv(theirs) @ square @ ours)[:2]


def _scaling(image: np.ndarray, seen: NamedTuple) -> np.ndarray:
    """(3, 3) map of an image's pixels to its view's; the centres of pixels have whole
    coordinates."""
    (height, width), (rows, columns) = image.shape[:2], seen[0].shape
    x, y = columns / width, rows / height
    return np.array([[x, 0, x / 2 - 0.5], [0, y, y / 2 - 0.5], [0, 0, 1]])


def _dice_by_class(
    first: Sample,
    second: Sample,
    matrix: np.ndarray,
) -> tuple[float, ...]:
    height, width = second.mask.shape[:2]
    shown = _laid(np.ones(first.mask.shape[:2], np.uint8), matrix, (width, height))
    values = []
    for ours, theirs in zip(first.mask.T, second.mask.T, strict=True):
        laid = _laid(np.ascontiguousarray(ours.T), matrix, (width, height)) & shown
        seen = theirs.T & shown
        total = int(laid.sum()) + int(seen.sum())
        values.append(2 * int((laid & seen).sum()) / total if total else 1.0)
    return tuple(values)


def _laid(
    plane: np.ndarray,
    matrix: np.ndarray,
    size: tuple[int, int],
) -> np.ndarray:
    return cv2.warpAffine(plane, matrix, size, flags=cv2.INTER_NEAREST)
