"""Locks between processes, which the system takes from one that is killed."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LOOKS = 0.01  # seconds between two


@contextmanager
def locked(file: Path, wait: bool = True, needed: bool = False) -> Iterator[bool]:
    """Hold the lock of a file, which is made where it is not there and stays; its folder must be.

    True within, or False where the file system has no locks or the file cannot be written.

    Args:
        wait: until no other process holds it.
        needed: nothing is done without a lock.

    Raises:
        BlockingIOError: another process holds it, and there is no waiting.
        OSError: there is no lock, and it is needed.
    """
    # 0.1 s that `--help` and single runs need not spend
    from filelock import FileLock, Timeout

    lock = FileLock(file, thread_local=False)
    try:
        lock.acquire(timeout=-1 if wait else 0, poll_interval=_LOOKS)
    except Timeout as error:
        raise BlockingIOError(f"{file} is locked by another process") from error
    except (OSError, NotImplementedError):
        if needed:
            raise
        yield False
        return
    try:
        yield True
    finally:
        lock.release()
