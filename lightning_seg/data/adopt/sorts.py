"""Pictures with masks of several sorts: classes, parts of one, a second observer, a field of view."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lightning_seg.data.adopt.looks import evenly_chosen, stored_values
from lightning_seg.data.adopt.names import MASK_WORDS, SIDE_WORDS, plain_identifier
from lightning_seg.data.adopt.pairing import PairedMask, Words
from lightning_seg.data.reading.folders import Aside
from lightning_seg.errors import InputError

_LOOKED_AT = 8  # pictures whose masks of two sorts are laid on each other
_SAME_STRUCTURE = 0.5  # mean IoU from which two sorts mark the same
_SAME_VIEW, _WIDE = 0.85, 0.4  # IoU between pictures, and share, of a field of view


class SortedMasks(NamedTuple):
    """The masks of each picture by what they stand for.

    Attributes:
        classes: name of a class -> its masks; one class, named '', where all are of one.
        region: the field of view, where there is one.
    """

    classes: Mapping[str, tuple[Path, ...]]
    region: Path | None = None


class SortsFound(NamedTuple):
    """All pictures' masks, and what was decided about their sorts, in sentences."""

    masks: dict[Path, SortedMasks]
    notes: list[str]


def sort_masks(
    pairs: Mapping[Path, Sequence[PairedMask]],
    union: bool | None,
    aside: Aside,
) -> SortsFound:
    """Decide what the sorts of masks mean.

    Args:
        union: True: all are one class; False: each sort is a class; None: as they look.
    """
    counts = Counter(sort for masks in pairs.values() for sort in {mask.sort for mask in masks})
    notes: list[str] = []
    sorts = _named_masks(counts, _first_names(pairs))
    left = {sort: "masks of other sorts, not called masks" for sort in counts if sort not in sorts}
    region = _field_of_view(pairs, sorts)
    if region is not None:
        sorts.remove(region)
        notes.append(f"{_shown(region)}: the field of view, alike in all pictures")
    if union is None:
        for second, first in _second_observers(pairs, sorts):
            sorts.remove(second)
            left[second] = f"masks of a second observer ({_shown(second)})"
            notes.append(f"{_shown(second)} marks the same as {_shown(first)}, which is taken")
    names = _class_names(sorts, union, notes)
    for masks in pairs.values():
        for mask in masks:
            if mask.sort in left:
                aside.add(left[mask.sort], mask.path)
    found = {image: _of_picture(masks, names, region) for image, masks in pairs.items()}
    return SortsFound(found, notes)


def _of_picture(
    masks: Sequence[PairedMask],
    names: Mapping[Words, str],
    region: Words | None,
) -> SortedMasks:
    classes: dict[str, tuple[Path, ...]] = dict.fromkeys(sorted({*names.values()}), ())
    for mask in masks:
        if mask.sort in names:
            classes[names[mask.sort]] += (mask.path,)
    views = [mask.path for mask in masks if region is not None and mask.sort == region]
    return SortedMasks(classes, views[0] if views else None)


def _first_names(pairs: Mapping[Path, Sequence[PairedMask]]) -> dict[Words, str]:
    """The name of the first mask of each sort, by which 1st comes before 2nd."""
    first: dict[Words, str] = {}
    for masks in pairs.values():
        for mask in masks:
            first[mask.sort] = min(first.get(mask.sort, str(mask.path)), str(mask.path))
    return first


def _named_masks(counts: Mapping[Words, int], first: Mapping[Words, str]) -> list[Words]:
    """The sorts called masks, or all where none is; the most frequent and plainest first."""
    ordered = sorted(counts, key=lambda sort: (-counts[sort], len(sort), first[sort]))
    plain = [sort for sort in ordered if "roi" not in sort] or ordered
    called = [sort for sort in plain if {*sort} & MASK_WORDS]
    return called or plain


def _shown(sort: Words) -> str:
    return repr(" ".join(sort)) if sort else "the masks"


def _field_of_view(
    pairs: Mapping[Path, Sequence[PairedMask]],
    sorts: Sequence[Words],
) -> Words | None:
    """The sort that is wide and nearly the same in all pictures, where there are others."""
    for sort in sorts if len(sorts) > 1 else ():
        files = [mask.path for masks in pairs.values() for mask in masks if mask.sort == sort]
        shown = [_foreground(path) for path in evenly_chosen(files, _LOOKED_AT)]
        planes = [plane for plane in shown if plane is not None]
        if len(planes) < 2 or np.mean([plane.mean() for plane in planes]) < _WIDE:
            continue
        alike = [_iou(planes[0], plane) for plane in planes[1:]]
        if min(alike) >= _SAME_VIEW:
            return sort
    return None


def _second_observers(
    pairs: Mapping[Path, Sequence[PairedMask]],
    sorts: Sequence[Words],
) -> list[tuple[Words, Words]]:
    """(second, first): sorts that mark what an earlier one marks."""
    found: list[tuple[Words, Words]] = []
    for place, second in enumerate(sorts):
        for first in sorts[:place]:
            gone = {sort for sort, _ in found}
            if first not in gone and second not in gone and _mark_the_same(pairs, first, second):
                found.append((second, first))
    return found


def _mark_the_same(
    pairs: Mapping[Path, Sequence[PairedMask]],
    first: Words,
    second: Words,
) -> bool:
    both = [masks for masks in pairs.values() if {first, second} <= {one.sort for one in masks}]
    shares = []
    for masks in evenly_chosen(both, _LOOKED_AT):
        one, other = (_of_sort(masks, sort) for sort in (first, second))
        if one is not None and other is not None and one.any():
            shares.append(_iou(one, other))
    return bool(shares) and float(np.mean(shares)) > _SAME_STRUCTURE


def _of_sort(masks: Sequence[PairedMask], sort: Words) -> np.ndarray | None:
    planes = [_foreground(mask.path) for mask in masks if mask.sort == sort]
    whole = None
    for plane in planes:
        if plane is not None and (whole is None or whole.shape == plane.shape):
            whole = plane if whole is None else whole | plane
    return whole


def _foreground(path: Path) -> np.ndarray | None:
    try:
        values, lossy, _ = stored_values(path)
    except InputError:
        return None
    strength = values[..., :3].max(axis=2)
    if lossy:
        bright: np.ndarray = strength > 127
        return bright
    rim = np.concatenate([strength[0], strength[-1], strength[:, 0], strength[:, -1]])
    background = Counter(rim.tolist()).most_common(1)[0][0]
    other: np.ndarray = strength != background
    return other


def _iou(first: np.ndarray, second: np.ndarray) -> float:
    if first.shape != second.shape:
        return 0.0
    either = (first | second).sum()
    return float((first & second).sum() / either) if either else 1.0


def _class_names(sorts: Sequence[Words], union: bool | None, notes: list[str]) -> dict[Words, str]:
    """Sort -> its class; '' where all are one class."""
    if len(sorts) < 2 or union:
        return dict.fromkeys(sorts, "")
    common = set.intersection(*({*sort} for sort in sorts))
    own = {sort: tuple(word for word in sort if word not in common | MASK_WORDS) for sort in sorts}
    if not any(own.values()):
        return dict.fromkeys(sorts, "")
    if union is None and all({*words} <= SIDE_WORDS for words in own.values()):
        sides = ", ".join(" ".join(words) for words in own.values())
        notes.append(
            f"masks of several sides ({sides}) are joined to one class; --masks classes keeps them "
            "apart"
        )
        return dict.fromkeys(sorts, "")
    names = {sort: plain_identifier("_".join(words), "other") for sort, words in own.items()}
    if len({*names.values()}) < len(names):
        return dict.fromkeys(sorts, "")
    notes.append(
        f"masks of several sorts are a class each ({', '.join(names.values())}); --masks union "
        "joins them to one"
    )
    return names
