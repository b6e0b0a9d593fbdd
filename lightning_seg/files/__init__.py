"""Files that are written whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lightning_seg.errors import InputError
from lightning_seg.files.leftovers import part_name


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A name beside ``path`` to write under: the file takes its own name at the end, and is removed where the block fails.

    The name is new each time, so that several processes may write one file: the last one stands.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = part_name(path)
    try:
        yield part
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def write_whole(path: Path, content: bytes) -> None:
    """Write the file whole; InputError, and no file, where that fails."""
    try:
        with whole(path) as part:
            part.write_bytes(content)
    except OSError as error:
        raise InputError(
            f"{path} cannot be written ({error.strerror}); give another place, or free space and permissions there."
        ) from error
