"""What the grey values of mask files say: lossy compression, grey outlines, safe thresholds."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lightning_seg.data.check.facts import Facts

USUAL = 127
_CHANGED = 0.001  # share of the foreground that a safe threshold may add or take away


class Greys(NamedTuple):
    """The grey values of all masks.

    Attributes:
        lossy: masks with values between black and white.
        lowest, highest: thresholds under which the foreground changes by less than a thousandth.
        dice_at_zero: mean Dice of the mask ``> 0`` with that at ``threshold``.
        counts: (256,) pixels of each grey value, all masks together.
        others: of masks that hold 0 and one other value, that value -> how many hold it.
    """

    threshold: int
    values: int
    lossy: tuple[str, ...]
    lowest: int
    highest: int
    dice_at_zero: float
    counts: np.ndarray
    others: Counter[int]


def greys(facts: Sequence[Facts], threshold: int) -> Greys | None:
    """The grey values of all masks; None where masks are numbers of labels, or no pictures."""
    stored = [(fact.id, fact.values) for fact in facts if fact.values is not None]
    if not stored:
        return None
    others = Counter(_other_value(values) for _, values in stored)
    del others[0]
    files = [(id, _with_white(values)) for id, values in stored]
    total = sum((values for _, values in files), np.zeros(256, np.int64))
    above = total[::-1].cumsum()[::-1] - total  # pixels above each value
    safe = np.abs(above - above[threshold]) <= _CHANGED * above[threshold]
    lowest, highest = threshold, threshold
    while lowest > 0 and safe[lowest - 1]:
        lowest -= 1
    while highest < 254 and safe[highest + 1]:
        highest += 1
    lossy = tuple(id for id, values in files if values[1:255].any())
    dice = [
        2 * at / (at + values[1:].sum())
        for _, values in files
        if (at := values[threshold + 1 :].sum())
    ]
    count = int((total > 0).sum())
    at_zero = float(np.mean(dice)) if dice else 1.0
    return Greys(threshold, count, lossy, lowest, highest, at_zero, total, others)


def _other_value(values: np.ndarray) -> int:
    """The value of a mask besides 0; 0 where there is none, or several."""
    found = np.flatnonzero(values[1:]) + 1
    return int(found[0]) if len(found) == 1 else 0


def _with_white(values: np.ndarray) -> np.ndarray:
    """The pixels per grey value, of a mask of 0 and one other value as if that were white."""
    found = np.flatnonzero(values)
    if len(found) > 2 or found[-1] == 0:
        return values
    white = np.zeros_like(values)
    white[0], white[255] = values[0], values[1:].sum()
    return white
