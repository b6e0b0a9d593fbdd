"""Do the names of samples look as if several were frames of one patient, where no groups are
known?"""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence

_ONE_WORD = re.compile(r"([A-Za-z]+\d+)([A-Za-z]+\d+)")  # p03f012
_SIDED = re.compile(r"(.*\d)([A-Za-z]{1,5})")  # 000L, 12left
_FEWEST = 2  # patients
_NUMBERED = 0.8  # share of the names of patients that hold a number


def likely_groups(ids: Sequence[str]) -> dict[str, str]:
    """Find for each id what may be its patient; empty where the names do not look so.

    ``p03_012``, ``10001_103``, ``case2-left`` and ``p03f012`` look like it: what stands before
    their last part, or their first part, is a name with a number that several ids share.
    ``img_001`` does not. Nor do numbers that run on, but ``1001, 1002, 1003, 2001, 2002`` do, where
    a count of views begins anew behind each patient's number.
    """
    words = {id: _name_words(id) for id in ids}
    if not ids or min(map(len, words.values())) < 2:
        return _counted_views(ids)
    for count in (-1, 1):
        found = {id: "_".join(each[:count]) for id, each in words.items()}
        if _look_like_patients(found):
            return found
    return _counted_views(ids)


def _counted_views(ids: Sequence[str]) -> dict[str, str]:
    """The patients of names that end in a patient's number and that of a view; empty where the
    numbers may as well be one count."""
    for digits in (1, 2, 3):
        matches = {id: re.fullmatch(rf"(.*?\d+)(\d{{{digits}}})", id) for id in ids}
        if not all(matches.values()):
            continue
        views = defaultdict(set)
        found = {}
        for id, match in matches.items():
            assert match is not None
            found[id] = match[1]
            views[match[1]].add(int(match[2]))
        restarting = sum(_begins_anew(each, 10**digits) for each in views.values())
        if restarting >= _NUMBERED * len(views) and _look_like_patients(found):
            return found
    return {}


def _begins_anew(views: set[int], full: int) -> bool:
    """Tell whether numbers are 0, 1, ... or 1, 2, ... and end before all of ``full`` are used."""
    first, last = min(views), max(views)
    return first in (0, 1) and last - first + 1 == len(views) and last < full - 1


def _name_words(id: str) -> list[str]:
    words = [word for word in re.split(r"[^A-Za-z0-9]+", id) if word]
    joined = _ONE_WORD.fullmatch(words[0]) if len(words) == 1 else None
    if joined:
        return list(joined.groups())
    sided = _SIDED.fullmatch(words[-1]) if words else None
    return [*words[:-1], *sided.groups()] if sided else words


def _look_like_patients(found: dict[str, str]) -> bool:
    counts = Counter(found.values())
    numbered = sum(any(map(str.isdigit, name)) for name in counts)
    shared = sum(count for count in counts.values() if count > 1)
    return (
        len(counts) >= _FEWEST and numbered >= _NUMBERED * len(counts) and 2 * shared >= len(found)
    )
