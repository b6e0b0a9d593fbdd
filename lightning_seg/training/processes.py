"""The processes of a run on several devices: they end together, and the first failure is told."""

import atexit
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn

import torch
import torch.distributed as dist
from lightning.fabric.utilities.distributed import _set_num_threads_if_needed
from lightning.pytorch.strategies import DDPStrategy, StrategyRegistry
from lightning.pytorch.strategies.launchers.subprocess_script import _SubprocessScriptLauncher

from lightning_seg.data.cores import PART, cores_of_each
from lightning_seg.errors import PortTakenError

# how long one process waits for another; rank 0 may be writing scores of large images meanwhile
PATIENCE = timedelta(minutes=10)
_PARENT = (
    "LIGHTNING_SEG_PARENT"  # set for the further processes: that of rank 0, which started them
)
_WORD = "LIGHTNING_SEG_WORD"  # a file: the process that removes it tells why the run failed
_PERIOD = 0.2  # seconds between two looks
_GRACE = 5.0  # seconds in which another process may turn out to be the one that failed first


class JointStrategy(DDPStrategy):
    """DDP whose processes wait for each other for minutes only, and end with the first failure."""

    def __init__(self, timeout: timedelta = PATIENCE, **kwargs: Any) -> None:
        super().__init__(timeout=timeout, **kwargs)

    def setup_distributed(self) -> None:
        try:
            super().setup_distributed()
        except dist.DistNetworkError as error:
            if "EADDRINUSE" not in str(error):
                raise
            environment = self.cluster_environment
            assert environment is not None
            raise PortTakenError(
                f"port {environment.main_port}, on which the processes of this run meet, is taken "
                "by another program; give another MASTER_PORT, or none."
            ) from error

    def _configure_launcher(self) -> None:
        assert self.cluster_environment is not None
        self._launcher = _JointLauncher(
            self.cluster_environment, self.num_processes, self.num_nodes
        )


class _JointLauncher(_SubprocessScriptLauncher):
    """Lightning's launcher, which starts this command anew for each further device.

    Lightning kills rank 0 without a word where another process fails, and leaves the others alone
    where rank 0 does. Its observer is therefore not started: it might be faster than ours.
    """

    def launch(
        self,
        function: Callable[..., Any],
        *args: Any,
        trainer: Any = None,
        **kwargs: Any,
    ) -> Any:
        environment = self.cluster_environment
        environment.validate_settings(num_devices=self.num_processes, num_nodes=self.num_nodes)
        if not environment.creates_processes_externally:
            self._call_children_scripts()
        _set_num_threads_if_needed(num_processes=self.num_processes)
        try:
            result = function(*args, **kwargs)
            os.environ.pop(_WORD, None)  # from here on each process speaks for itself
            return result
        except torch.OutOfMemoryError:
            raise
        except RuntimeError:
            # a broken connection is not the cause: the process that broke it is about to end
            if self.procs or _PARENT in os.environ:
                time.sleep(_GRACE)
            raise

    def _call_children_scripts(self) -> None:
        os.environ[_PARENT] = str(os.getpid())
        os.environ[_WORD] = _new_file()
        os.environ[PART] = str(cores_of_each(self.num_processes))
        super()._call_children_scripts()
        del os.environ[_PARENT]
        _watch(lambda: _end_after_failure(self.procs))


def _new_file() -> str:
    """An empty file that is gone when this process is."""
    descriptor, name = tempfile.mkstemp(prefix="lightning_seg_")
    os.close(descriptor)
    atexit.register(Path(name).unlink, missing_ok=True)
    return name


def end_with_parent() -> None:
    """End a further process as soon as that of rank 0 is gone. In any other: nothing."""
    parent = int(os.environ.get(_PARENT, 0))
    if parent:
        _watch(lambda: os.getppid() == parent or _end(1))


def may_tell() -> bool:
    """Whether this process is the first of its run to tell why it fails; another one waits first.

    The one that removes the file is the first, however slow the machine is.
    """
    file = os.environ.get(_WORD)
    if file is None:
        return True
    try:
        Path(file).unlink()
    except FileNotFoundError:
        time.sleep(_GRACE)  # the first one tells, and ends the run
        return False
    return True


def free_ports(number: int) -> list[int]:
    """So many ports that nobody listens on: held all at once, so that no two are the same."""
    with ExitStack() as stack:
        held = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in held:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in held]


def usable_port(wanted: int) -> int:
    """``wanted`` where nobody listens on it, another free port otherwise."""
    try:
        with socket.socket() as trial:
            trial.bind(("127.0.0.1", wanted))
            return int(trial.getsockname()[1])
    except OSError:
        return free_ports(1)[0]


def joint_strategy(strategy: Any, world_size: int) -> Any:
    """``trainer.strategy`` with `JointStrategy` where Lightning would take its plain DDP."""
    name = "ddp" if strategy in (None, "auto") and world_size > 1 else strategy
    if not isinstance(name, str) or name not in StrategyRegistry:
        return strategy
    entry = StrategyRegistry[name]
    options = entry["init_params"]
    if entry["strategy"] is not DDPStrategy or options["start_method"] != "popen":
        return strategy
    return JointStrategy(**options)


def _watch(look: Callable[[], Any]) -> None:
    def run() -> None:
        while True:
            look()
            time.sleep(_PERIOD)

    threading.Thread(target=run, daemon=True).start()


def _end_after_failure(children: Sequence[subprocess.Popen[Any]]) -> None:
    """End this process and its ``children`` with the code of the first that failed."""
    codes = [child.poll() for child in children]
    failed = next((code for code in codes if code), None)
    if failed is None:
        return
    for child in children:
        child.kill()
    if _WORD in os.environ:
        Path(os.environ[_WORD]).unlink(missing_ok=True)
    if failed < 0:
        name = signal.Signals(-failed).name
        told = f"error: a process of this run was ended by {name}; the others end with it."
        print(told, file=sys.stderr)
    _end(failed if failed > 0 else 1)


def _end(code: int) -> NoReturn:
    """End at once: the main thread may be waiting for a process that is gone."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)
