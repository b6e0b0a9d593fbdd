"""Tables of files: ``id,image,mask[,group][,split]``."""

import csv
import re
from pathlib import Path
from typing import NamedTuple

from lightning_seg.data.splits import SPLITS
from lightning_seg.errors import InputError, unknown

COLUMNS = ("id", "image", "mask", "group", "split")


class TableRow(NamedTuple):
    """A picture, its masks, its group and, or '', its split."""

    image: Path
    masks: tuple[Path, ...]
    group: str
    split: str


def read_table(path: Path) -> dict[str, TableRow]:
    """id -> its row; InputError for unknown columns, ids that repeat, and files that do not exist."""
    columns, lines = _table_lines(path)
    rows: dict[str, TableRow] = {}
    for line in lines:
        id = line["id"]
        if not id or re.search(r"[/\\]", id) or id in rows or not line["image"] or not line["mask"]:
            raise InputError(
                f"{path} has a row {id!r} that is incomplete, repeats an id or holds a slash in "
                "it; correct it."
            )
        split = line.get("split") or ""
        if "split" in columns and split not in SPLITS:
            raise InputError(
                f"{path} puts {id!r} into {split!r}; give each row one of {', '.join(SPLITS)}."
            )
        image, mask = (_listed_place(path, line[name]) for name in ("image", "mask"))
        rows[id] = TableRow(image, (mask,), line.get("group") or id, split)
    if not rows:
        raise InputError(f"{path} lists no images; give a line for each below id,image,mask.")
    _refuse_missing(path, rows)
    _refuse_repeated(path, rows)
    return rows


def _table_lines(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    try:
        reader = csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines())
        columns, lines = list(reader.fieldnames or []), list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"{path} is no table in UTF-8 ({error}); save it as CSV with commas."
        ) from error
    for column in columns:
        if column not in COLUMNS:
            raise unknown(f"column of {path}", column, COLUMNS)
    if len(set(columns)) < len(columns):
        raise InputError(f"{path} names a column twice ({', '.join(columns)}); keep one of each.")
    for line in lines:
        # what DictReader finds behind the last column
        if None in line:
            raise InputError(
                f"{path} has a row {line.get('id')!r} of more than {len(columns)} cells; name its "
                "columns in the first line, or put quotes around names with commas."
            )
    missing = [column for column in COLUMNS[:3] if column not in columns]
    if missing:
        raise InputError(
            f"{path} lacks the column {missing[0]}; "
            "its first line is id,image,mask[,group][,split]."
        )
    return columns, lines


def _listed_place(table: Path, text: str) -> Path:
    """A path of the table: relative to it, or from the root or one's home."""
    return table.parent / Path(text).expanduser()


def _refuse_missing(path: Path, rows: dict[str, TableRow]) -> None:
    """Found before training, not when the test split is opened."""
    gone = [
        (id, file)
        for id, row in rows.items()
        for file in (row.image, *row.masks)
        if not file.is_file()
    ]
    if gone:
        id, file = gone[0]
        raise InputError(
            f"{path} names {file} (id {id!r}), which does not exist ({len(gone)} such files); "
            "restore them or correct the table."
        )


def _refuse_repeated(path: Path, rows: dict[str, TableRow]) -> None:
    """A picture under two ids would count twice, or stand in two splits."""
    known: dict[Path, str] = {}
    for id, row in rows.items():
        first = known.setdefault(row.image.resolve(), id)
        if first != id:
            raise InputError(
                f"{path} names {row.image} twice, as {first!r} and as {id!r}; keep one row of each "
                "picture."
            )
