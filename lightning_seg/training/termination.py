"""SIGTERM to `fit` ends it as Ctrl-C does, on all devices at the same batch, with exit code 143."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning as L
from lightning.fabric.plugins.environments import LightningEnvironment

SIGTERM_CODE = 128 + signal.SIGTERM
AGREE_EVERY = 8  # batches of several processes, from the first of an epoch on


class Terminated(SystemExit):
    """The process was asked to end; what catches it must not go on."""


def was_interrupted(exception: BaseException) -> bool:
    """Tell whether somebody ended the run, by Ctrl-C or SIGTERM; else it failed."""
    return isinstance(exception, KeyboardInterrupt | Terminated)


class Termination(L.Callback):
    """Ends the training where one of its processes was asked to end; all of them agree after some batches."""

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self._look(trainer)

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # several processes wait for each other here, and the host for its device
        if trainer.world_size == 1 or batch_idx % AGREE_EVERY == 0:
            self._look(trainer)

    def on_validation_batch_end(self, trainer: Any, *_: Any) -> None:
        if trainer.world_size == 1:  # several processes may have unlike numbers of batches
            self._look(trainer)

    @staticmethod
    def _look(trainer: Any) -> None:
        if not trainer.strategy.reduce_boolean_decision(trainer.asked_to_end, all=False):
            return
        environment = getattr(trainer.strategy, "cluster_environment", None)
        child = isinstance(environment, LightningEnvironment) and trainer.local_rank > 0
        # the main process would be killed if a child that it started failed
        raise Terminated(0 if child else SIGTERM_CODE)


@contextmanager
def ended_by_sigterm(sentence: str = "") -> Iterator[None]:
    """Context outside of a training: SIGTERM raises `Terminated`, with a sentence on stderr."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(signum: int, frame: Any) -> None:
        if sentence:
            print(sentence, file=sys.stderr)
        raise Terminated(SIGTERM_CODE)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
