"""Files that are written whole or not at all, and one sentence where they cannot be."""

import os
import tempfile
from pathlib import Path

from lightning_seg.errors import InputError


def write_whole(path: Path, content: bytes) -> None:
    """Write the file under another name beside it, then rename it; InputError, and no file, where that fails."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, part = tempfile.mkstemp(suffix=".part", prefix=f".{path.name[:80]}", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            os.chmod(part, 0o644)
            os.replace(part, path)
        except BaseException:
            Path(part).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise InputError(
            f"{path} cannot be written ({error.strerror}); give another place, or free space and permissions there."
        ) from error
