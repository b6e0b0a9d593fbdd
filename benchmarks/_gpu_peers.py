"""The third phase of a GPU session: training, steps, inference and memory against the peers, in their quick forms."""

import time
from collections.abc import Callable, Generator
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks._gpu_networks import free_memory
from benchmarks._record import Record

if TYPE_CHECKING:
    from benchmarks.gpu_session import Session

Rows = Generator[dict[str, Any]]


SHARES = {
    "memory": 0.15,
    "latency": 0.2,
    "step": 0.2,
    "training": 0.45,
}  # of the phase's time; what one leaves, the next has


def peers(session: "Session", record: Record, deadline: float) -> bool:
    """A row as soon as it is measured, until the time is over; a benchmark that fails is a row, and the next one has its turn."""
    start, used = time.monotonic(), 0.0
    for name, rows in _parts(session, record).items():
        used += SHARES[name]
        _measure(name, rows, record, start + used * (deadline - start))
        free_memory()
        if time.monotonic() > deadline:
            return False
    return True


def _measure(name: str, rows: Callable[[], Rows], record: Record, deadline: float) -> None:
    try:
        with closing(rows()) as found:
            for row in found:
                record.add(benchmark=name, **row)
                if time.monotonic() > deadline:
                    return
    except Exception as error:
        record.add(benchmark=name, error=f"{type(error).__name__}: {str(error)[-500:]}")


def _parts(session: "Session", record: Record) -> dict[str, Callable[[], Rows]]:
    """What is cheap first; then those which wait for processes of their own."""
    from benchmarks import latency, memory, step, training
    from benchmarks._timing import matrix_rates

    device, smoke = session.device, session.smoke
    record.update(matrix_product_flops=matrix_rates(device, smoke))
    return {
        "memory": partial(memory.measure, device, smoke),
        "latency": partial(latency.measure, device, smoke, quick=True),
        "step": partial(step.measure, device, smoke, seconds=1.0),
        "training": partial(training.measure, device, smoke, quick=True),
    }
