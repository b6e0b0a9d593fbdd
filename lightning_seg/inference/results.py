"""The folder of results: its settings, what each result was made from, and tables that grow by
whole rows."""

import csv
import errno
import io
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lightning_seg.errors import InputError
from lightning_seg.files import whole
from lightning_seg.files.locks import locked
from lightning_seg.inference.inputs import Input

Row = dict[str, Any]
# files and folders under which results are written until they are whole
LOCK = ".lock"  # of an output folder
_LEFTOVER = re.compile(r"\.volume-.*|\.part-.*|\..*\.part")
INPUT_COLUMNS = ("file", "stamp", "note")
NAMES = "checkpoint_files"  # among the settings: names that tell digests apart, and may change


class ResultTable:
    """A CSV file to which groups of rows are added, each group whole or not at all; what stands in
    it is kept, unless it has other columns.

    Args:
        path: of the file; it is made with the first rows.
        columns: its first line.
    """

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self.path, self.columns = path, list(columns)
        self.rows: list[dict[str, str]] = []
        if path.exists():
            text = path.read_text(encoding="utf-8")
            complete = text[: text.rfind("\n") + 1]  # a line cut off by a kill is done again
            if complete != text:
                os.truncate(path, len(complete.encode()))
            reader = csv.DictReader(io.StringIO(complete))
            self.rows = list(reader)
            if reader.fieldnames != self.columns:
                # of an older version: what stands in it is done again
                path.unlink()
                self.rows = []

    def keep(self, files: set[str]) -> None:
        """Remove the rows of all other files."""
        kept = [row for row in self.rows if row["file"] in files]
        if len(kept) == len(self.rows):
            return
        with whole(self.path) as part:
            part.write_text(self._text(kept, header=True), encoding="utf-8")
        self.rows = kept

    def read_rows(self) -> list[dict[str, str]]:
        """All rows of the file as it is now; none where there is no file."""
        if not self.path.is_file():
            return []
        with self.path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    def add(self, rows: Iterable[Row]) -> None:
        """Append rows; an OSError leaves the file as it was."""
        with open(self.path, "ab", buffering=0) as file:
            size = file.tell()
            content = self._text(rows, header=size == 0).encode()
            try:
                if file.write(content) != len(content):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
            except OSError:
                file.truncate(size)
                raise

    def _text(self, rows: Iterable[Row], header: bool) -> str:
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns, lineterminator="\n")
        if header:
            writer.writeheader()
        writer.writerows(rows)
        return text.getvalue()


class OutputFolder:
    """The folder of results of one set of settings. ``inputs.csv`` records which files they were
    made from.

    Attributes:
        notes: file -> what its results lack, in words.

    Args:
        path: is made; InputError where it cannot be, or holds results of other settings.
        settings: what the results depend on.
    """

    def __init__(
        self,
        path: Path,
        settings: dict[str, Any],
    ) -> None:
        self.path = path
        _open_folder(path, settings)
        self._record = ResultTable(path / "inputs.csv", INPUT_COLUMNS)
        self._stamps = {row["file"]: row["stamp"] for row in self._record.rows}
        self.notes = {row["file"]: row["note"] for row in self._record.rows}

    def finished(
        self,
        inputs: Sequence[Input],
        made: dict[str, Sequence[Path]],
        table: ResultTable | None,
    ) -> set[str]:
        """The files whose results are all there and were made from what they hold now.

        Args:
            made: file -> where its results lie.
            table: has rows of each finished file; it loses those of all others.
        """
        rows = None if table is None else {row["file"] for row in table.rows}
        found = {
            one.file
            for one in inputs
            if self._is_same(one)
            and (rows is None or one.file in rows)
            and all(path.is_file() for path in made[one.file])
        }
        if table is not None:
            table.keep(found)
        others = {row["file"] for row in self._record.rows} - {one.file for one in inputs}
        self._record.keep(found | others)
        return found

    def _is_same(self, one: Input) -> bool:
        try:
            return self._stamps.get(one.file) == one.stamp()
        except OSError:  # it cannot be read, as will be said
            return False

    def record(
        self,
        one: Input,
        stamp: str,
        note: str = "",
    ) -> None:
        """The results of an input are complete; ``stamp`` was taken before it was read."""
        self.notes[one.file] = note
        self._record.add([{"file": one.file, "stamp": stamp, "note": note}])


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Work as the only process that writes into a folder, without what killed ones left in it."""
    try:
        with locked(folder / LOCK, wait=False) as alone:
            if alone:
                _remove_leftovers(folder)
            try:
                yield
            finally:
                with suppress(OSError):  # Windows keeps a file that is open
                    (folder / LOCK).unlink()
    except BlockingIOError as error:
        raise InputError(
            f"another process writes into {str(folder)!r}; wait for its end, or give another "
            "--output."
        ) from error


def _remove_leftovers(folder: Path) -> None:
    for path in folder.rglob(".*"):
        if _LEFTOVER.fullmatch(path.name):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def _open_folder(folder: Path, settings: dict[str, Any]) -> None:
    file = folder / "settings.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if file.exists():
            _check_same(json.loads(file.read_text(encoding="utf-8")), settings, folder)
        with whole(file) as part:
            part.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
    except (json.JSONDecodeError, AttributeError, TypeError) as error:
        raise InputError(
            f"{file} is damaged; remove {folder}, or give another --output."
        ) from error
    except OSError as error:
        raise InputError(
            f"cannot write into the output {str(folder)!r}: {error.strerror}; give another "
            "--output."
        ) from error


def _check_same(
    old: dict[str, Any],
    new: dict[str, Any],
    folder: Path,
) -> None:
    cure = "give another --output, or the same settings to go on."
    if old.get("checkpoints") != new.get("checkpoints"):
        ours, theirs = (" and ".join(each.get(NAMES, [])) for each in (new, old))
        same = " as it was" if ours == theirs else ""
        raise InputError(
            f"{str(folder)!r} holds results of {theirs or 'another checkpoint'}{same}, not of "
            f"{ours}{' as it is' if same else ''}; {cure}"
        )
    for key in (old.keys() | new.keys()) - {NAMES}:
        if old.get(key) != new.get(key):
            raise InputError(
                f"{str(folder)!r} holds results made with {key} = {old.get(key)!r}, not "
                f"{new.get(key)!r}; {cure}"
            )
