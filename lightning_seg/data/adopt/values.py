"""What the values of masks mean: one class, numbered instances, labels of classes, colours."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from lightning_seg.data.adopt.looks import evenly_chosen, stored_values
from lightning_seg.data.reading.masks import USUAL_THRESHOLD, read_mask
from lightning_seg.errors import InputError

_LOOKED_AT = 48  # masks
_MOST_CLASSES = 20
_VOID = 255  # marks borders that no class has, beside numbers of labels
_ALMOST_ALL = 0.9


class MaskValues(NamedTuple):
    """What masks hold.

    Attributes:
        classes: as many names as there are classes.
        options: what the data set is told of them.
        note: the finding and the reading, as a sentence.
    """

    classes: tuple[str, ...]
    options: dict[str, Any]
    note: str


class _MaskFacts(NamedTuple):
    """One mask file: its values with their counts, whether lossy or coloured, and its edge."""

    counts: dict[int, int]
    lossy: bool
    coloured: bool
    edge: int  # the most frequent value of the outermost pixels
    single: float  # share of the values other than the edge's that are one connected area


def read_values(files: Sequence[Path], class_name: str = "foreground") -> MaskValues:
    """Look at the values of some of the masks and decide what they mean."""
    chosen = evenly_chosen(files, _LOOKED_AT)
    looked = [_facts_of(path) for path in chosen]
    facts = [one for one in looked if one is not None]
    one_class = (class_name,)
    if not facts:
        return MaskValues(one_class, {}, "no mask could be decoded")
    lossy = [path for path, fact in zip(chosen, looked, strict=True) if fact and fact.lossy]
    if lossy:
        _require_black_and_white(lossy)
        options = {"mask_threshold": USUAL_THRESHOLD}
        note = "lossy masks, black and white with noise at the edges: above 127 is the class"
        return MaskValues(one_class, options, note)
    values = sorted({value for fact in facts for value in fact.counts})
    per_file = max(len(fact.counts) for fact in facts)
    marks = values[1:]
    if per_file <= 2 and values[0] == 0 and marks == [1, _VOID]:
        note = "masks of two values, 0 with 1 or with 255: one class"
        return MaskValues(one_class, {"labels": "nonzero"}, note)
    if per_file <= 2 and values[0] == 0 and len(marks) < 2:
        shown = ", ".join(map(str, values[1:3])) or "nothing else"
        return MaskValues(one_class, {}, f"masks of two values, 0 and {shown}: one class")
    if any(fact.coloured for fact in facts):
        return _coloured(facts, class_name)
    if _is_soft(facts):
        note = "grey outlines between black and white: above 127 is the class"
        return MaskValues(one_class, {"mask_threshold": USUAL_THRESHOLD}, note)
    return _numbers(facts, values, class_name)


def _require_black_and_white(files: Sequence[Path]) -> None:
    """InputError where most lossy masks are not black and white, so that 127 is no border."""
    refusals = []
    for path in files:
        try:
            read_mask(path)
        except InputError as error:
            refusals.append(error)
    if 2 * len(refusals) > len(files):
        raise refusals[0]


def _facts_of(path: Path) -> _MaskFacts | None:
    try:
        values, lossy, _ = stored_values(path)
    except InputError:
        return None
    colours = values[..., :3].astype(np.int64)
    coloured = colours.shape[2] == 3 and np.ptp(colours, axis=2).max() > 0
    numbers = colours @ (1 << 16, 1 << 8, 1) if coloured else colours[..., 0]
    found, counts = np.unique(numbers, return_counts=True)
    rim = np.concatenate([numbers[0], numbers[-1], numbers[:, 0], numbers[:, -1]])
    edge = int(Counter(rim.tolist()).most_common(1)[0][0])
    known = dict(zip(found.tolist(), counts.tolist(), strict=True))
    return _MaskFacts(known, lossy, bool(coloured), edge, _single_areas(numbers, found, edge))


def _single_areas(numbers: np.ndarray, found: np.ndarray, edge: int) -> float:
    chosen = [value for value in found.tolist() if value != edge][:40]
    areas = [
        cv2.connectedComponents((numbers == value).astype(np.uint8))[0] - 1 for value in chosen
    ]
    return float(np.mean([area == 1 for area in areas])) if areas else 1.0


def _is_soft(facts: Sequence[_MaskFacts]) -> bool:
    """Black and white, with few greys in between."""
    total: Counter[int] = Counter()
    for fact in facts:
        total.update(fact.counts)
    if max(total) > 255 or max(total) < 200:
        return False
    between = sum(count for value, count in total.items() if 30 < value < 225)
    kinds = sum(30 < value < 225 for value in total)
    extreme = sum(count for value, count in total.items() if value <= 30 or value >= 225)
    return kinds > 3 and between < 0.1 * extreme


def _coloured(facts: Sequence[_MaskFacts], class_name: str) -> MaskValues:
    seen = Counter(value for fact in facts for value in fact.counts)
    background = Counter(fact.edge for fact in facts).most_common(1)[0][0]
    colours = [value for value in sorted(seen) if value != background]
    shared = [value for value in colours if seen[value] >= max(2, len(facts) / 4)]
    if len(colours) > _MOST_CLASSES or (len(facts) > 3 and len(shared) < len(colours) / 2):
        note = f"{len(colours)} colours that differ from mask to mask: instances, read as one class"
        return MaskValues((class_name,), {"labels": "nonzero"}, note)
    names = [f"#{value:06x}" for value in colours]
    options: dict[str, Any] = {"labels": names}
    if background:
        options["background"] = [f"#{background:06x}"]
    if len(names) == 1:
        return MaskValues((class_name,), options, f"one colour, {names[0]}: one class")
    classes = tuple(f"colour_{name[1:]}" for name in names)
    note = f"{len(names)} colours ({', '.join(names)}): a class each; rename them in the recipe"
    return MaskValues(classes, options, note)


def _numbers(facts: Sequence[_MaskFacts], values: list[int], class_name: str) -> MaskValues:
    """Numbers of labels, of instances, or of a background that is not 0."""
    labels = [value for value in values if value]
    if _are_instances(facts, labels):
        note = f"numbers up to {max(labels)}, one area each: instances, read as one class"
        return MaskValues((class_name,), {"labels": "nonzero"}, note)
    options: dict[str, Any] = {}
    background = _background(facts)
    if background:
        options["background"] = [background]
        labels = [value for value in values if value != background]
    elif len(labels) > 1 and labels[-1] == _VOID and labels[-2] < 64:
        options["ignore"] = [_VOID]
        labels = labels[:-1]
    options["labels"] = labels
    if len(labels) == 1:
        note = f"the value {labels[0]} is the class"
        classes: tuple[str, ...] = (class_name,)
    else:
        note = f"the values {', '.join(map(str, labels))}: a class each; rename them in the recipe"
        classes = tuple(f"class_{value}" for value in labels)
    if background:
        note += f"; {background} is the background, since it fills the edges"
    if "ignore" in options:
        note += "; 255 is of no class and is ignored"
    return MaskValues(classes, options, note)


def _background(facts: Sequence[_MaskFacts]) -> int:
    """The value other than 0 that nearly all edges have; 0 where there is none."""
    edge, count = Counter(fact.edge for fact in facts).most_common(1)[0]
    return edge if edge and count >= _ALMOST_ALL * len(facts) else 0


def _are_instances(facts: Sequence[_MaskFacts], labels: list[int]) -> bool:
    if len(labels) > _MOST_CLASSES:
        return True
    own = [[value for value in fact.counts if value] for fact in facts]
    filled = [values for values in own if values]
    counted = all(values == list(range(1, len(values) + 1)) for values in filled)
    differing = len({len(values) for values in filled}) > 1
    single = np.mean([fact.single for fact in facts])
    several = max(map(len, filled)) > 2
    return bool(counted and differing and several and single > _ALMOST_ALL)
