"""The third phase of a GPU session: training, steps, inference and memory against the peers, in their quick forms."""

import time
from collections.abc import Callable, Generator
from contextlib import closing
from typing import TYPE_CHECKING, Any

from benchmarks._gpu_networks import free_memory
from benchmarks._record import Record

if TYPE_CHECKING:
    from benchmarks.gpu_session import Session

Rows = Generator[dict[str, Any]]

# of the phase's time; what one leaves, the next has
PART_SHARES = {"memory": 0.15, "latency": 0.2, "step": 0.2, "training": 0.45}


def peers(session: "Session", record: Record, deadline: float) -> bool:
    """A row as soon as it is measured; a benchmark that fails or that the time cuts short has a row that says so."""
    start, used, whole = time.monotonic(), 0.0, True
    for name, rows in _parts(session, record).items():
        used += PART_SHARES[name]
        whole &= _measure(name, rows, record, start + used * (deadline - start))
        free_memory()
    return whole


def _measure(name: str, rows: Callable[[float], Rows], record: Record, deadline: float) -> bool:
    """False where the time did not suffice."""
    try:
        _check(deadline)
        with closing(rows(deadline)) as found:
            for row in found:
                record.add(benchmark=name, **row)
        _check(deadline)  # turns of the last one may be missing
    except TimeoutError as error:
        record.add(benchmark=name, cut=str(error))
        return False
    except Exception as error:
        record.add(benchmark=name, error=f"{type(error).__name__}: {str(error)[-500:]}")
    return True


def _check(deadline: float) -> None:
    if time.monotonic() > deadline:
        raise TimeoutError("the time was over")


def _in_time(rows: Rows, deadline: float) -> Rows:
    """For what does not look at the clock itself."""
    for row in rows:
        yield row
        _check(deadline)


def _parts(session: "Session", record: Record) -> dict[str, Callable[[float], Rows]]:
    """What is cheap first; then those which wait for processes of their own."""
    from benchmarks import latency, memory, step, training
    from benchmarks._peers import PAIRS
    from benchmarks._timing import matrix_rates

    device, smoke = session.device, session.smoke
    telling = PAIRS[::-1]  # first that which both loops train; the last ones may find no time
    record.update(matrix_product_flops=matrix_rates(device, smoke))
    return {
        "memory": lambda until: _in_time(memory.measure(device, smoke), until),
        "latency": lambda until: _in_time(latency.measure(device, smoke, quick=True), until),
        "step": lambda until: step.measure(device, smoke, (telling[0], telling[-1]), 1.0, until),
        "training": lambda until: training.measure(device, smoke, True, telling, until),
    }
