"""Pictures that stand twice in a data set, whole or cropped, turned or mirrored, or as two frames of one view.

Candidates are, for several crops and all turns and mirror images, the pictures whose small copies correlate best; each is then
verified by registration (see ``registration``). The work grows linearly with the number of pictures, but for the correlations.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np

from lightning_seg.data.integrity.facts import Facts
from lightning_seg.data.integrity.registration import Likeness, affine_map, compare, features
from lightning_seg.data.integrity.views import View, crops

KINDS = ("identical", "same picture", "same view")
SAME_PICTURE, RIGID = 0.9, 0.03  # detail that correlates, and the strain of the flow that one picture may need
SAME_VIEW, COMMON = 0.4, 0.3  # of 3,500 unrelated pairs of Kvasir-SEG the highest correlation was 0.375
_SIDE, _NEAREST, _ALIKE = 24, 6, 0.7  # small copies; candidates for each picture and crop; least correlation
_TURNED_NEAREST, _TURNED_ALIKE = 3, 0.85
_AS_IT_LIES = 0.95  # correlation from which the crops are also compared as they lie, without features


class Pair(NamedTuple):
    """Two samples that show the same. ``kind`` is one of ``KINDS``; ``likeness``: -1 to 1, of their detail."""

    first: str
    second: str
    kind: str
    likeness: float


class _Candidate(NamedTuple):
    first: int
    second: int
    mirrored: bool


def find_pairs(facts: Sequence[Facts], progress: Callable[[Iterable], Iterable] = iter) -> list[Pair]:
    """All pairs of samples that show the same, the most alike first."""
    found = _likenesses([fact.view for fact in facts], progress)
    pairs = {(facts[i].id, facts[j].id): (_kind(likeness), likeness.detail) for (i, j), likeness in found.items()}
    pairs |= _identical(facts)
    listed = [Pair(*ids, kind, detail) for ids, (kind, detail) in pairs.items() if kind]
    return sorted(listed, key=lambda pair: (KINDS.index(pair.kind), -pair.likeness))


def _likenesses(views: Sequence[View], progress: Callable[[Iterable], Iterable]) -> dict[tuple[int, int], Likeness]:
    points = lru_cache(maxsize=None)(lambda index, mirrored: features(views[index], mirrored))
    best: dict[tuple[int, int], Likeness] = {}
    for (first, second, mirrored), maps in progress(sorted(_candidates(views).items())):
        found = affine_map(points(first, mirrored), points(second, False))
        for matrix in [*maps, *([] if found is None else [found])]:
            likeness = compare(views[first], views[second], matrix)
            best[first, second] = max(likeness, best.get((first, second), likeness))
    return best


def _kind(likeness: Likeness) -> str:
    if likeness.detail >= SAME_PICTURE and likeness.strain <= RIGID:
        return "same picture"
    return "same view" if likeness.detail >= SAME_VIEW and likeness.overlap >= COMMON else ""


def _identical(facts: Sequence[Facts]) -> dict[tuple[str, str], tuple[str, float]]:
    members: dict[str, list[str]] = defaultdict(list)
    for fact in facts:
        members[fact.image_hash].append(fact.id)
    return {(ids[0], id): ("identical", 1.0) for ids in members.values() for id in ids[1:]}


def _candidates(views: Sequence[View]) -> dict[_Candidate, list[np.ndarray]]:
    """Pairs worth a registration -> the maps of crops that agree as they lie."""
    parts = [crops(picture) for picture in views]
    found: dict[_Candidate, list[np.ndarray]] = {}
    for crop in parts[0] if parts else ():
        plain = _unit([_small(part[crop][0]) for part in parts])
        corners = [part[crop][1] for part in parts]
        for turn in range(8 if crop in ("whole", "content") else 1):
            nearest, alike = (_TURNED_NEAREST, _TURNED_ALIKE) if turn else (_NEAREST, _ALIKE)
            turned = plain if turn == 0 else _unit([_turned(_small(part[crop][0]), turn) for part in parts])
            for i, j, value in _neighbours(turned, plain, nearest, alike):
                first, second = min(i, j), max(i, j)
                maps = found.setdefault(_Candidate(first, second, turn >= 4), [])
                if value >= _AS_IT_LIES:
                    matrix = cv2.getAffineTransform(_turned_corners(corners[i], turn), corners[j])
                    maps.append(matrix if i == first else cv2.invertAffineTransform(matrix))
    return found


def _small(grey: np.ndarray) -> np.ndarray:
    return cv2.resize(grey, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)


def _unit(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """(N, side * side) of mean 0 and length 1, so that products are correlations; flat pictures are 0."""
    flat = np.stack(pictures).reshape(len(pictures), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    return np.where(length > _SIDE, flat / np.maximum(length, 1), 0).astype(np.float32)


def _turned(picture: np.ndarray, turn: int) -> np.ndarray:
    """Turned left ``turn % 4`` times; from 4 on mirrored before."""
    return np.rot90(picture[:, ::-1] if turn >= 4 else picture, turn % 4)


def _turned_corners(corners: np.ndarray, turn: int) -> np.ndarray:
    """The corners (3, 2) of a picture that become the top left, top right and bottom left of the turned one."""
    top_left, top_right, bottom_left = corners
    square = np.array([[top_left, top_right], [bottom_left, top_right + bottom_left - top_left]])
    after = np.rot90(square[:, ::-1] if turn >= 4 else square, turn % 4)
    return np.ascontiguousarray(np.stack([after[0, 0], after[0, 1], after[1, 0]]), np.float32)


def _neighbours(turned: np.ndarray, plain: np.ndarray, nearest: int, alike: float) -> Iterable[tuple[int, int, float]]:
    """(i, j, correlation of the turned i with j), for the nearest others of each i."""
    for start in range(0, len(turned), 1024):
        likeness = turned[start : start + 1024] @ plain.T
        rows = np.arange(len(likeness))
        likeness[rows, rows + start] = -2
        top = np.argsort(-likeness, axis=1)[:, :nearest]
        for row, columns in enumerate(top):
            for column in columns[likeness[row, columns] >= alike]:
                yield row + start, int(column), float(likeness[row, column])
