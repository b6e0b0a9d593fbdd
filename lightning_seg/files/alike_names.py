"""Names that an eye, or a disk that does not tell capitals, takes for one."""

import re
import tempfile
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path

_SHOWN = 3


def folded_name(name: str) -> str:
    """A name, or a path of names, without what alike ones differ by: capitals, white space at the
    ends of a name and before its suffix, and whether letters are composed."""
    composed = unicodedata.normalize("NFC", name).casefold()
    return re.sub(r"\s+(?=[./]|$)|(?<=/)\s+|^\s+", "", composed)


def alike_names(names: Iterable[str]) -> list[list[str]]:
    """The names that are alike, together."""
    found: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        found.setdefault(folded_name(name), []).append(name)
    return [each for each in found.values() if len(each) > 1]


def alike_ids(ids: Iterable[str]) -> Iterator[str]:
    """Say which ids of a data set are alike."""
    found = alike_names(ids)
    if found:
        shown = "; ".join(" and ".join(map(repr, each)) for each in found[:_SHOWN])
        more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        yield (
            "ids that differ by capitals or spaces alone are taken for different pictures: "
            f"{shown}{more}; files named so replace each other on disks that do not tell capitals"
        )


def tells_capitals(folder: Path) -> bool:
    """Tell whether names that differ by capitals alone are two files in a folder."""
    with tempfile.NamedTemporaryFile(prefix=".Capitals-", dir=folder) as file:
        place = Path(file.name)
        return not place.with_name(place.name.swapcase()).exists()
