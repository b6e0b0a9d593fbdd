"""Trainings in processes of their own which take turns: while one takes its steps, the others, workers included, stand still.

A training runs as ever until a turn is over, says what it measured and waits to be called again. All start from one server
that has imported what they need and computed nothing, so each starts afresh and at once.
"""

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import lightning as L
import torch

from benchmarks._timing import synchronize

PRELOADED = ["benchmarks._fits", "benchmarks._plain", "lightning_seg.cli"]
FIRST_STEPS = 3  # of the first turn: they choose kernels and do not count
GRACE = 10.0  # seconds that a training has to end in
LIMIT = 240.0  # seconds that a turn may take


@dataclass(frozen=True)
class Turn:
    """What a training did between two calls.

    Args:
        loss: mean over the steps.
        facts: of the training: its precision and parameters.
        parts: what the watch took down, see `benchmarks._watches.WatchStep`.
    """

    steps: int
    images: int
    seconds: float
    loss: float
    facts: dict[str, Any] = field(default_factory=dict)
    parts: dict[str, float] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Images per second."""
        return self.images / self.seconds


class Turns:
    """The trainings' side of the table."""

    def __init__(self, connection: Connection, device: torch.device, facts: dict[str, Any], watch: Any = None) -> None:
        self.connection, self.device, self.facts, self.watch = connection, device, facts, watch
        self._begin(0.0, FIRST_STEPS)

    def _begin(self, seconds: float, steps: int) -> None:
        self.wanted, self.images, self.losses = (seconds, steps), 0, list[torch.Tensor]()
        if self.watch is not None:
            self.watch.take()
        self.start = time.perf_counter()

    def step(self, images: int, loss: torch.Tensor) -> None:
        """A step was taken; where the turn is over, this returns when the next one begins."""
        self.images += images
        self.losses.append(loss.detach())
        seconds, steps = self.wanted
        if len(self.losses) < steps or time.perf_counter() - self.start < seconds:
            return
        synchronize(self.device)
        taken = time.perf_counter() - self.start
        parts = self.watch.take() if self.watch is not None else {}
        loss_mean = float(torch.stack(self.losses).mean())
        self.connection.send(Turn(len(self.losses), self.images, taken, loss_mean, self.facts, parts))
        wanted = self.connection.recv()
        if wanted is None:
            raise SystemExit  # the loaders end their workers on the way out
        self._begin(*wanted)


class TakesTurns(L.Callback):
    """Of a training with Lightning."""

    def __init__(self, connection: Connection, watch: Any = None) -> None:
        self.connection, self.watch = connection, watch

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        facts = {"precision": trainer.precision, "parameters": sum(p.numel() for p in pl_module.parameters())}
        self.turns = Turns(self.connection, pl_module.device, facts, self.watch)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        image = batch["image"] if isinstance(batch, dict) else batch[0]
        self.turns.step(len(image), outputs["loss"])


Training = Callable[[Connection], None]


class Fit:
    """A training in a process of its own, started by the first turn.

    Args:
        training: runs until it is killed; importable, or a partial of what is.
        log: takes what it prints.
    """

    def __init__(self, training: Training, log: Path) -> None:
        self.training, self.log = training, log
        self.process: Any = None
        self.first: Turn | None = None  # that which warms up

    def turn(self, seconds: float = 0.0, steps: int = 1) -> Turn:
        """At least so many seconds and steps; the first turn takes what it takes.

        Raises:
            RuntimeError: the training ended, with the end of what it printed, or says nothing any more.
        """
        if self.process is None:
            self._start()
        else:
            os.killpg(self.process.pid, signal.SIGCONT)
            self.connection.send((seconds, steps))
        try:
            if not self.connection.poll(LIMIT):
                raise RuntimeError(f"a training did not answer for {LIMIT} s")
            turn = self.connection.recv()
        except EOFError:
            raise RuntimeError(f"a training ended: {self.log.read_text(encoding='utf-8')[-2000:]}") from None
        os.killpg(self.process.pid, signal.SIGSTOP)
        return turn

    def _start(self) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_run, args=(self.training, theirs, self.log))
        self.process.start()
        theirs.close()

    def end(self) -> None:
        """End it and its workers, by force where it does not listen."""
        if self.process is None:
            return
        with suppress(OSError):  # it has ended already
            os.killpg(self.process.pid, signal.SIGCONT)
            self.connection.send(None)
        self.process.join(GRACE)
        if self.process.is_alive():
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.join()
        self.connection.close()


def _run(training: Training, connection: Connection, log: Path) -> None:
    os.setpgrp()
    with log.open("w", encoding="utf-8") as file:
        os.dup2(file.fileno(), sys.stdout.fileno())
        os.dup2(file.fileno(), sys.stderr.fileno())
    training(connection)


@contextmanager
def fits(trainings: dict[str, Training], scratch: Path) -> Iterator[dict[str, Fit]]:
    """All of them after their first turn; they end with the block."""
    found = {
        name: Fit(training, scratch / f"{number}.log") for number, (name, training) in enumerate(trainings.items())
    }
    try:
        for fit in found.values():
            fit.first = fit.turn()
        yield found
    finally:
        for fit in found.values():
            fit.end()


def take_turns(running: dict[str, Fit], turns: int, seconds: float) -> dict[str, list[Turn]]:
    """So many turns of each, each time another one first."""
    names, taken = list(running), {name: list[Turn]() for name in running}
    for number in range(turns):
        start = number % len(names)
        for name in names[start:] + names[:start]:
            taken[name].append(running[name].turn(seconds))
    return taken


def rates(turns: Sequence[Turn]) -> list[float]:
    return [turn.rate for turn in turns]
