"""Names under which things are written until they are whole, and what dead processes left of them.

A name holds the machine and process of its writer: ``.masks.csv-3f2a91-4711-8812345-9c0d.part``.
"""

import hashlib
import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_NAME = re.compile(r"\..*-(?P<host>[0-9a-f]{6})-(?P<pid>\d+)-(?P<start>\d+)-[0-9a-f]{4}\.part")
_NAME_OF_BEFORE = re.compile(r"\..*-[0-9a-f]{8}\.part")  # says nothing of its writer
_OLD = 7 * 86_400  # seconds after which a file that says nothing has no writer any more
_BYTES = 100  # of the own name that a part keeps
_tidied: set[Path] = set()


def part_name(path: Path) -> Path:
    """A new name beside ``path`` to write under; leftovers of dead processes there are removed."""
    remove_leftovers(path.parent)
    start = os.fsdecode(os.fsencode(path.name)[:_BYTES])
    writer = f"{_host()}-{os.getpid()}-{_started(os.getpid())}"
    return path.with_name(f".{start}-{writer}-{secrets.token_hex(2)}.part")


@contextmanager
def part_folder(path: Path) -> Iterator[Path]:
    """A new folder beside ``path``, which is removed at the end, with all that is left in it."""
    folder = part_name(path)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_leftovers(folder: Path) -> None:
    """Remove what dead processes of this machine left in a folder; each process looks once."""
    place = folder.absolute()
    if place in _tidied:
        return
    _tidied.add(place)
    try:
        found = [each for each in os.scandir(place) if each.name.endswith(".part")]
    except OSError:  # it is not there yet
        return
    for each in found:
        if _is_left(each):
            if each.is_dir(follow_symlinks=False):
                shutil.rmtree(each.path, ignore_errors=True)
            else:
                Path(each.path).unlink(missing_ok=True)


def _is_left(entry: "os.DirEntry[str]") -> bool:
    named = _NAME.fullmatch(entry.name)
    if named is None:
        silent = _NAME_OF_BEFORE.fullmatch(entry.name) is not None
        return silent and time.time() - entry.stat(follow_symlinks=False).st_mtime > _OLD
    alive = _started(int(named["pid"])) == int(named["start"])
    return named["host"] == _host() and not alive


def _host() -> str:
    """The machine, or the container: numbers of processes are known within it."""
    try:
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        space = ""
    return hashlib.sha256(f"{socket.gethostname()} {space}".encode()).hexdigest()[:6]


def _started(process: int) -> int:
    """The time when a process began, in ticks since the machine did; 0 for one that is not there.

    Numbers of processes come again, after a restart of the machine within minutes.
    """
    try:
        text = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
        return int(text.rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return 1 if _answers(process) else 0


def _answers(process: int) -> bool:
    """Tell whether there is such a process, on systems without /proc."""
    try:
        os.kill(process, 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return True
