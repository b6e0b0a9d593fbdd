"""Steps of a longer command, such as the trainings of `cv`: each in a process of its own,
``python -m lightning_seg.files.steps fit ...``, which ends with the process that started it.

However that one ends, their pipe, the standard input of the step, closes then. The step ends as
SIGTERM does, so that the last epoch is kept.
"""

import os
import runpy
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence

_STEP = "LIGHTNING_SEG_STEP"  # set for the process of a step
_GRACE = 60.0  # seconds for ending in order


def run_step(
    args: Sequence[str],
    module: str = "lightning_seg.files.steps",
    environment: Mapping[str, str] | None = None,
    seconds: float | None = None,
) -> int:
    """Run ``python -m module args`` and return its exit status; what ends this process, or the
    waiting, ends it first.

    Args:
        module: one that calls `begin_step`.
        environment: what its variables have beside those of this process.
        seconds: how long it may take; None: as long as it will.
    """
    command = [sys.executable, "-m", module, *args]
    variables = os.environ | (environment or {})
    process = subprocess.Popen(command, env=variables, stdin=subprocess.PIPE)
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return _terminate(process)
    except BaseException:
        _terminate(process)
        raise


def _terminate(process: "subprocess.Popen[bytes]") -> int:
    """End it as SIGTERM does, so that its last epoch is kept; by force after a minute."""
    process.terminate()
    try:
        return process.wait(_GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def begin_step() -> None:
    """Make this process a step: it ends once its standard input closes."""
    os.environ[_STEP] = "1"
    threading.Thread(target=_wait_for_end, daemon=True).start()


def is_step() -> bool:
    """Tell whether this process is a step: another command says then how to go on."""
    return _STEP in os.environ


def _wait_for_end() -> None:
    while os.read(0, 1024):  # not sys.stdin, whose lock would be held at the end of the process
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GRACE)
    os._exit(128 + signal.SIGTERM)


if __name__ == "__main__":
    begin_step()
    runpy.run_module("lightning_seg", run_name="__main__", alter_sys=True)
