"""``lightning-seg data cache``: what the cache in the home folder takes, and its removal."""

import contextlib
import shutil
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import NamedTuple

from lightning_seg.data.store.folders import default_folder
from lightning_seg.errors import InputError
from lightning_seg.tables import Table

_BUILDING = 3600  # seconds without a change after which a half-built folder is left behind
_GIB = 2**30


class CacheEntry(NamedTuple):
    """One store of samples, or one kind of kept findings: its size in bytes, and when it was last
    written, in seconds since 1970."""

    path: Path
    size: int
    changed: float


def cache_entries() -> list[CacheEntry]:
    """All that lies in the cache, the largest first."""
    folder = default_folder()
    found = folder.iterdir() if folder.is_dir() else ()
    entries = [_entry(path) for path in found if not path.name.endswith(".lock")]
    return sorted(entries, key=lambda entry: -entry.size)


def _entry(path: Path) -> CacheEntry:
    size, changed = 0, 0.0
    for file in (path, *path.rglob("*")):
        with contextlib.suppress(OSError):  # removed meanwhile
            facts = file.stat()
            size += 0 if file.is_dir() else facts.st_size
            changed = max(changed, facts.st_mtime)
    return CacheEntry(path, size, changed)


def show_cache() -> None:
    """Print what the cache holds beside the free space of its disk."""
    entries = cache_entries()
    rows = [
        (entry.path.name, size_text(entry.size), date.fromtimestamp(entry.changed).isoformat())
        for entry in entries
    ]
    if rows:
        Table(("what", "size", "written"), rows, left=("what",)).show()
    total = size_text(sum(entry.size for entry in entries))
    print(f"{default_folder()}: {total} in {len(entries)} entries; {free_text(default_folder())}")
    if rows:
        print("`lightning-seg data cache --clear` removes all of it; the next run builds it again.")


def clear_cache() -> None:
    """Remove all that the cache holds, but what is being built."""
    cleared = kept = 0
    for entry in cache_entries():
        if _is_being_built(entry):
            kept += 1
            continue
        try:
            shutil.rmtree(entry.path) if entry.path.is_dir() else entry.path.unlink()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise InputError(
                f"{entry.path} cannot be removed ({error.strerror}); remove it by hand."
            ) from error
        cleared += entry.size
    left = f"; {kept} left, which are being built" if kept else ""
    print(f"{default_folder()}: {size_text(cleared)} removed{left}; {free_text(default_folder())}")


def _is_being_built(entry: CacheEntry) -> bool:
    return entry.path.name.startswith(".") and time.time() - entry.changed < _BUILDING


def size_text(size: float) -> str:
    """``7.7 GiB``, ``12 MiB``."""
    return f"{size / _GIB:.1f} GiB" if size >= 0.1 * _GIB else f"{size / 2**20:.1f} MiB"


def free_text(folder: Path) -> str:
    """The space that is free where a folder is, or would be."""
    return f"{size_text(shutil.disk_usage(existing_folder(folder)).free)} are free there"


def existing_folder(folder: Path) -> Path:
    """The folder itself, or where it would be made."""
    return next(place for place in _upwards(folder) if place.exists())


def _upwards(folder: Path) -> Iterator[Path]:
    yield folder.absolute()
    yield from folder.absolute().parents
