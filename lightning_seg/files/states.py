"""The state of a file, which tells whether what was made of it is still true."""

import os
from pathlib import Path


def file_state(path: Path) -> tuple[int, int, int]:
    """Size in bytes, and the times of change of the content and of the file's entry, in ns.

    Who replaces a file may keep its size and give it any time of change of the content, as ``cp
    -p``, ``rsync -t`` and archives do; the time of its entry is the system's alone.
    """
    found = path.stat()
    # of other systems it is the time of creation, or changes with each look
    entry = found.st_ctime_ns if os.name == "posix" else 0
    return found.st_size, found.st_mtime_ns, entry
