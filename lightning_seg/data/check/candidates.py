"""Which pairs of pictures are worth a registration: those whose crops look alike, and those that
share features (of `registration.rooted`)."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise, product
from typing import NamedTuple

import cv2
import numpy as np

from lightning_seg.data.check.registration import Features, mirrored, negated
from lightning_seg.data.check.views import CROPS, View, crop_of

_SIDE, _NEAREST, _ALIKE = (
    24,
    8,
    0.7,
)  # small copies; candidates for each picture and crop; least correlation
_TURNED_NEAREST, _TURNED_ALIKE = 3, 0.85
_NEGATIVE = 0.95  # correlation with the negative of another
_AS_IT_LIES, _FIRST = (
    0.95,
    2,
)  # correlation from which the nearest crops are also compared as they lie, without features
_STRONGEST, _AXES, _VOTES = (
    32,
    32,
    3,
)  # features of a picture that vote; principal axes; votes that make a candidate

_EXACT = 4000  # pictures up to which every pair of features is looked at
_TOGETHER = 8  # pictures whose features are looked up at once: more leave the processor's cache
# FLANN's randomised trees, the neighbours they give and the leaves they look at
_KD_TREES, _NEIGHBOURS, _CHECKS, _QUERIES = 1, 8, 64, 65536


class Candidate(NamedTuple):
    """The places of two pictures, the lower first; ``mirrored``, ``negative``: one looks like the
    other's mirror image or negative."""

    first: int
    second: int
    mirrored: bool
    negative: bool = False

    def disguise(self, found: Features) -> Features:
        """The features of a picture as those of its mirror image or negative."""
        found = negated(found) if self.negative else found
        return mirrored(found) if self.mirrored else found


def by_features(plain: Sequence[Features]) -> set[Candidate]:
    """Pairs of which three features of one are, of all pictures, nearest to features of the other:
    also under any crop, turn and mirror image, and as negatives of each other."""
    axes = _principal_axes(plain)
    target, owners = _along(plain, axes)
    if len(target) < 2:
        return set()
    search = _exact_owners if len(plain) <= _EXACT else _near_owners
    found = set()
    for disguise in product((False, True), repeat=2):
        asked = target
        if any(disguise):
            changed = map(Candidate(0, 1, *disguise).disguise, plain)
            asked, _ = _along(changed, axes)
        nearest = search(asked, target, owners)
        for first, second in _voted_pairs(owners, nearest, len(plain)):
            found.add(Candidate(min(first, second), max(first, second), *disguise))
    return found


def _exact_owners(
    asked: np.ndarray,
    target: np.ndarray,
    owners: np.ndarray,
) -> np.ndarray:
    """The picture (M,) that holds the nearest feature of another picture, of each feature asked."""
    bounds = np.searchsorted(owners, np.arange(owners[-1] + 2))
    nearest = np.empty(len(asked), np.int64)
    for start in range(0, len(bounds) - 1, _TOGETHER):
        block = bounds[start : start + _TOGETHER + 1]
        likeness = asked[block[0] : block[-1]] @ target.T
        for low, high in pairwise(block):
            likeness[low - block[0] : high - block[0], low:high] = -1  # its own
        nearest[block[0] : block[-1]] = owners[likeness.argmax(axis=1)]
    return nearest


def _near_owners(
    asked: np.ndarray,
    target: np.ndarray,
    owners: np.ndarray,
) -> np.ndarray:
    """As `_exact_owners`, by trees that miss one in a few: its time grows with the number alone."""
    trees: dict[str, bool | int | float | str] = {"algorithm": _KD_TREES, "trees": 4}
    index = cv2.flann.Index(np.ascontiguousarray(target, np.float32), trees)
    nearest = np.full(len(asked), -1, np.int64)
    for start in range(0, len(asked), _QUERIES):
        part = np.ascontiguousarray(asked[start : start + _QUERIES], np.float32)
        places, _ = index.knnSearch(part, _NEIGHBOURS, params={"checks": _CHECKS})
        theirs = owners[places]
        others = theirs != owners[start : start + len(part), None]
        first = others.argmax(axis=1)
        rows = np.arange(len(part))
        nearest[start : start + len(part)] = np.where(others[rows, first], theirs[rows, first], -1)
    return nearest


def _voted_pairs(
    owners: np.ndarray,
    nearest: np.ndarray,
    count: int,
) -> Iterator[tuple[int, int]]:
    """Pictures of which ``_VOTES`` features of the first are nearest to features of the second."""
    known = (nearest >= 0) & (nearest != owners)
    pairs, votes = np.unique(owners[known] * count + nearest[known], return_counts=True)
    for pair in pairs[votes >= _VOTES].tolist():
        yield divmod(pair, count)


def _principal_axes(features: Sequence[Features]) -> np.ndarray:
    """(128, axes): along them the strongest features of all pictures differ most."""
    products = np.zeros((128, 128), np.float32)
    for one in features:
        strongest = one.descriptors[:_STRONGEST]
        products += strongest.T @ strongest
    axes: np.ndarray = np.linalg.svd(products)[0][:, :_AXES]
    return axes


def _along(
    features: Iterable[Features],
    axes: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """The strongest features (M, axes) float32 of all pictures, and the pictures (M,) they are of."""
    parts = [one.descriptors[:_STRONGEST] @ axes for one in features]
    owners = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    return np.concatenate([np.zeros((0, axes.shape[1]), np.float32), *parts]), owners


def by_crops(views: Sequence[View]) -> dict[Candidate, np.ndarray | None]:
    """Pairs of which crops look alike -> the map (2, 3) of the crops that agree as they lie, best
    of all; None where none do."""
    found: dict[Candidate, np.ndarray | None] = {}
    best: dict[Candidate, float] = {}
    for crop in CROPS if views else ():
        parts = [crop_of(picture, crop) for picture in views]
        small = [_small(grey) for grey, _ in parts]
        corners = [place for _, place in parts]
        plain = _unit(small)
        for turn in range(8 if crop in ("whole", "content") else 1):
            nearest, alike = (_TURNED_NEAREST, _TURNED_ALIKE) if turn else (_NEAREST, _ALIKE)
            turned = _unit([_turned(one, turn) for one in small]) if turn else plain
            for i, j, rank, value in _likely_neighbours(turned, plain, nearest, alike):
                candidate = Candidate(min(i, j), max(i, j), turn >= 4)
                found.setdefault(candidate, None)
                if rank < _FIRST and value >= best.get(candidate, _AS_IT_LIES):
                    matrix = cv2.getAffineTransform(_turned_corners(corners[i], turn), corners[j])
                    found[candidate] = (
                        matrix if i == candidate.first else cv2.invertAffineTransform(matrix)
                    )
                    best[candidate] = value
    return found


def negatives(views: Sequence[View]) -> dict[Candidate, np.ndarray]:
    """Pairs of which one looks like the negative of the other -> the map (2, 3) of the first onto
    the second, whole, in the turn that agrees best."""
    found: dict[Candidate, np.ndarray] = {}
    best: dict[Candidate, float] = {}
    parts = [crop_of(picture, "whole") for picture in views]
    small, corners = [_small(grey) for grey, _ in parts], [place for _, place in parts]
    plain = _unit(small) if small else np.zeros((0, 0), np.float32)
    for turn in range(8 if small else 0):
        turned = -_unit([_turned(one, turn) for one in small])
        for i, j, _, value in _likely_neighbours(turned, plain, _TURNED_NEAREST, _NEGATIVE):
            candidate = Candidate(min(i, j), max(i, j), turn >= 4, True)
            if value > best.get(candidate, 0):
                matrix = cv2.getAffineTransform(_turned_corners(corners[i], turn), corners[j])
                is_first = i == candidate.first
                found[candidate] = matrix if is_first else cv2.invertAffineTransform(matrix)
                best[candidate] = value
    return found


def _small(grey: np.ndarray) -> np.ndarray:
    return cv2.resize(grey, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)


def _unit(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """(N, side * side) of mean 0 and length 1, so that products are correlations; flat pictures are
    0."""
    flat = np.stack(pictures).reshape(len(pictures), -1).astype(np.float32)
    flat = flat - flat.mean(axis=1, keepdims=True)
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    return np.where(length > _SIDE, flat / np.maximum(length, 1), 0).astype(np.float32)


def _turned(picture: np.ndarray, turn: int) -> np.ndarray:
    """Turned left ``turn % 4`` times; from 4 on mirrored before."""
    return np.rot90(picture[:, ::-1] if turn >= 4 else picture, turn % 4)


def _turned_corners(corners: np.ndarray, turn: int) -> np.ndarray:
    """The corners (3, 2) of a picture that become the top left, top right and bottom left of the
    turned one."""
    top_left, top_right, bottom_left = corners
    square = np.array([[top_left, top_right], [bottom_left, top_right + bottom_left - top_left]])
    after = np.rot90(square[:, ::-1] if turn >= 4 else square, turn % 4)
    return np.ascontiguousarray(np.stack([after[0, 0], after[0, 1], after[1, 0]]), np.float32)


def _likely_neighbours(
    turned: np.ndarray, plain: np.ndarray, nearest: int, alike: float
) -> Iterable[tuple[int, int, int, float]]:
    """(i, j, rank, correlation of the turned i with j), for the nearest others of each i."""
    for start in range(0, len(turned), 1024):
        likeness = turned[start : start + 1024] @ plain.T
        rows = np.arange(len(likeness))
        likeness[rows, rows + start] = -2
        for row in np.flatnonzero(likeness.max(axis=1) >= alike).tolist():
            found = np.flatnonzero(likeness[row] >= alike)
            order = np.argsort(-likeness[row, found], kind="stable")[:nearest]
            for rank, column in enumerate(found[order].tolist()):
                yield row + start, column, rank, float(likeness[row, column])
