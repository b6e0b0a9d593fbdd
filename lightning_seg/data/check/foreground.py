"""What the masks of a data set leave open: inverted, nearly full, or a class that a split lacks."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from lightning_seg.data.check.facts import Facts
from lightning_seg.data.mask_shares import NEARLY_FULL
from lightning_seg.data.splits import SPLITS

_UNEVEN = 0.5  # difference of the shares of empty masks in two splits


def nearly_full(facts: Sequence[Facts]) -> list[str]:
    """Samples of which one class covers over nine tenths, but not all."""
    return [fact.id for fact in facts if NEARLY_FULL < max(fact.foreground) < 1]


class SplitForeground(NamedTuple):
    """The foreground of one split.

    Attributes:
        samples: how many could be read.
        empty: of these, without any foreground.
        absent: classes that are in none of them.
    """

    split: str
    samples: int
    empty: int
    absent: tuple[str, ...]


def foreground_of_splits(
    facts: Sequence[Facts],
    home: Mapping[str, str],
    classes: Sequence[str],
) -> list[SplitForeground]:
    """Each split of a protocol that has samples; ``home``: sample -> split."""
    found = []
    for split in SPLITS:
        inside = [fact for fact in facts if home.get(fact.id) == split]
        if not inside:
            continue
        most = [max(shares) for shares in zip(*(fact.foreground for fact in inside), strict=True)]
        absent = tuple(name for name, share in zip(classes, most, strict=True) if share == 0)
        empty = sum(max(fact.foreground) == 0 for fact in inside)
        found.append(SplitForeground(split, len(inside), empty, absent))
    return found


def is_uneven(splits: Sequence[SplitForeground]) -> bool:
    """Tell whether one split has many more empty masks than another."""
    shares = [one.empty / one.samples for one in splits]
    return bool(shares) and max(shares) - min(shares) > _UNEVEN
