"""The connected parts of a volume, counted slice by slice."""

import cv2
import numpy as np
from numpy.typing import NDArray


class ComponentCounter:
    """Counts the parts of a mask whose slices come one after the other; voxels that touch at a
    corner are connected.

    Each slice's own parts are new ones until they are found to touch one of the slice before, by
    union-find.
    """

    def __init__(self) -> None:
        self.count = 0  # so far
        self._roots: list[int] = [
            0
        ]  # of the parts of the last slice and this one; the first is the background
        self._last: NDArray[np.int32] | None = None

    def add(self, plane: NDArray[np.bool_]) -> None:
        """The next slice (H, W)."""
        count, found = cv2.connectedComponents(
            plane.astype(np.uint8), connectivity=8, ltype=cv2.CV_32S
        )
        labels = found.astype(np.int32, copy=False)
        self.count += count - 1
        if self._last is None:
            roots = list(range(count))
        else:
            before = len(self._roots)
            roots = [*self._roots, *range(before, before + count - 1)]
            for old, new in _touching(self._last, labels):
                self._join(roots, old, before + new - 1)
            roots = [0, *(_root_of(roots, node) for node in range(before, before + count - 1))]
        self._roots = _renumbered(roots)
        self._last = labels

    def _join(
        self,
        roots: list[int],
        one: int,
        other: int,
    ) -> None:
        first, second = _root_of(roots, one), _root_of(roots, other)
        if first != second:
            roots[second] = first
            self.count -= 1


def _root_of(roots: list[int], node: int) -> int:
    while roots[node] != node:
        node = roots[node]
    return node


def _renumbered(roots: list[int]) -> list[int]:
    """The same groups, each named by its first member: parts of earlier slices are forgotten."""
    first: dict[int, int] = {}
    return [first.setdefault(root, place) for place, root in enumerate(roots)]


def _touching(
    last: NDArray[np.int32],
    labels: NDArray[np.int32],
) -> list[tuple[int, int]]:
    """Pairs of labels, of this slice and the one before, that are neighbours in any of the nine
    directions."""
    height, width = last.shape
    wide = np.pad(last, 1)
    pairs: set[int] = set()
    inside, radix = np.nonzero(labels), int(labels.max()) + 1
    new = labels[inside].astype(np.int64)
    for down in range(3):
        for right in range(3):
            old = wide[down : down + height, right : right + width][inside]
            pairs.update(
                np.unique((radix * old + new)[old > 0]).tolist()
            )  # one number a pair: sorted much faster
    return [divmod(pair, radix) for pair in sorted(pairs)]
