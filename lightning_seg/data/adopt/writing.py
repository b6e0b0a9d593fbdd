"""The table and the recipe as text, and files that are written again after a kill."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import wrap
from typing import Any

import yaml

from lightning_seg.data.adopt.finding import AdoptedRow, FolderFinding
from lightning_seg.data.adopt.plan import PlannedChoice
from lightning_seg.data.sources.base.tables import OF_CLASS, SEPARATOR
from lightning_seg.errors import InputError
from lightning_seg.files import write_whole

_WIDTH = 96


def table_text(finding: FolderFinding, folder: Path) -> str:
    """The table as CSV; paths are relative to ``folder`` where files lie below it."""
    division, ids = finding.division, list(finding.rows)
    some = next(iter(finding.rows.values()))
    own = [name for name in some.masks if name]
    masks = [f"{OF_CLASS}{name}" for name in own] or ["mask"]
    region = ["region"] if some.region is not None else []
    further = list(division.columns)
    text = io.StringIO()
    if division.leaks:
        text.write("# leaks: yes\n")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["id", "image", *masks, *region, "group", "split", *further])
    for id in ids:
        row = finding.rows[id]
        view = [] if row.region is None else [_place(row.region, folder)]
        known = [division.groups[id], division.splits[id]]
        more = [division.columns[name].get(id, "") for name in further]
        writer.writerow([id, _place(row.image, folder), *_cells(row, folder), *view, *known, *more])
    return text.getvalue()


def _cells(row: AdoptedRow, folder: Path) -> list[str]:
    return [SEPARATOR.join(_place(path, folder) for path in files) for files in row.masks.values()]


def _place(path: Path, folder: Path) -> str:
    absolute = path.absolute()
    if absolute.is_relative_to(folder.absolute()):
        return absolute.relative_to(folder.absolute()).as_posix()
    return absolute.as_posix()


def recipe_text(choices: Sequence[PlannedChoice], head: Sequence[str]) -> str:
    """The recipe as YAML, each choice below its reason."""
    lines = [f"# {line}" for text in head for line in wrap(text, _WIDTH)]
    section = ""
    for choice in choices:
        if choice.section != section:
            section = choice.section
            lines.append(f"{section}:")
        margin = "  " if section else ""
        lines += [f"{margin}# {line}" for line in wrap(choice.reason, _WIDTH)]
        lines += [f"{margin}{line}" for line in _entry(choice)]
    return "\n".join(lines) + "\n"


def _entry(choice: PlannedChoice) -> list[str]:
    value = choice.value
    if isinstance(value, list) and value and isinstance(value[0], Mapping):
        return [f"{choice.key}:", *(f"  - {_flow(step)}" for step in value)]
    if isinstance(value, Mapping) and len(_flow(value)) > _WIDTH:
        return [f"{choice.key}:", *(f"  {key}: {_flow(part)}" for key, part in value.items())]
    return [f"{choice.key}: {_flow(value)}"]


def _flow(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10**6)
    return text.removesuffix("...\n").strip()


def kept(path: Path) -> InputError:
    """The error about a file that an adoption would replace."""
    return InputError(f"{path} exists and is kept; remove it, or give another --output.")


def write_again(path: Path, content: bytes) -> None:
    """Write the file, unless one that was killed has; InputError where it holds something else."""
    if not path.exists():
        write_whole(path, content)
    elif not path.is_file() or path.read_bytes() != content:
        raise kept(path)


def quoted_command(path: Path) -> str:
    """A path as the shell takes it."""
    text = str(path)
    return (
        text
        if text.replace("_", "").replace("/", "").replace(".", "").isalnum()
        else json.dumps(text)
    )
