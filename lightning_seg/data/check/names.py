"""Do the names of samples look as if several were frames of one patient, where no groups are
known?"""

import re
from collections import Counter
from collections.abc import Sequence

_ONE_WORD = re.compile(r"([A-Za-z]+\d+)([A-Za-z]+\d+)")  # p03f012
_FEWEST = 2  # patients
_NUMBERED = 0.8  # share of the names of patients that hold a number


def likely_groups(ids: Sequence[str]) -> dict[str, str]:
    """Find for each id what may be its patient; empty where the names do not look so.

    ``p03_012``, ``10001_103``, ``case2-left`` and ``p03f012`` look like it: what stands before
    their last part, or their first part, is a name with a number that several ids share.
    ``img_001`` does not.
    """
    words = {id: _name_words(id) for id in ids}
    if not ids or min(map(len, words.values())) < 2:
        return {}
    for count in (-1, 1):
        found = {id: "_".join(each[:count]) for id, each in words.items()}
        if _look_like_patients(found):
            return found
    return {}


def _name_words(id: str) -> list[str]:
    words = [word for word in re.split(r"[^A-Za-z0-9]+", id) if word]
    joined = _ONE_WORD.fullmatch(words[0]) if len(words) == 1 else None
    return list(joined.groups()) if joined else words


def _look_like_patients(found: dict[str, str]) -> bool:
    counts = Counter(found.values())
    numbered = sum(any(map(str.isdigit, name)) for name in counts)
    shared = sum(count for count in counts.values() if count > 1)
    return (
        len(counts) >= _FEWEST and numbered >= _NUMBERED * len(counts) and 2 * shared >= len(found)
    )
