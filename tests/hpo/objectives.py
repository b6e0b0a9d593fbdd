"""Stand-ins for a training, named in a spec as ``objectives:nap``; each leaves a line per start and end in $HPO_RECORD."""

import os
import time
from pathlib import Path


def record(text):
    with open(os.environ["HPO_RECORD"], "a") as file:
        file.write(f"{text} {os.getpid()}\n")


def nap(params, report):
    """Sleep $HPO_NAP seconds over five steps; best at x = 0.3."""
    key = repr(params)
    record(f"start {key}")
    value = -((params.get("x", 0.0) - 0.3) ** 2)
    for step in range(5):
        time.sleep(float(os.environ.get("HPO_NAP", "0.2")) / 5)
        if report(step, value * (5 - step)):
            return value
    record(f"end {key}")
    return value


def pair(params, report):
    report(0, params["x"])
    return params["x"], params["x"] ** 2


def nan(params, report):
    return float("nan")


def out_of_memory(params, report):
    raise RuntimeError("CUDA out of memory. Tried to allocate 20 GiB")


def broken(params, report):
    if not (Path(os.environ["HPO_RECORD"]).parent / "mended").exists():
        raise ValueError("not mended yet")
    return params["x"]


def crash(params, report):
    record("start")
    os.kill(os.getpid(), 11)
