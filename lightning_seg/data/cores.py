"""The cores that one process may use: its part, where several processes share a machine."""

import math
import os
from contextlib import suppress
from pathlib import Path

_CONTROL = Path("/sys/fs/cgroup")  # where Linux says what a container may use
PART = "LIGHTNING_SEG_CORES"  # set by whoever starts several processes: the cores of each


def usable_cores() -> int:
    """Those that the operating system grants this process, or its part of them."""
    given = os.environ.get(PART, "")
    if given.isdecimal() and int(given) > 0:
        return int(given)
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, math.ceil(min(cores, container_cores())))


def container_cores() -> float:
    """The processor time that a container may use, in cores; infinite where nothing limits it.

    ``docker --cpus 2`` is such a limit, which no affinity shows.
    """
    with suppress(OSError, ValueError):
        quota, period = (_CONTROL / "cpu.max").read_text(encoding="utf-8").split()
        return math.inf if quota == "max" else int(quota) / int(period)
    with suppress(OSError, ValueError):  # of Linux before 2020
        names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        places = [_CONTROL / "cpu" / name for name in names]
        allowed, each = (int(place.read_text(encoding="utf-8")) for place in places)
        return allowed / each if allowed > 0 else math.inf
    return math.inf


def cores_of_each(processes: int) -> int:
    """The part of each of so many processes, at least one."""
    return max(1, usable_cores() // processes)
