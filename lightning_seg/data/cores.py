"""The cores that one process may use: its part, where several processes share a machine."""

import os

PART = "LIGHTNING_SEG_CORES"  # set by whoever starts several processes: the cores of each


def usable_cores() -> int:
    """Those that the operating system grants this process, or its part of them."""
    given = os.environ.get(PART, "")
    if given.isdecimal() and int(given) > 0:
        return int(given)
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def cores_of_each(processes: int) -> int:
    """The part of each of so many processes, at least one."""
    return max(1, usable_cores() // processes)
