"""Which pairs of pictures are worth a registration: those whose crops look alike, and those that
share features."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import cv2
import numpy as np

from lightning_seg.data.check.registration import Features, root
from lightning_seg.data.check.views import View, crops

_SIDE, _NEAREST, _ALIKE = (
    24,
    8,
    0.7,
)  # small copies; candidates for each picture and crop; least correlation
_TURNED_NEAREST, _TURNED_ALIKE = 3, 0.85
_AS_IT_LIES, _FIRST = (
    0.95,
    2,
)  # correlation from which the nearest crops are also compared as they lie, without features
_STRONGEST, _AXES, _VOTES = (
    32,
    32,
    3,
)  # features of a picture that vote; principal axes; votes that make a candidate


class Candidate(NamedTuple):
    """The places of two pictures, the lower first; ``mirrored``: one looks like the other's mirror
    image."""

    first: int
    second: int
    mirrored: bool


def by_features(
    plain: Sequence[Features],
    mirrored: Sequence[Features],
) -> set[Candidate]:
    """Pairs of which three features of one are, of all pictures, nearest to features of the other:
    also under any crop."""
    target, owners = _strongest(plain)
    if len(target) < 2:
        return set()
    axes = np.linalg.svd(target.T @ target)[0][:, :_AXES]
    target = target @ axes
    found = set()
    for flipped, features in ((False, plain), (True, mirrored)):
        voters, voices = _strongest(features)
        votes = np.zeros((len(plain), len(plain)), np.int32)
        for start in range(0, len(voters), 1024):
            likeness = (voters[start : start + 1024] @ axes) @ target.T
            ours = voices[start : start + 1024]
            likeness[ours[:, None] == owners] = -1
            np.add.at(votes, (ours, owners[likeness.argmax(axis=1)]), 1)
        np.fill_diagonal(votes, 0)  # of a picture that alone has features
        pairs = zip(*np.nonzero(votes >= _VOTES), strict=True)
        found |= {Candidate(int(min(pair)), int(max(pair)), flipped) for pair in pairs}
    return found


def _strongest(features: Sequence[Features]) -> tuple[np.ndarray, np.ndarray]:
    """Descriptors (M, 128) float32 of unit length, and the pictures (M,) they belong to."""
    parts = [root(one.descriptors[:_STRONGEST]) for one in features]
    owners = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    return np.concatenate(parts) if parts else np.zeros((0, 128), np.float32), owners


def by_crops(views: Sequence[View]) -> dict[Candidate, np.ndarray | None]:
    """Pairs of which crops look alike -> the map (2, 3) of the crops that agree as they lie, best
    of all; None where none do."""
    parts = [crops(picture) for picture in views]
    found: dict[Candidate, np.ndarray | None] = {}
    best: dict[Candidate, float] = {}
    for crop in parts[0] if parts else ():
        plain = _unit([_small(part[crop][0]) for part in parts])
        corners = [part[crop][1] for part in parts]
        for turn in range(8 if crop in ("whole", "content") else 1):
            nearest, alike = (_TURNED_NEAREST, _TURNED_ALIKE) if turn else (_NEAREST, _ALIKE)
            turned = (
                plain
                if turn == 0
                else _unit([_turned(_small(part[crop][0]), turn) for part in parts])
            )
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


def _small(grey: np.ndarray) -> np.ndarray:
    return cv2.resize(grey, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)


def _unit(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """(N, side * side) of mean 0 and length 1, so that products are correlations; flat pictures are
    0."""
    flat = np.stack(pictures).reshape(len(pictures), -1)
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
        top = np.argsort(-likeness, axis=1)[:, :nearest]
        for row, columns in enumerate(top):
            for rank, column in enumerate(columns[likeness[row, columns] >= alike]):
                yield row + start, int(column), rank, float(likeness[row, column])
