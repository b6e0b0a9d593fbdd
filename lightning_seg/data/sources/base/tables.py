"""Tables of files: ``id,image,mask[,region][,group][,split]`` and further columns.

* ``mask`` names one file, several with ``;`` between them, or a folder of them: a pixel belongs to
  a class that one of them gives it. ``mask:liver`` holds those of one class alone.
* ``region`` is a picture of the field of view.
* Any other column is kept as it is; none may look like a misspelt one of these.
* ``# leaks: yes`` above the first line says that groups stand in several splits.
"""

import csv
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from lightning_seg.data.reading.folders import walk_files
from lightning_seg.data.reading.pictures import is_picture
from lightning_seg.data.sources.base.table_doubts import plain_text, table_doubts
from lightning_seg.data.splits import SPLITS
from lightning_seg.errors import InputError, near_match, unknown
from lightning_seg.files import real_path
from lightning_seg.files.documents import check_readable
from lightning_seg.tables import count_text

COLUMNS = ("id", "image", "mask", "region", "group", "split")
OF_CLASS = "mask:"  # before the name of a class that has masks of its own
SEPARATOR = ";"  # between the masks of one cell
_LIKE_A_KNOWN_ONE = 0.76  # `age` is no misspelt `image`


class TableRow(NamedTuple):
    """One line of a table.

    Attributes:
        masks: all of them; none where the picture shows no foreground.
        split: train, val, test, or ''.
        of_class: the masks of each class that has its own.
        region: the picture of the field of view.
        further: the other columns.
    """

    image: Path
    masks: tuple[Path, ...]
    group: str
    split: str
    of_class: Mapping[str, tuple[Path, ...]] = {}
    region: Path | None = None
    further: Mapping[str, str] = {}

    @property
    def files(self) -> tuple[Path, ...]:
        """Everything that is opened: image, masks, region."""
        region = () if self.region is None else (self.region,)
        return (self.image, *self.masks, *region)


class FileTable(NamedTuple):
    """A table of files.

    Attributes:
        rows: by id.
        leaks: whether it says itself that groups stand in several of its splits.
        doubts: what its columns leave open, in words.
    """

    rows: dict[str, TableRow]
    leaks: bool
    doubts: tuple[str, ...] = ()


def read_table(path: Path, negatives: bool = False) -> FileTable:
    """The rows by id; InputError for ids that repeat, and files that do not exist.

    Args:
        negatives: whether a row without masks is a picture without foreground; else it is an error.
    """
    header, columns, lines = _table_lines(path)
    rows: dict[str, TableRow] = {}
    for line in lines:
        id = line["id"]
        if id.startswith("#"):
            raise InputError(
                f"{path} has a row {id!r}, as if it were left out by #, which tables do not know; "
                "take the row out."
            )
        if not id or re.search(r"[/\\]", id) or id in rows or not line["image"]:
            raise InputError(
                f"{path} has a row {id!r} that is incomplete, repeats an id or holds a slash in "
                "it; correct it."
            )
        rows[id] = _table_row(path, columns, line)
        if not rows[id].masks and not negatives:
            raise InputError(
                f"{path} has a row {id!r} that is incomplete: it names no mask; add it, or set "
                "negatives: true in dataset_options where pictures without one show no foreground."
            )
    if not rows:
        raise InputError(f"{path} lists no images; give a line for each below id,image,mask.")
    _refuse_missing(path, rows)
    _refuse_repeated(path, rows)
    doubts = (*table_doubts(path.name, columns, lines), *_shared_masks(path, rows))
    return FileTable(rows, header.get("leaks") == "yes", doubts)


def _table_row(
    path: Path,
    columns: list[str],
    line: Mapping[str, str],
) -> TableRow:
    id, split = line["id"], line.get("split") or ""
    if "split" in columns and split not in SPLITS:
        raise InputError(
            f"{path} puts {id!r} into {split!r}; give each row one of {', '.join(SPLITS)}."
        )
    own = {name.removeprefix(OF_CLASS): name for name in columns if name.startswith(OF_CLASS)}
    of_class = {name: _mask_files(path, line[column]) for name, column in own.items()}
    masks = _mask_files(path, line.get("mask") or "")
    region = _listed_place(path, line["region"]) if line.get("region") else None
    known = {*COLUMNS, *own.values()}
    return TableRow(
        image=_listed_place(path, line["image"]),
        masks=masks + tuple(file for files in of_class.values() for file in files),
        group=plain_text(line.get("group")) or id,
        split=split,
        of_class=of_class,
        region=region,
        further={name: line[name] or "" for name in columns if name not in known},
    )


def _mask_files(table: Path, cell: str | None) -> tuple[Path, ...]:
    """The files of a cell; of a folder all pictures in it."""
    if not cell:
        return ()
    whole = _listed_place(table, cell)
    if whole.is_dir():
        return tuple(file for file in walk_files(whole) if is_picture(file.name))
    if whole.exists() or SEPARATOR not in cell:
        return (whole,)
    parts = [part.strip() for part in cell.split(SEPARATOR)]
    return tuple(_listed_place(table, part) for part in parts if part)


def _table_lines(
    path: Path,
) -> tuple[dict[str, str], list[str], list[dict[str, str]]]:
    """What stands above the columns, the columns, and the lines below them."""
    try:
        check_readable(path)
        text = path.read_text(encoding="utf-8-sig").splitlines()
        above = _comments(text)
        reader = csv.DictReader(text[len(above) :])
        columns, lines = list(reader.fieldnames or []), list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"{path} is no table in UTF-8 ({error}); save it as CSV with commas."
        ) from error
    _check_columns(path, columns)
    for line in lines:
        # what DictReader finds behind the last column
        if None in line:
            raise InputError(
                f"{path} has a row {line.get('id')!r} of more than {len(columns)} cells; name its "
                "columns in the first line, or put quotes around names with commas."
            )
    parts = [line.lstrip("# ").partition(":") for line in above]
    return {key.strip(): value.strip() for key, _, value in parts}, columns, lines


def _comments(lines: list[str]) -> list[str]:
    """The first lines, as far as they start with #."""
    count = next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return lines[:count]


def _check_columns(path: Path, columns: list[str]) -> None:
    own = [name for name in columns if name.startswith(OF_CLASS)]
    for column in columns:
        known = column in COLUMNS or column in own
        if not known and near_match(column, COLUMNS, _LIKE_A_KNOWN_ONE):
            raise unknown(f"column of {path}", column, COLUMNS)
    if len(set(columns)) < len(columns):
        raise InputError(f"{path} names a column twice ({', '.join(columns)}); keep one of each.")
    needed = ["id", "image"] if own else ["id", "image", "mask"]
    missing = [column for column in needed if column not in columns]
    if missing:
        raise InputError(
            f"{path} lacks the column {missing[0]}; "
            "its first line is id,image,mask[,region][,group][,split] and further columns."
        )
    if own and "mask" in columns:
        raise InputError(
            f"{path} has the columns mask and {own[0]}; give one for all, or one for each class."
        )


def _listed_place(table: Path, text: str) -> Path:
    """A path of the table: relative to it, or from the root or one's home."""
    return table.parent / Path(text).expanduser()


def _refuse_missing(path: Path, rows: dict[str, TableRow]) -> None:
    """Found before training, not when the test split is opened."""
    gone = [(id, file) for id, row in rows.items() for file in row.files if not file.exists()]
    if gone:
        id, file = gone[0]
        raise InputError(
            f"{path} names {file} (id {id!r}), which does not exist ({count_text(len(gone), 'such file')}); "
            "restore them or correct the table."
        )
    for file in (file for row in rows.values() for file in row.files):
        if not (file.is_file() or file.is_dir()):
            check_readable(file)


def _shared_masks(path: Path, rows: dict[str, TableRow]) -> Iterator[str]:
    """A mask of two pictures may be one of a row that was copied."""
    known: dict[Path, str] = {}
    shared = [
        (first, id)
        for id, row in rows.items()
        for mask in row.masks
        if (first := known.setdefault(mask, id)) != id
    ]
    if shared:
        first, second = shared[0]
        more = f", and so {count_text(len(shared) - 1, 'further picture')}" if shared[1:] else ""
        yield f"{path.name} gives {second!r} the mask of {first!r}{more}"


def _refuse_repeated(path: Path, rows: dict[str, TableRow]) -> None:
    """A picture under two ids would count twice, or stand in two splits."""
    known: dict[Path, str] = {}
    for id, row in rows.items():
        first = known.setdefault(real_path(row.image), id)
        if first != id:
            raise InputError(
                f"{path} names {row.image} twice, as {first!r} and as {id!r}; keep one row of each "
                "picture."
            )
