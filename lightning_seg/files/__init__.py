"""Files that are written whole or not at all."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lightning_seg.errors import InputError


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A name beside ``path`` to write under: the file takes its own name at the end, and is removed where the block fails.

    The name is new each time, so that several processes may write one file: the last one stands.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name[:80]}-{secrets.token_hex(4)}.part")
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
