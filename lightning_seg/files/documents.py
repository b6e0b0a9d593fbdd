"""YAML and JSON of files, whoever wrote them: bounded in size, depth and aliases."""

import json
import stat
from pathlib import Path
from typing import Any

import yaml

from lightning_seg.errors import InputError

MOST_BYTES = 16_000_000
MOST_DEPTH = 64
MOST_PARTS = 500_000  # with what aliases stand for, counted each time
_BROKEN = (yaml.YAMLError, ValueError, OverflowError, RecursionError, TypeError)


class _PlainLoader(yaml.SafeLoader):
    """Plain data, as long as they are no larger than they look."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth, self._parts = 0, 0
        self._sizes: dict[int, int] = {}

    def compose_node(self, parent: Any, index: Any) -> Any:
        alias = self.check_event(yaml.AliasEvent)
        before, self._depth = self._parts, self._depth + 1
        if self._depth > MOST_DEPTH:
            raise yaml.YAMLError(f"more than {MOST_DEPTH} levels stand within each other")
        node: Any = super().compose_node(parent, index)
        if alias and id(node) not in self._sizes:
            raise yaml.YAMLError("an alias stands within what it stands for")
        self._parts += self._sizes[id(node)] if alias else 1
        if self._parts > MOST_PARTS:
            raise yaml.YAMLError(f"it stands for more than {MOST_PARTS:,} values")
        if not alias:
            self._sizes[id(node)] = self._parts - before
        self._depth -= 1
        return node


def parse_yaml(text: str, name: object) -> Any:
    """The data that a text in YAML holds.

    Args:
        name: whom the error names.

    Errors: InputError for what is no YAML, or unfolds into more than it should.
    """
    try:
        return yaml.load(text, _PlainLoader)  # derived from SafeLoader: no objects, no code
    except _BROKEN as error:
        raise InputError(f"{name} is not YAML: {' '.join(str(error).split())[:300]}") from error


def read_yaml(path: str | Path) -> Any:
    """The data that a YAML file holds; InputError where it cannot be read, or is too large."""
    return parse_yaml(read_text(Path(path)), path)


def read_json(path: str | Path) -> dict[str, Any]:
    """The object that a JSON file holds; InputError where it holds none."""
    try:
        found = json.loads(read_text(Path(path)))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON: {' '.join(str(error).split())[:300]}") from error
    if not isinstance(found, dict):
        raise InputError(f"{path} holds no object of JSON; restore the file.")
    return found


def read_text(path: Path) -> str:
    """The text of a file in UTF-8; InputError where it is none, or far too long."""
    try:
        check_readable(path)
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise InputError(
                f"{path} holds over {MOST_BYTES:,} bytes, more than settings ever take; give the "
                "right file."
            )
        return content.decode("utf-8").replace("\r\n", "\n").replace("\r", "\n")
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}).") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is no text in UTF-8; write it again as such.") from error


def check_readable(path: Path) -> None:
    """InputError for what is no file: a named pipe, at which a reader would wait for ever, a device,
    a folder, a link that leads to itself.

    The pipes of a shell, such as ``<(...)``, lie below ``/dev/fd``.
    """
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}).") from error
    if not stat.S_ISREG(mode) and not str(path).startswith(("/dev/fd/", "/proc/self/fd/")):
        kind = "a folder" if stat.S_ISDIR(mode) else "a pipe or a device"
        raise InputError(f"{path} is {kind} and no file; give a file.")
