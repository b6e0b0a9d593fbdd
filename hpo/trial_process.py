"""One trial in a process of its own, which ends with its worker whatever happens to either."""

import errno
import importlib
import math
import os
import signal
import sys
import threading
import time
import traceback
from multiprocessing.connection import Connection
from pathlib import Path

from hpo.trial_messages import TrainingError, TrialChannel, TrialJob, TrialResult
from lightning_seg.errors import InputError, PortTakenError
from lightning_seg.files.locks import locked

LOCK = "trial.lock"  # of a trial's folder, while it is trained


def main(job: TrialJob, connection: Connection, lifeline: Connection) -> None:
    """The body of the process: run the job, log to its folder, send the result."""
    os.setsid()  # one group with all its own processes, so that they end together
    threading.Thread(target=_end_with, args=(lifeline,), daemon=True).start()
    folder = Path(job.folder)
    folder.mkdir(parents=True, exist_ok=True)
    log = os.open(folder / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        os.dup2(log, stream.fileno())
        stream.reconfigure(line_buffering=True)  # type: ignore[attr-defined, union-attr]
    channel = TrialChannel(connection)
    # another study that was copied from this one may train the same trial
    with locked(folder / LOCK):
        result = TrialResult.read(folder) or _told(job, channel)
    channel.done(result)


def _told(job: TrialJob, channel: TrialChannel) -> TrialResult:
    """The result of the job, which is kept in its folder."""
    result = _guarded(job, channel)
    sys.stdout.flush()  # once the result is told, this process may be ended at any time
    if not all(map(math.isfinite, result.values)):
        result = TrialResult(
            "failed", reason=f"the objective is not a number ({result.values})", facts=result.facts
        )
    if result.state != "failed":
        result.write(job.folder)
        _thin(job, result)
    return result


def _thin(job: TrialJob, result: TrialResult) -> None:
    if not job.function:  # which needs no torch
        from hpo.thinning import thin_trial

        thin_trial(job, result.state)


def _end_with(lifeline: Connection) -> None:
    """Wait for the worker's end of the pipe to close, then end this process and its own ones at
    once."""
    try:
        lifeline.recv_bytes()
    except EOFError:
        os.killpg(0, signal.SIGKILL)


def _guarded(job: TrialJob, channel: TrialChannel) -> TrialResult:
    start = time.monotonic()
    try:
        return _function(job, channel, start) if job.function else _training(job, channel)
    except (InputError, TrainingError) as error:
        return TrialResult("failed", reason=str(error), again=isinstance(error, PortTakenError))
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        return TrialResult("failed", reason=f"{type(error).__name__}: {error}", again=full)
    except MemoryError:
        return TrialResult("failed", reason="out of memory")
    except SystemExit as error:
        return TrialResult("failed", reason=f"it ended itself with code {error.code}", again=True)
    except Exception as error:
        traceback.print_exc()
        return _crash(error)


def _crash(error: Exception) -> TrialResult:
    first = (str(error).strip() or "no message").splitlines()[0]
    if type(error).__name__ == "OutOfMemoryError" or "out of memory" in str(error):
        return TrialResult("failed", reason=f"out of memory ({first})")
    return TrialResult("failed", reason=f"{type(error).__name__}: {first}")


def _training(job: TrialJob, channel: TrialChannel) -> TrialResult:
    from lightning_seg.cli.light_imports import lean_lightning

    lean_lightning()
    from hpo.training import train  # torch and Lightning, which the worker itself does without

    return train(job, channel)


def _function(job: TrialJob, channel: TrialChannel, start: float) -> TrialResult:
    module, _, name = str(job.function).partition(":")
    stopped = False

    def report(step: int, value: float) -> bool:
        nonlocal stopped
        stopped = channel.report(step, value)
        return stopped

    value = getattr(importlib.import_module(module), name)(job.params, report)
    values = list(value) if isinstance(value, list | tuple) else [float(value)]
    facts = {"seconds": round(time.monotonic() - start, 3)}
    return (
        TrialResult("pruned", facts=facts)
        if stopped
        else TrialResult("complete", values, facts=facts)
    )
