"""How a study goes: a live table on a terminal, a line per change elsewhere."""

import sys
import time
from collections import Counter
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console
from rich.live import Live

from hpo.queue import attempts
from hpo.spec import StudySpec
from lightning_seg.tables import Table

ROWS = 12  # of the table: the running trials and the latest others


class Progress:
    """A context in which `show` may be called as often as one likes."""

    def __init__(self, study: optuna.Study, only: str | None = None) -> None:
        self.study, self.only = study, only
        self.start = time.monotonic()
        self.before: int | None = None  # results that were there at the start
        self.told: dict[int, TrialState] = {}
        self.live = Live(console=Console(), auto_refresh=False) if sys.stdout.isatty() else None

    def __enter__(self) -> "Progress":
        if self.live:
            self.live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self.live:
            self.live.stop()

    def show(self, spec: StudySpec, workers: int) -> None:
        trials = self.study.get_trials(deepcopy=False)
        wanted = spec.wanted(self.only)
        latest = {slot: trial for slot, trial in attempts(trials).items() if slot in wanted}
        first = self.before is None
        head = self._head(spec, list(latest.values()), workers)
        if self.live:
            self.live.update(_table(head, spec, list(latest.values())).drawn(), refresh=True)
            return
        if first:
            self._tell_before(list(latest.values()))
        for trial in sorted(latest.values(), key=lambda t: t.number):
            if trial.state != TrialState.WAITING and self.told.get(trial.number) != trial.state:
                self.told[trial.number] = trial.state
                print(f"{describe(trial, spec)}  [{head}]", flush=True)

    def _tell_before(self, trials: list[FrozenTrial]) -> None:
        """One line for all trials that had ended before, where they are many."""
        ended = [trial for trial in trials if trial.state.is_finished()]
        if len(ended) <= ROWS:
            return
        self.told |= {trial.number: trial.state for trial in ended}
        states = Counter(trial.state.name.lower() for trial in ended)
        counts = ", ".join(f"{count} {state}" for state, count in states.items())
        print(f"{len(ended)} trials had ended before: {counts}", flush=True)

    def _head(self, spec: StudySpec, trials: list[FrozenTrial], workers: int) -> str:
        states = Counter(trial.state.name.lower() for trial in trials)
        finished = sum(trial.state.is_finished() for trial in trials)
        if self.before is None:
            self.before = finished
        parts = [f"{finished} of {len(spec.wanted(self.only))} done"]
        parts += [f"{states[name]} {text}" for name, text in _STATES.items() if states[name]]
        if finished < len(spec.wanted(self.only)):
            parts += [f"{workers} workers", self._left(spec, trials, workers, finished)]
        return ", ".join(parts)

    def _left(
        self,
        spec: StudySpec,
        trials: list[FrozenTrial],
        workers: int,
        finished: int,
    ) -> str:
        seconds = [
            t.user_attrs["seconds"]
            for t in trials
            if t.state.is_finished() and "seconds" in t.user_attrs
        ]
        if not seconds or not workers:
            return "time left not known yet"
        running = sum(
            (time.time() - t.datetime_start.timestamp())
            for t in trials
            if t.state == TrialState.RUNNING and t.datetime_start
        )
        mean = sum(seconds) / len(seconds)
        left = max(0.0, (len(spec.wanted(self.only)) - finished) * mean - running) / workers
        return f"about {duration(left)} left"


_STATES = {"running": "running", "pruned": "pruned", "fail": "failed"}


def duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return (
        f"{hours} h {minutes:02d} min"
        if hours
        else f"{minutes} min {rest:02d} s"
        if minutes
        else f"{rest} s"
    )


def describe(trial: FrozenTrial, spec: StudySpec) -> str:
    """One line: what the trial is and how it stands."""
    return "  ".join(cell for cell in _cells(trial, spec) if cell)


def _cells(trial: FrozenTrial, spec: StudySpec) -> tuple[str, str, str, str]:
    a = trial.user_attrs
    if spec.points:
        what = spec.points[a["slot"]].key
    else:
        what = " ".join(
            f"{key.rpartition('.')[2]}={_short(value)}" for key, value in trial.params.items()
        )
    seconds = duration(a["seconds"]) if "seconds" in a else ""
    return f"trial_{a['slot']:04d}", what, _standing(trial, spec), seconds


def _standing(trial: FrozenTrial, spec: StudySpec) -> str:
    a, last = trial.user_attrs, trial.intermediate_values
    if trial.state == TrialState.COMPLETE:
        return f"{spec.objective} " + " / ".join(f"{value:.4f}" for value in trial.values)
    if trial.state == TrialState.FAIL:
        return f"failed: {a.get('reason', '')}"
    value = f", {spec.objective} {last[max(last)]:.4f}" if last else ""
    epochs = a.get("progress", len(last))
    epoch = f", epoch {epochs} of {a['max_epochs']}" if "max_epochs" in a else ""
    return f"{trial.state.name.lower()}{epoch}{value}"


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _table(head: str, spec: StudySpec, trials: list[FrozenTrial]) -> Table:
    order = {
        TrialState.RUNNING: 0,
        TrialState.FAIL: 1,
        TrialState.COMPLETE: 1,
        TrialState.PRUNED: 1,
    }
    shown = [trial for trial in trials if trial.state != TrialState.WAITING]
    shown.sort(key=lambda trial: (order[trial.state], -trial.number))
    header = ("trial", "what", "state", "time")
    return Table(header, [_cells(trial, spec) for trial in shown[:ROWS]], title=head, left=header)
