"""What the columns of a table leave open: groups that may be one, patients and splits that nobody
uses."""

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence

from lightning_seg.data.splits import SPLITS
from lightning_seg.tables import count_text

_PATIENT = re.compile(r"patient|subject|person|pid|case|study|video|sequence|series|scan|visit")
_SPLIT_NAMES = {*SPLITS, "training", "valid", "validation", "dev", "testing"}
_SHOWN = 3  # examples


def plain_text(cell: str | None) -> str:
    """A cell without white space at its ends, its letters composed: what looks the same is the
    same."""
    return unicodedata.normalize("NFC", cell or "").strip()


def table_doubts(
    name: str,
    columns: Sequence[str],
    lines: Sequence[Mapping[str, str]],
) -> Iterator[str]:
    """Say of a table what may divide patients among splits unseen.

    Args:
        name: of the file.
    """
    groups = [plain_text(line.get("group")) for line in lines]
    named = sum(map(bool, groups))
    if 0 < named < len(lines):
        rows = count_text(len(lines), "row")
        yield (
            f"{name} names no group in {len(lines) - named} of {rows}: each of these is taken for "
            "a patient of its own"
        )
    alike = _groups_alike(groups)
    if alike:
        shown = "; ".join(" and ".join(map(repr, each)) for each in alike[:_SHOWN])
        more = f"; and {len(alike) - _SHOWN} more" if len(alike) > _SHOWN else ""
        yield (
            f"{name} has groups that differ by capitals, spaces, marks or zeros alone, and are "
            f"taken for different patients: {shown}{more}"
        )
    yield from _unused_columns(name, columns, lines, bool(named))


def _groups_alike(groups: Sequence[str]) -> list[list[str]]:
    found: dict[str, list[str]] = {}
    for group in dict.fromkeys(filter(None, groups)):
        found.setdefault(_folded(group), []).append(group)
    return [each for each in found.values() if len(each) > 1]


def _folded(group: str) -> str:
    """A group without what hands add: ``P-01``, ``p1`` and ``P 1.0`` are one."""
    number = re.sub(r"\.0+$", "", unicodedata.normalize("NFKC", group).casefold())
    parts = re.findall(r"\d+|[^\W\d_]+", number)
    return " ".join(part.lstrip("0") or "0" if part.isdigit() else part for part in parts) or group


def _unused_columns(
    name: str,
    columns: Sequence[str],
    lines: Sequence[Mapping[str, str]],
    grouped: bool,
) -> Iterator[str]:
    for column in columns:
        values = {plain_text(line[column]).casefold() for line in lines} - {""}
        patients = bool(_PATIENT.search(column.casefold())) and len(values) < len(lines)
        if patients and len(values) > 1 and not grouped:
            yield (
                f"{name} has no groups, and a column {column!r} that makes none: where its rows "
                "share a patient, name that column group"
            )
        if "split" not in columns and "train" in {value[:5] for value in values & _SPLIT_NAMES}:
            yield (
                f"{name} has a column {column!r} of splits, which makes none: name it split, with "
                f"{', '.join(SPLITS)}"
            )
