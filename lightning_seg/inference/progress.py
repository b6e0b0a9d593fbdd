"""A progress bar with the time that is left; one line where there is no terminal."""

import sys
import time
from typing import Any

from lightning_seg.tables import count_text


class WorkProgress:
    """The progress of ``total`` equal pieces of work, as a context.

    Args:
        unit: what the pieces are, in the plural.
        total: None where it is not known.
        shows: False: nothing is printed.
    """

    def __init__(self, unit: str, total: int | None, shows: bool = True) -> None:
        self.unit, self.total, self.count = unit, total, 0
        self._shows = shows
        self._bar: Any = None

    def __enter__(self) -> "WorkProgress":
        self._start = time.perf_counter()
        if self._shows and sys.stdout.isatty() and self.total != 0:
            self._bar = _bar_of(self.unit)
            self._task = self._bar.add_task(self.unit, total=self.total)
            self._bar.start()
        return self

    def tick(self) -> None:
        """One piece is done."""
        self.count += 1
        if self._bar is not None:
            self._bar.advance(self._task)

    @property
    def rate(self) -> float:
        """Pieces per second since the start."""
        return self.count / max(time.perf_counter() - self._start, 1e-9)

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
        if self.count and self._shows:
            things, *more = self.unit.split(" ")
            done = count_text(self.count, things.removesuffix("s"))
            print(f"{' '.join([done, *more])}, {self.rate:.1f} per second", flush=True)


def _bar_of(unit: str) -> Any:
    from rich import progress as rich

    columns = (
        rich.MofNCompleteColumn(),
        rich.TextColumn(unit),
        rich.BarColumn(),
        rich.TimeElapsedColumn(),
    )
    return rich.Progress(*columns, rich.TextColumn("left:"), rich.TimeRemainingColumn())
