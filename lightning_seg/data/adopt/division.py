"""Splits, groups and further columns of pictures, from folders, names and tables."""

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lightning_seg.data.adopt.lists import listed_splits
from lightning_seg.data.adopt.names import (
    IMAGE_WORDS,
    MASK_WORDS,
    PATIENT_WORDS,
    SPLIT_OF,
    UNIT_WORDS,
    file_stem,
    folder_words,
    plain_identifier,
    split_named,
    without_words,
    words_of,
)
from lightning_seg.data.check.names import likely_groups
from lightning_seg.data.rules import SEED, SHARES
from lightning_seg.data.sources.base.table_doubts import plain_text
from lightning_seg.data.splits import group_split
from lightning_seg.errors import InputError

_PATIENT_FOLDERS = 8  # numbered folders, from which they are patients and not centres
_LARGEST_SHARE = 0.34  # of the pictures in one group; a larger one is a kind, not a patient
_MATCHED = 0.6  # share of the pictures that a table must name
_MOST_COLUMNS = 12
_BARCODE = ("tcga",)  # whose first three fields are the patient


@dataclass
class Division:
    """What is known of each id besides its files.

    Attributes:
        splits: id -> train, val or test.
        groups: id -> patient, video or other unit that must not be divided.
        columns: name -> id -> value.
        leaks: whether groups stand in several of the owners' splits.
        notes: what was found and decided, in sentences.
        groups_from: where the groups come from; '' where none are known.
        drawn: whether the splits were drawn, since the owners give none.
        seed: with which they were drawn.
    """

    splits: dict[str, str] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)
    columns: dict[str, dict[str, str]] = field(default_factory=dict)
    leaks: bool = False
    notes: list[str] = field(default_factory=list)
    groups_from: str = ""
    drawn: bool = False
    seed: int = SEED


def divide(
    places: Mapping[str, Path],
    root: Path,
    tables: Sequence[Path],
    lists: Sequence[Path] = (),
    hints: Mapping[str, str] | None = None,
) -> Division:
    """Find splits, groups and columns.

    Args:
        places: id -> its picture.
        tables: files of columns below the folder.
        lists: files of names below the folder, each called after a split.
        hints: id -> the split that an annotation says.
    """
    found = Division(groups={id: id for id in places})
    hints = {**listed_splits(places, lists, found.notes), **(hints or {})}
    _read_columns(places, tables, found)
    hints = {**_column_of_splits(found), **hints}
    _folder_columns(places, root, found)
    _group_by_name(places, found)
    _owners_splits(places, root, found, hints)
    return found


def _column_of_splits(found: Division) -> dict[str, str]:
    """Id -> its split, from a column of a table that holds nothing but names of splits."""
    for name, column in found.columns.items():
        told = {id: split_named(words_of(value)) for id, value in column.items() if value}
        if {"train"} < {*told.values()} and all(told.values()):
            found.notes.append(f"the column {name!r} tells the owners' splits")
            return told
    return {}


def _read_columns(places: Mapping[str, Path], tables: Sequence[Path], found: Division) -> None:
    """Columns of a table that names the pictures; one of patients makes the groups."""
    by_name = {_key(file_stem(path)): id for id, path in places.items()}
    for table in tables:
        rows = _table_rows(table)
        named = _naming_column(rows, by_name) if rows else ""
        if not named:
            _say_unused(table, rows, by_name, found)
            continue
        known = {by_name[_key(row[named])]: row for row in rows if _key(row[named]) in by_name}
        added = [name for name in rows[0] if name != named and name][:_MOST_COLUMNS]
        unit = _unit_column(added)
        for name in added:
            column = _free_name(name, found)
            found.columns[column] = {id: (row[name] or "").strip() for id, row in known.items()}
            if name == unit and not found.groups_from:
                told = {id: plain_text(row[name]) for id, row in known.items()}
                patients = {id: f"{column} {text}" for id, text in told.items() if text}
                found.groups |= patients
                if len(patients) < len(places):
                    found.notes.append(
                        f"{len(places) - len(patients)} pictures have no patient there, and count "
                        "as one of their own"
                    )
                found.groups_from = f"the column {name.strip()!r} of {table.name}"
        columns = ", ".join(name.strip() for name in added)
        found.notes.append(f"{table.name} names {len(known)} pictures and adds {columns}")


def _unit_column(names: Sequence[str]) -> str:
    """The column of patients or, where there is none, of lesions and other units; '' without."""
    patients = [name for name in names if {*words_of(name)} & PATIENT_WORDS]
    units = [name for name in names if {"id"} < {*words_of(name)} & {"id", *UNIT_WORDS}]
    return next(iter([*patients, *units]), "")


def _say_unused(
    table: Path,
    rows: list[dict[str, str]],
    by_name: Mapping[str, str],
    found: Division,
) -> None:
    """Note a table that names some of the pictures, but too few."""
    columns = list(rows[0]) if rows else []
    most = max((len(_named_in(rows, name) & by_name.keys()) for name in columns), default=0)
    if most:
        found.notes.append(
            f"{table.name} names {most} of {len(by_name)} pictures, too few: its columns "
            f"({', '.join(name.strip() for name in columns)}) are not used"
        )


def _free_name(name: str, found: Division) -> str:
    """A column name that no other column and none of the table's own has."""
    column = plain_identifier(name)
    own = ("id", "image", "mask", "region", "group", "split")
    while column in found.columns or column in own:
        column = f"{column}_of_table"
    return column


def _key(text: str | None) -> str:
    return Path((text or "").strip()).stem.lower()


def _table_rows(path: Path) -> list[dict[str, str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        return []
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    if text and ";" in text.splitlines()[0] and "," not in text.splitlines()[0]:
        delimiter = ";"
    try:
        rows = list(csv.DictReader(text.splitlines(), delimiter=delimiter))
    except csv.Error:
        return []
    return [{key: value for key, value in row.items() if isinstance(key, str)} for row in rows]


def _naming_column(rows: list[dict[str, str]], by_name: Mapping[str, str]) -> str:
    for name in rows[0]:
        matched = _named_in(rows, name) & by_name.keys()
        if len(matched) >= max(1, _MATCHED * len(by_name)):
            return name
    return ""


def _named_in(rows: list[dict[str, str]], column: str) -> set[str]:
    return {_key(row.get(column)) for row in rows}


def _folder_columns(places: Mapping[str, Path], root: Path, found: Division) -> None:
    """A level of folders that differs: patients where it looks so, else a column."""
    told: dict[str, str] = {}
    patients: dict[str, str] = {}
    for id, path in places.items():
        parts = path.parent.relative_to(root).parts
        named = [part for part in parts if _says_more(part)]
        told[id] = "/".join(named)
        video = [place for place, part in enumerate(named) if _is_patient(part)]
        if video:
            patients[id] = "/".join(named[: video[-1] + 1])
    if len({*told.values()}) < 2:
        return
    own_folders = len({*told.values()}) == len(told)
    if own_folders or _tells_splits(places, root, told):
        return
    told = _without_shared_parts(told)
    numbered = sum(any(map(str.isdigit, value)) for value in {*told.values()})
    many = len({*told.values()}) >= _PATIENT_FOLDERS and numbered >= len({*told.values()}) / 2
    if not found.groups_from and (patients or many):
        chosen = patients or told
        found.groups |= chosen
        names = sorted({*chosen.values()})
        found.groups_from = f"{len(names)} folders, {_few(names)}"
    if not many and found.groups != told:
        column = _free_name("folder", found)
        found.columns[column] = told
        counts = Counter(told.values())
        listing = ", ".join(f"{name or '.'} {count}" for name, count in counts.most_common(8))
        found.notes.append(f"folders of several names become the column {column!r}: {listing}")


def _says_more(part: str) -> bool:
    """Tell whether a folder is more than that of pictures, of masks or of a split."""
    words = words_of(part)
    return not {*words} & (IMAGE_WORDS | MASK_WORDS) and bool(without_words(words, SPLIT_OF))


def _tells_splits(places: Mapping[str, Path], root: Path, told: Mapping[str, str]) -> bool:
    """Tell whether folders differ by their split alone."""
    pairs = {(told[id], _named_split(path, root)) for id, path in places.items()}
    folders, splits = ({*values} for values in zip(*pairs, strict=True))
    return len(pairs) == len(folders) == len(splits)


def _without_shared_parts(told: Mapping[str, str]) -> dict[str, str]:
    """The names of folders without those that all have in front."""
    parts = {id: name.split("/") for id, name in told.items()}
    shared = 0
    shortest = min(map(len, parts.values()))
    while shared < shortest and len({name[shared] for name in parts.values()}) == 1:
        shared += 1
    return {id: "/".join(name[shared:]) for id, name in parts.items()}


def _is_patient(part: str) -> bool:
    words = words_of(part)
    return bool({*words} & PATIENT_WORDS) and any(map(str.isdigit, part))


def _few(names: Sequence[str]) -> str:
    shown = [name for name in names if name][:3]
    return ", ".join([*shown, "..."] if len(names) > 3 else shown)


def _group_by_name(places: Mapping[str, Path], found: Division) -> None:
    if found.groups_from:
        return
    stems = {id: file_stem(path) for id, path in places.items()}
    barcodes = {id: "-".join(stem.split("-")[:3]) for id, stem in stems.items()}
    if all(words_of(stem)[:1] == _BARCODE and "-" in stem for stem in stems.values()):
        found.groups, found.groups_from = barcodes, "the first three fields of TCGA's barcodes"
        return
    likely = likely_groups(list(stems.values()))
    groups = {id: likely.get(stem, id) for id, stem in stems.items()}
    counts = Counter(groups.values())
    if likely and max(counts.values()) <= _LARGEST_SHARE * len(groups):
        found.groups = groups
        names = sorted(counts)
        found.groups_from = f"names that look like {len(names)} patients or videos, {_few(names)}"


def _owners_splits(
    places: Mapping[str, Path],
    root: Path,
    found: Division,
    hints: Mapping[str, str],
) -> None:
    """The splits that folders or names give, completed by drawing whole groups."""
    named = {id: hints.get(id) or _named_split(path, root) for id, path in places.items()}
    given = {*named.values()} - {""}
    if not {"train"} < given:
        _draw_splits(found)
        return
    without = [id for id, split in named.items() if not split]
    splits = {id: split or "train" for id, split in named.items()}
    if without:
        found.notes.append(f"{len(without)} pictures in no split of the owners train")
    if "test" not in given:
        splits = {id: "test" if split == "val" else split for id, split in splits.items()}
        found.notes.append("the owners' validation split tests, since they give no test split")
    if "val" not in splits.values():
        splits |= _carved_validation(splits, found)
    found.splits = splits
    say_crossing(found)


def say_crossing(found: Division) -> None:
    """Note the groups that stand in several of the owners' splits, once."""
    crossing = _crossing(found.splits, found.groups)
    if crossing and not found.leaks:
        found.leaks = True
        found.notes.append(
            f"LEAKS: {len(crossing)} groups stand in several of the owners' splits (first "
            f"{crossing[0]!r}); scores say less of new patients than they seem to"
        )


def _named_split(path: Path, root: Path) -> str:
    by_folder = split_named(folder_words(path.parent, root))
    words = words_of(file_stem(path))
    ends = (*words[:1], *words[-1:])
    return by_folder or split_named(ends)


def _draw_splits(found: Division) -> None:
    draw_again(found, SEED)
    found.drawn = True


def draw_again(found: Division, seed: int) -> None:
    """Draw the splits, each group whole; InputError for too few groups."""
    units = len({*found.groups.values()})
    if units < len(SHARES):
        raise InputError(
            f"{len(found.groups)} pictures in {units} groups are too few to train, validate and "
            "test; give at least 3."
        )
    parts = group_split(found.groups, SHARES, seed)
    found.splits = {id: split for split, ids in parts.items() for id in ids}
    found.seed = seed


def _carved_validation(splits: Mapping[str, str], found: Division) -> dict[str, str]:
    training = {id: found.groups[id] for id, split in splits.items() if split == "train"}
    if len({*training.values()}) < 2:
        raise InputError(
            f"the owners' training split holds {len({*training.values()})} group, of which none can "
            "validate; give more pictures."
        )
    parts = group_split(training, {"train": 0.9, "val": 0.1}, SEED)
    found.notes.append(
        f"a tenth of the owners' training split validates ({len(parts['val'])} pictures), by "
        f"group, seed {SEED}"
    )
    return {id: split for split, ids in parts.items() for id in ids}


def _crossing(splits: Mapping[str, str], groups: Mapping[str, str]) -> list[str]:
    homes: dict[str, set[str]] = {}
    for id, split in splits.items():
        homes.setdefault(groups[id], set()).add(split)
    return sorted(group for group, parts in homes.items() if len(parts) > 1)
