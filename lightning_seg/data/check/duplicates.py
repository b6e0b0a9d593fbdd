"""Pictures that stand twice in a data set, whole or cropped, turned or mirrored, or as two frames
of one view.

Candidates are pictures of which small copies correlate, for several crops, turns and mirror images,
or that share features (see ``candidates``); each is then verified by registration (see
``registration``). What is costly grows with the number of pictures: features are computed once and
verified for a few candidates of each. The products that find candidates grow with the number of
pairs, in blocks; above some thousand pictures features are looked up in trees, which may miss a
neighbour.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations
from typing import NamedTuple

import numpy as np

from lightning_seg.data.check.candidates import Candidate, by_crops, by_features, negatives
from lightning_seg.data.check.facts import Facts
from lightning_seg.data.check.kept import Likenesses, kept_likenesses
from lightning_seg.data.check.registration import (
    Likeness,
    affine_map,
    compare_views,
    features,
    may_agree,
)
from lightning_seg.data.check.shelf import FeatureShelf, in_order
from lightning_seg.data.check.views import View
from lightning_seg.data.cores import usable_cores

# (what is done, how often) -> a wrapper of the loop that does it
Progress = Callable[[str, int], Callable[[Iterable], Iterable]]
KINDS = ("identical", "same picture", "negative", "same view")
# Bounds of (detail, strain), by what was looked at. Kvasir-SEG: the 24 pairs known before and 13
# found here have at least 0.40 and at most 0.43; 17 of its 18 frozen frames at least 0.95 and at
# most 0.035. No other of its pairs keeps the bounds, nor one of CVC-ClinicDB from different
# sequences, nor one of DRIVE. Some frames of one view, minutes apart, stay below them.
SAME_PICTURE, RIGID = 0.95, 0.035
SAME_VIEW, ELASTIC, COMMON, ENOUGH = 0.4, 0.45, 0.5, 60  # 60 blocks are a tenth of a frame


class Pair(NamedTuple):
    """Two samples that show the same. ``kind`` is one of ``KINDS``; ``likeness``: -1 to 1, of their
    detail."""

    first: str
    second: str
    kind: str
    likeness: float


def find_duplicates(
    facts: Sequence[Facts],
    progress: Progress = lambda _, __: iter,
    near: bool = True,
    least: float = SAME_VIEW,
) -> list[Pair]:
    """All pairs of samples that show the same, the most alike first; without ``near`` those equal in
    each pixel alone.

    ``least``: the likeness from which two pictures are frames of one view. Where anatomy and
    position are standard, as in slices of CT, those of different patients may be as alike as frames
    of one colonoscopy, and it should be raised.
    """
    found = kept_likenesses(facts, lambda: _likenesses(facts, progress)) if near else {}
    pairs: dict[tuple[str, str], tuple[str, float]] = {}
    # negatives come last, and count where they are the same picture
    for (i, j, negative), likeness in sorted(found.items(), key=lambda item: item[0][2]):
        kind = _pair_kind(likeness, least)
        if not negative:
            pairs[facts[i].id, facts[j].id] = kind, likeness.detail
        elif kind == "same picture":
            pairs[facts[i].id, facts[j].id] = "negative", likeness.detail
    pairs |= _identical(facts)
    listed = [Pair(*ids, kind, detail) for ids, (kind, detail) in pairs.items() if kind]
    return sorted(listed, key=lambda pair: (KINDS.index(pair.kind), -pair.likeness))


def _likenesses(facts: Sequence[Facts], progress: Progress) -> Likenesses:
    views = [fact.view for fact in facts]
    with ThreadPoolExecutor(usable_cores()) as pool, FeatureShelf() as shelf:
        for found in progress("describing", len(views))(in_order(pool, features, views)):
            shelf.append(found)
        candidates = dict.fromkeys(by_features(shelf)) | by_crops(views) | negatives(views)
        listed = sorted(candidates.items())

        def verified(one: tuple[Candidate, np.ndarray | None]) -> list[Likeness]:
            candidate, as_it_lies = one
            first, second = candidate.first, candidate.second
            maps = (as_it_lies, affine_map(candidate.disguise(shelf[first]), shelf[second]))
            pair = _view_of(views[first], candidate.negative), views[second]
            promising = (one for one in maps if one is not None and may_agree(*pair, one))
            return [compare_views(*pair, one) for one in promising]

        best: Likenesses = {}
        likenesses = progress("comparing", len(listed))(in_order(pool, verified, listed))
        for (candidate, _), found in zip(listed, likenesses, strict=True):
            pair = candidate.first, candidate.second, candidate.negative
            for likeness in found:
                best[pair] = max(likeness, best.get(pair, likeness), key=_rank)
    return best


def _view_of(view: View, negative: bool) -> View:
    return view._replace(grey=255 - view.grey) if negative else view


def _rank(likeness: Likeness) -> tuple[bool, float]:
    return bool(
        _pair_kind(likeness)
    ), likeness.detail  # text alone that agrees in a corner must not hide the picture


def _pair_kind(likeness: Likeness, least: float = SAME_VIEW) -> str:
    if likeness.detail >= SAME_PICTURE and likeness.strain <= RIGID:
        return "same picture"
    alike = likeness.detail >= least and likeness.strain <= ELASTIC
    return "same view" if alike and likeness.overlap >= COMMON and likeness.blocks >= ENOUGH else ""


def _identical(
    facts: Sequence[Facts],
) -> dict[tuple[str, str], tuple[str, float]]:
    members: dict[str, list[str]] = defaultdict(list)
    for fact in facts:
        members[fact.image_hash].append(fact.id)
    return {pair: ("identical", 1.0) for ids in members.values() for pair in combinations(ids, 2)}
