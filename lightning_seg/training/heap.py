"""Memory of a training step that stays with the process from one step to the next."""

import ctypes
import sys

# glibc's names of settings for `mallopt`
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
_LARGEST = 2**31 - 1


def keep_freed_memory() -> bool:
    """Let the C library keep what is freed; whether it could be told so.

    Of blocks above 32 MB glibc asks the kernel for fresh pages each time, which have to be zeroed
    and mapped before the first write. A training step on the CPU frees and asks for the same
    blocks over and over, and spends a third of its time so where maps are large. The price is
    that the process keeps the memory of its largest step until it ends.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_MMAP_MAX, 0)) and bool(mallopt(_TRIM_THRESHOLD, _LARGEST))
