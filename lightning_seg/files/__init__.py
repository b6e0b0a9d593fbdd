"""Files that are written whole or not at all, and where they lie."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lightning_seg.errors import InputError
from lightning_seg.files.leftovers import part_name

_MAY_PASS = (errno.ENOSPC, errno.EDQUOT, errno.EINTR)  # a later attempt may find room


class UnwritableError(OSError, InputError):
    """A file that cannot be written: bad input to a command, an OSError to what can do without
    it, made as one (number, reason, path)."""

    def __str__(self) -> str:
        return (
            f"{self.filename} cannot be written ({self.strerror}); "
            "give another place, or free space and permissions there."
        )


def real_path(path: str | Path) -> Path:
    """The absolute path without links; ``~`` is the user's home.

    It stays as it is from a link that leads to itself on, and so does the home of an unknown user,
    for which `Path.resolve` and `Path.expanduser` raise RuntimeError.

    Raises:
        InputError: it holds a null character.
    """
    try:
        return Path(os.path.realpath(os.path.expanduser(path)))
    except ValueError as error:
        raise InputError(f"{str(path)[:200]!r} is no path ({error}); give another.") from error


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A name beside ``path`` to write under: the file takes its own name at the end, and is removed where the block fails.

    The name is new each time, so that several processes may write one file: the last one stands.

    Raises:
        UnwritableError: the place is none for a file, such as below another file, or a folder's own.
    """
    with _place_of(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    part = part_name(path)
    try:
        yield part
        with _place_of(path):
            os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


@contextmanager
def _place_of(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _MAY_PASS:
            raise
        raise UnwritableError(error.errno, error.strerror, str(path)) from error


def write_whole(path: Path, content: bytes) -> None:
    """Write the file whole; InputError, and no file, where that fails."""
    try:
        with whole(path) as part:
            part.write_bytes(content)
    except OSError as error:
        raise UnwritableError(error.errno, error.strerror, str(path)) from error
