"""Trainings in processes of their own which take turns: while one takes its steps, the others, workers included, stand still.

A training runs as ever until a turn is over, says what it measured and waits to be called again. All start from one server
that has imported what they need and computed nothing, so each starts afresh and at once.
"""

import math
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
STEPS = 3  # of every other turn, at least
GRACE = 10.0  # seconds that a training has to end in
LIMIT = 240.0  # seconds that a turn may take
STARTING = 20.0  # seconds that a session must have left to start trainings


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

    def __init__(
        self, connection: Connection, device: torch.device, facts: dict[str, Any], watch: Any = None
    ) -> None:
        self.connection, self.device, self.facts, self.watch = connection, device, facts, watch
        self._begin(0.0, FIRST_STEPS)

    def _begin(self, seconds: float, steps: int) -> None:
        self.wanted, self.images, self.losses = (seconds, steps), 0, list[torch.Tensor]()
        if self.watch is not None:
            self.watch.begin()
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
        self.connection.send(
            Turn(len(self.losses), self.images, taken, loss_mean, self.facts, parts)
        )
        wanted = self.connection.recv()
        if wanted is None:
            raise SystemExit  # the loaders end their workers on the way out
        self._begin(*wanted)


class TakesTurns(L.Callback):
    """Of a training with Lightning."""

    def __init__(self, connection: Connection, watch: Any = None) -> None:
        self.connection, self.watch = connection, watch

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        facts = {
            "precision": trainer.precision,
            "parameters": sum(p.numel() for p in pl_module.parameters()),
        }
        self.turns = Turns(self.connection, pl_module.device, facts, self.watch)

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        image = batch["image"] if isinstance(batch, dict) else batch[0]
        self.turns.step(len(image), outputs["loss"])


Training = Callable[[Connection], None]


class Fit:
    """A training in a process of its own.

    Args:
        training: runs until it is killed; importable, or a partial of what is.
        log: takes what it prints.
        until: no turn lasts longer, but for `GRACE`; on the clock of `time.monotonic`.
    """

    def __init__(self, training: Training, log: Path, until: float = math.inf) -> None:
        self.training, self.log, self.until = training, log, until
        self.process: Any = None

    def start(self) -> None:
        """Begin with the first turn, which takes what it takes."""
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_run, args=(self.training, theirs, self.log))
        self.process.start()
        theirs.close()

    def answer(self) -> Turn:
        """The turn it is in, when that is over; then it stands still.

        Raises:
            RuntimeError: the training ended, with the end of what it printed, or says nothing any more.
        """
        limit = min(LIMIT, max(GRACE, self.until - time.monotonic()))
        try:
            if not self.connection.poll(limit):
                raise RuntimeError(f"a training did not answer for {limit:.0f} s")
            turn: Turn = self.connection.recv()
            os.killpg(self.process.pid, signal.SIGSTOP)
        except (EOFError, OSError):
            said = (
                self.log.read_text(encoding="utf-8")[-2000:]
                if self.log.is_file()
                else "before it said anything"
            )
            raise RuntimeError(f"a training ended: {said}") from None
        return turn

    def turn(self, seconds: float = 0.0, steps: int = STEPS) -> Turn:
        """At least so many seconds and steps; RuntimeError as in `answer`."""
        with suppress(OSError):  # it has ended, which the answer tells
            os.killpg(self.process.pid, signal.SIGCONT)
            self.connection.send((seconds, steps))
        return self.answer()

    def dismiss(self) -> None:
        """Tell it to end."""
        if self.process is not None:
            with suppress(OSError):  # it has ended already
                os.killpg(self.process.pid, signal.SIGCONT)
                self.connection.send(None)

    def end(self) -> None:
        """End it and its workers, by force where it does not listen."""
        if self.process is None:
            return
        self.dismiss()
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


class Running(dict[str, Fit]):
    """Trainings after their first turn, by name; in a session, without those that were lost.

    Args:
        until: when a session's time is over, on the clock of `time.monotonic`. With it, a training that fails is lost, with its
            error, and the others go on; without it, the error is raised.
    """

    def __init__(self, trainings: dict[str, Fit], until: float | None) -> None:
        super().__init__(trainings)
        self.until = until
        self.lost: dict[str, str] = {}

    @property
    def over(self) -> bool:
        return self.until is not None and time.monotonic() > self.until

    def ask(self, name: str, what: Callable[[Fit], Turn]) -> Turn | None:
        """What one answers; None where that one is lost."""
        try:
            return what(self[name])
        except RuntimeError as error:
            if self.until is None:
                raise
            self.lost[name] = str(error)
            self.pop(name).end()  # its memory is the others'
            return None


def check_time(until: float | None, what: str) -> None:
    """TimeoutError where a session has no time left to start ``what``."""
    if until is not None and time.monotonic() + STARTING > until:
        raise TimeoutError(f"no time was left for {what}, and for what would have followed")


@contextmanager
def fits(
    trainings: dict[str, Training], scratch: Path, until: float | None = None
) -> Iterator[Running]:
    """All of them after their first turn; they end with the block.

    In a session, which lasts ``until``, all start at once; else each has the machine for itself from its start.
    """
    logs = {name: scratch / f"{number}.log" for number, name in enumerate(trainings)}
    limit = math.inf if until is None else until
    running = Running(
        {name: Fit(training, logs[name], limit) for name, training in trainings.items()}, until
    )
    try:
        if until is not None:
            for fit in running.values():
                fit.start()
        for name, fit in list(running.items()):
            if until is None:
                fit.start()
            running.ask(name, Fit.answer)
        yield running
    finally:
        for fit in running.values():
            fit.dismiss()
        for fit in running.values():
            fit.end()


def take_turns(running: Running, turns: int, seconds: float) -> dict[str, list[Turn]]:
    """So many turns of each, or as many as there is time for, each time another one first."""
    names = list(running)
    taken = {name: list[Turn]() for name in names}
    for number in range(turns if names else 0):
        if number and running.over:
            break
        start = number % len(names)
        for name in names[start:] + names[:start]:
            turn = running.ask(name, lambda fit: fit.turn(seconds)) if name in running else None
            if turn is not None:
                taken[name].append(turn)
    return {name: taken[name] for name in running}


def rates(turns: Sequence[Turn]) -> list[float]:
    return [turn.rate for turn in turns]
