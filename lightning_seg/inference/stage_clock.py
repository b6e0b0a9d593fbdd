"""A clock of the stages of `predict`: which of them a faster prediction would have to make
faster."""

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")


class StageClock:
    """The seconds that the threads of each stage were at work, from the first piece to the last.

    Stages work side by side, each on other pictures. The one whose threads rest least is what the
    others wait for.
    """

    def __init__(self) -> None:
        self._threads: dict[str, int] = {}
        self._seconds: dict[str, float] = defaultdict(float)
        self._began = self._ended = 0.0
        self._lock = threading.Lock()

    def timed(self, stage: str, threads: int, work: Callable[[A], B]) -> Callable[[A], B]:
        """``work``, whose time counts for a stage that has so many threads."""
        self._threads[stage] = threads

        def do(piece: A) -> B:
            start = time.perf_counter()
            try:
                return work(piece)
            finally:
                self._enter(stage, start, time.perf_counter())

        return do

    def _enter(self, stage: str, start: float, end: float) -> None:
        with self._lock:
            self._began = min(self._began or start, start)
            self._ended = max(self._ended, end)
            self._seconds[stage] += end - start

    @property
    def busy(self) -> dict[str, float]:
        """The share of the time for which the threads of each stage were at work, in the order in
        which they began to give."""
        elapsed = max(self._ended - self._began, 1e-9)
        return {
            stage: seconds / elapsed / self._threads[stage]
            for stage, seconds in self._seconds.items()
        }

    def lines(self) -> Iterator[str]:
        """A line for each stage, and the name of the slowest; nothing where nothing was done."""
        busy = self.busy
        for stage, share in busy.items():
            yield (
                f"{stage}: {self._seconds[stage]:.2f} s in {self._threads[stage]} threads, "
                f"{share:.0%} busy"
            )
        if busy:
            slowest = max(busy, key=lambda stage: busy[stage])
            yield f"{self._ended - self._began:.2f} s in all; the slowest is {slowest}"
