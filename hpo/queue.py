"""The trials of a study as a queue: which are to be run, who runs them, what becomes of those whose
process died.

Every trial, of a search and of a sweep, is queued under a *slot* and an *attempt* (user
attributes). A slot is done once an attempt is complete or pruned, or has failed for good; until
then the queue holds one further attempt. What is missing is derived from the trials alone, so any
process may fill the queue at any time, and nothing is lost when one dies. Where two do so at once,
the attempt that was queued first counts and the other is marked a duplicate.
"""

import os
import socket
import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, Trial, TrialState

from hpo.spec import StudySpec
from hpo.trial_messages import TrialResult
from hpo.trials import trial_folder

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
AHEAD = 32  # trials of a search that wait at a time


@dataclass(frozen=True)
class QueueItem:
    """An attempt that is to be queued. ``deaths`` counts those before it whose process died."""

    slot: int
    attempt: int = 0
    deaths: int = 0
    params: dict[str, Any] = field(default_factory=dict)
    host: str | None = None  # that of the attempt before


def attempts(trials: Iterable[FrozenTrial]) -> dict[int, FrozenTrial]:
    """slot -> the trial that counts: its latest attempt."""
    latest: dict[int, FrozenTrial] = {}
    for trial in trials:
        slot = trial.user_attrs.get("slot")
        if slot is None or trial.user_attrs.get("duplicate"):
            continue
        known = latest.get(slot)
        if known is None or trial.user_attrs["attempt"] > known.user_attrs["attempt"]:
            latest[slot] = trial
    return latest


def missing(spec: StudySpec, trials: Iterable[FrozenTrial]) -> list[QueueItem]:
    """The items that the queue lacks."""
    latest, items = attempts(trials), []
    for slot in range(spec.trials):
        trial = latest.get(slot)
        if trial is None:
            items.append(QueueItem(slot, params=spec.start[slot] if slot < len(spec.start) else {}))
        elif _again(trial, spec.retries):
            a = trial.user_attrs
            items.append(
                QueueItem(
                    slot,
                    a["attempt"] + 1,
                    a["deaths"] + (a["again"] == "died"),
                    trial.params,
                    a.get("host"),
                )
            )
    return items


def _again(trial: FrozenTrial, retries: int) -> bool:
    """Tell whether a failed trial is to be run again: where it was interrupted always, where its
    process died ``retries`` times."""
    again = trial.user_attrs.get("again")
    allowed = again == "interrupted" or (again == "died" and trial.user_attrs["deaths"] < retries)
    return trial.state == TrialState.FAIL and allowed


def enqueue(study: optuna.Study, items: Iterable[QueueItem]) -> None:
    for item in items:
        study.enqueue_trial(
            item.params, {"slot": item.slot, "attempt": item.attempt, "deaths": item.deaths}
        )


def done(spec: StudySpec, trials: Sequence[FrozenTrial], only: str | None = None) -> bool:
    """Tell whether every slot that matches has its result."""
    latest = attempts(trials)
    return all(
        slot in latest
        and latest[slot].state.is_finished()
        and not _again(latest[slot], spec.retries)
        for slot in spec.wanted(only)
    )


def stalled(spec: StudySpec, study: optuna.Study) -> bool:
    """Tell whether the best value is ``patience`` finished trials old."""
    if spec.patience is None or spec.minimize:
        return False
    complete = [
        t
        for t in study.get_trials(deepcopy=False, states=FINISHED)
        if t.user_attrs.get("slot") is not None
    ]
    complete.sort(
        key=lambda trial: trial.datetime_complete.timestamp() if trial.datetime_complete else 0.0
    )
    sign = -1 if spec.directions[0] == "minimize" else 1
    values = [
        sign * t.value if t.state == TrialState.COMPLETE and t.value is not None else -float("inf")
        for t in complete
    ]
    return bool(values) and len(values) - 1 - values.index(max(values)) >= spec.patience


def claim(
    study: optuna.Study,
    slots: Collection[int],
    launcher: str = "",
) -> Trial | None:
    """Take the next trial of the queue in one of ``slots``, which is then this worker's; None where
    none is waiting.

    ``launcher`` is the `identity` of the process that started this worker.

    `Study.ask` would make up a further trial where the last one has just been taken by another
    worker.
    """
    study._thread_local.cached_all_trials = (
        None  # as `ask` does: the sampler is to see what there is now
    )
    for frozen in study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
        if frozen.user_attrs.get("slot") not in slots:
            continue
        try:
            won = study._storage.set_trial_state_values(frozen._trial_id, TrialState.RUNNING)
        except UpdateFinishedTrialError:
            continue
        if won and not _is_duplicate(study, frozen):
            study._storage.set_trial_user_attr(frozen._trial_id, "launcher", launcher)
            study._storage.set_trial_user_attr(frozen._trial_id, "worker", identity())
            return Trial(study, frozen._trial_id)
    return None


def _is_duplicate(study: optuna.Study, frozen: FrozenTrial) -> bool:
    """Tell whether the same attempt was queued before, or its slot has a result; then the trial is
    put aside."""
    mine = frozen.user_attrs
    for other in study.get_trials(deepcopy=False):
        theirs = other.user_attrs
        if (
            other.number == frozen.number
            or theirs.get("slot") != mine["slot"]
            or theirs.get("duplicate")
        ):
            continue
        if other.state in FINISHED or (
            theirs["attempt"] == mine["attempt"] and other.number < frozen.number
        ):
            study._storage.set_trial_user_attr(frozen._trial_id, "duplicate", other.number)
            finish(
                study,
                frozen,
                TrialResult("failed", reason=f"queued twice, see trial {other.number}"),
            )
            return True
    return False


def finish(
    study: optuna.Study, trial: FrozenTrial | Trial, result: TrialResult, again: str | None = None
) -> bool:
    """Enter how a trial ended; False where that stands in the storage already.

    ``again``: why it is to be queued once more: its process "died", or it was "interrupted".
    """
    states = {
        "complete": TrialState.COMPLETE,
        "pruned": TrialState.PRUNED,
        "failed": TrialState.FAIL,
    }
    facts = {**result.facts, "reason": result.reason, "again": again}
    state = states[result.state]
    try:
        for key, value in facts.items():
            if value is not None:
                study._storage.set_trial_user_attr(trial._trial_id, key, value)
        values = result.values if state == TrialState.COMPLETE else _last_value(study, trial, state)
        study._storage.set_trial_state_values(trial._trial_id, state, values)
    except UpdateFinishedTrialError:
        return False
    return True


def _last_value(
    study: optuna.Study, trial: FrozenTrial | Trial, state: TrialState
) -> list[float] | None:
    """The value to enter: as Optuna has it, that of a pruned trial is the latest one by the way."""
    if state != TrialState.PRUNED:
        return None
    last = study._storage.get_trial(trial._trial_id).intermediate_values
    return [last[max(last)]] if last else None


class SilenceWatch:
    """Tells what has not changed for ``grace`` seconds of looking, by this process's clock
    alone."""

    def __init__(self, grace: float) -> None:
        self.grace = grace
        self._seen: dict[Any, tuple[Any, float]] = {}
        self._looked = time.monotonic()
        self.rounds = 0

    def look(self) -> None:
        """Call before each round: after a pause, such as one of the storage, all starts anew."""
        self.rounds += 1
        if time.monotonic() - self._looked > self.grace / 3:
            self._seen.clear()
        self._looked = time.monotonic()

    def stale(self, key: Any, value: Any) -> bool:
        known, since = self._seen.get(key, (None, 0.0))
        if key not in self._seen or known != value:
            self._seen[key] = (value, self._looked)
            return False
        return self._looked - since > self.grace


def tend(study: optuna.Study, spec: StudySpec, watch: SilenceWatch) -> None:
    """One round of the janitor: fail the trials of dead workers, and fill the queue.

    What another machine is to queue, as it began the study or ran the attempt before, is left to it
    for a while.
    """
    watch.look()
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if _is_dead(trial, watch):
            # no sign against the trial: who was dead before this launcher's first look, or whose own launcher is dead, died
            # with that; who left a result died before it could enter that, which the next attempt does
            slot = trial.user_attrs.get("slot")
            ended = slot is not None and TrialResult.read(trial_folder(spec, slot))
            again = "interrupted" if watch.rounds == 1 or ended or _is_orphaned(trial) else "died"
            finish(study, trial, TrialResult("failed", reason="its worker died"), again)
    filler = study.user_attrs.get("filler", "")
    ours = filler == identity() or (filler.startswith(f"{host()} ") and not _is_alive(filler))
    items = _next_items(spec, study.get_trials(deepcopy=False))
    enqueue(
        study, (i for i in items if _is_ours(i, ours) or watch.stale((i.slot, i.attempt), None))
    )


def _next_items(spec: StudySpec, trials: Sequence[FrozenTrial]) -> list[QueueItem]:
    """The items to be queued now: of a search as many as are needed until the next round.

    Each look at a database reads all trials that wait, so a long queue would make every trial of a
    long study slower. Of a sweep several launchers may want different parts.
    """
    items = missing(spec, trials)
    if spec.points:
        return items
    room = AHEAD - sum(trial.state == TrialState.WAITING for trial in trials)
    again = [item for item in items if item.attempt]
    fresh = [item for item in items if not item.attempt]
    return again + fresh[: max(0, room)]


def _is_ours(item: QueueItem, filler: bool) -> bool:
    return item.host == host() or (item.host is None and filler)


def _is_dead(trial: FrozenTrial, watch: SilenceWatch) -> bool:
    owner = trial.user_attrs.get("worker")
    if owner and owner.split(" ")[0] == host():
        return not _is_alive(owner)
    return watch.stale(trial.number, trial.user_attrs.get("beat"))


def _is_orphaned(trial: FrozenTrial) -> bool:
    launcher = trial.user_attrs.get("launcher", "")
    return launcher.split(" ")[0] == host() and not _is_alive(launcher)


@cache
def host() -> str:
    """This machine, for as long as it runs, and in it this set of process ids: a container has its
    own."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    space = Path("/proc/self/ns/pid")
    parts = [socket.gethostname(), boot.read_text(encoding="utf-8")[:8] if boot.is_file() else ""]
    return "/".join([*parts, os.readlink(space)[5:-1] if space.is_symlink() else ""]).replace(
        " ", "_"
    )


def identity(pid: int | None = None) -> str:
    """A process, by default this one: machine, process id, and when it started, as ids are used
    again."""
    pid = pid or os.getpid()
    return f"{host()} {pid} {_started(pid)}"


def _started(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    except OSError:
        return ""


def _is_alive(owner: str) -> bool:
    _, pid, started = owner.split(" ")
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return _started(int(pid)) == started
