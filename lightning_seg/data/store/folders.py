"""Folders of a cache: their names, and their building.

A name begins with a data set and a size, then a digest of its settings and a list of ids. It ends
with a digest of all else that the pixels depend on: the state of every file (``file_state``; a hash
of the content would read the files, which the cache is there to avoid), the code that reads and
resizes, the versions of the decoders. When one of them changes, so does the name, and folders of
the old name are removed. A folder appears by renaming, complete or not at all.
"""

import contextlib
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

from lightning_seg.data import reading
from lightning_seg.data.store.sized import resize_sample
from lightning_seg.errors import InputError
from lightning_seg.files.leftovers import part_folder
from lightning_seg.files.locks import locked
from lightning_seg.files.states import file_state

Kept = TypeVar("Kept")
_DECODERS = ("pillow", "opencv-python-headless", "numpy")
_READING = Path(reading.__file__).parent


def default_folder() -> Path:
    """``$XDG_CACHE_HOME/lightning_seg``, or in ``~/.cache``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "lightning_seg"


def store_names(
    source: Any,
    ids: Sequence[str],
    scale: str,
    settings: Mapping[str, Any],
) -> tuple[str, str]:
    """What is cached, and in which state: two parts of the folder's name.

    Args:
        scale: what becomes of the size of the samples.
    """
    files = _files(source, ids)
    what = [type(source).__name__, settings, scale, list(ids), files]
    state = [_states(files), _roles(source, ids), *_readers(source)]
    return f"{name_start(source, scale)}{_state_digest(what)}", _state_digest(state)


def name_start(source: Any, scale: str) -> str:
    """The start of the names of all folders of a kind of data set at one scale."""
    return f"{type(source).__name__}-{scale}-"


def data_state(source: Any, scale: str, settings: Mapping[str, Any]) -> str:
    """A digest of all that any sample of a data set depends on, of whichever list it is.

    It covers the files of all samples, as a source may hold one of them against the others: a
    folder's masks must be marked alike.
    """
    files = _files(source, source.ids)
    told = [type(source).__name__, settings, scale, source.ids, source.classes, files]
    return _state_digest([*told, _states(files), _roles(source, source.ids), *_readers(source)])


def _files(source: Any, ids: Sequence[str]) -> list[Path]:
    return [path.absolute() for id in ids for path in source.files(id)]


def _states(files: Sequence[Path]) -> list[tuple[int, int, int]]:
    return [file_state(path) for path in files if path.exists()]  # read() names what is missing


def _roles(source: Any, ids: Sequence[str]) -> list[Any]:
    """What each file shows, where a source is told so (``roles``)."""
    return [source.roles(id) for id in ids] if hasattr(source, "roles") else []


def _readers(source: Any) -> tuple[list[str], list[str]]:
    """The code that reads and resizes, and the versions of the decoders."""
    code = [file.read_text(encoding="utf-8") for file in _code_files(type(source))]
    return code, [_installed_version(name) for name in _DECODERS]


def _code_files(kind: type[Any]) -> list[Path]:
    """The files that say how a data set's samples are read and resized."""
    modules = [sys.modules[part.__module__] for part in (*kind.__mro__, resize_sample)]
    # the built-in `object` has no file
    homes = dict.fromkeys(getattr(module, "__file__", None) for module in modules)
    return [*(Path(home) for home in homes if home), *sorted(_READING.glob("*.py"))]


def _installed_version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # another build of the same library, as opencv-python
        return ""


def _state_digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[
        :12
    ]


def kept_on_disk(
    parent: Path,
    what: str,
    state: str,
    find: Callable[[Path], Kept | None],
    build: Callable[[Path], None],
) -> Kept:
    """The store in the folder ``what-state``, which one process builds where it is not found.

    Args:
        find: the store in a folder; None where there is none, or a damaged one.
        build: write it into an empty folder.

    Errors: InputError where the folder cannot be written.
    """
    folder = parent / f"{what}-{state}"
    found = find(folder)
    if found is not None:
        return found
    try:
        with lock(parent, what) as alone:
            if (found := find(folder)) is None:  # else another process was faster
                if alone:
                    # of another state, damaged, or left by a process that was killed
                    for old in [*parent.glob(f"{what}-*"), *parent.glob(f".{what}-*")]:
                        shutil.rmtree(old)
                _build_folder(folder, build)
                found = find(folder)
                if found is None:
                    raise OSError(f"{folder} is damaged and cannot be replaced")
    except OSError as error:
        raise InputError(
            f"cannot keep {what} in the cache {parent} ({error.strerror or error}); give data.cache a folder that can be "
            "written and has room, or make data.size smaller."
        ) from error
    return found


@contextlib.contextmanager
def lock(parent: Path, what: str) -> Iterator[bool]:
    """Wait until no other process builds the same; False where the folder allows no lock."""
    with contextlib.suppress(OSError):  # a read-only folder
        parent.mkdir(parents=True, exist_ok=True)
    # without locks renaming alone keeps the cache whole
    with locked(parent / f".{what}.lock") as alone:
        yield alone


def _build_folder(
    folder: Path,
    build: Callable[[Path], None],
) -> None:
    """Write a folder that appears complete or not at all."""
    with part_folder(folder) as scratch:
        content = scratch / "content"
        content.mkdir()
        build(content)
        try:
            content.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
