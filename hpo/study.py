"""Studies as a whole: made, resumed, run on this machine, and told of."""

import sys
import time
from pathlib import Path

import optuna
from optuna.exceptions import DuplicatedStudyError
from optuna.trial import TrialState

from hpo import queue
from hpo.conditions import check_weights, code_warning
from hpo.launcher import Launcher
from hpo.progress import describe
from hpo.slots import WorkerSlot
from hpo.spec import StudySpec
from hpo.storage import open_storage, shown
from hpo.trials import trial_folder
from hpo.worker import load_spec
from lightning_seg.errors import InputError
from lightning_seg.tables import count_text

MOST_LINES = 20  # of trials that a summary lists


def open_study(spec: StudySpec, storage: str, name: str) -> optuna.Study:
    """The study, new or grown by what ``spec`` adds; InputError where there is another one of that
    name."""
    opened = open_storage(storage, create=True, wait=True)
    old_runs = sorted(Path(spec.runs).glob("trial_*"))
    try:
        study = optuna.create_study(study_name=name, storage=opened, directions=spec.directions)
    except DuplicatedStudyError:
        study = optuna.load_study(study_name=name, storage=opened)
        old = _spec_of(study)
        if old is not None:
            grown = old.resumed(spec, name)
            check_weights(study)
            _write(study, grown, fills=grown.trials > old.trials) if grown != old else None
            return study
        if study.trials:
            raise InputError(
                f"study {name!r} in this storage was not made by `python -m hpo run`; give another --study."
            ) from None
    if old_runs:
        optuna.delete_study(study_name=name, storage=opened)
        raise InputError(
            f"{spec.runs} holds the runs of an earlier study, such as {old_runs[0].name}, but {shown(storage)} does not know it; "
            "give another --study, or remove that folder."
        )
    _write(study, spec, fills=True)
    return study


def _spec_of(study: optuna.Study) -> StudySpec | None:
    """None where whoever created the study died before it could say what it is; another may be
    about to."""
    for _ in range(20):
        if "spec" in study.user_attrs:
            return load_spec(study)
        if study.trials:
            break
        time.sleep(0.2)
    return None


def _write(study: optuna.Study, spec: StudySpec, fills: bool) -> None:
    if fills:
        study.set_user_attr("filler", queue.identity())
    study.set_user_attr("spec", spec.dump())


def retry_failed(study: optuna.Study, only: str | None = None) -> int:
    """Queue the failed trials once more; how many there are."""
    latest, wanted = queue.attempts(study.get_trials(deepcopy=False)), load_spec(study).wanted(only)
    failed = [
        trial for slot, trial in latest.items() if slot in wanted and trial.state == TrialState.FAIL
    ]
    for trial in failed:  # a finished trial cannot be changed, so the new attempt is queued here
        a = trial.user_attrs
        queue.enqueue(study, [queue.QueueItem(a["slot"], a["attempt"] + 1, 0, trial.params)])
    return len(failed)


def launch(
    spec: StudySpec,
    storage: str,
    name: str,
    places: list[WorkerSlot],
    minutes: float | None = None,
    again: bool = False,
    only: str | None = None,
) -> optuna.Study:
    """Open or resume the study, run this machine's workers until it ends, and say how it ended."""
    study = open_study(spec, storage, name)
    if warning := code_warning(study.get_trials(deepcopy=False), ahead=True):
        print(warning, file=sys.stderr)
    if again:
        print(f"{retry_failed(study, only)} failed trials are run again")
    end = time.time() + 60 * minutes if minutes else None
    print(f"study {name!r} in {shown(storage)}: {count_text(len(places), 'worker')}", flush=True)
    launcher = Launcher(storage, name, places, end, only)
    study = launcher.run()
    summarize(study, bool(launcher.stopping), end is not None and time.time() > end, only)
    if launcher.stopping:
        raise SystemExit(128 + launcher.stopping)
    return study


def summarize(
    study: optuna.Study,
    stopped: bool,
    late: bool,
    only: str | None = None,
) -> None:
    """Tell how the study stands, and why it goes on no further."""
    spec = load_spec(study)
    wanted = spec.wanted(only)
    trials = {
        slot: t
        for slot, t in queue.attempts(study.get_trials(deepcopy=False)).items()
        if slot in wanted
    }
    counts = {state: sum(t.state == state for t in trials.values()) for state in TrialState}
    text = f"{counts[TrialState.COMPLETE]} complete, {counts[TrialState.PRUNED]} pruned, {counts[TrialState.FAIL]} failed"
    if not queue.done(spec, study.get_trials(deepcopy=False), only):
        reasons = {
            "stopped": stopped,
            "out of time": late,
            "no improvement": queue.stalled(spec, study),
        }
        reason = next((reason for reason, holds in reasons.items() if holds), "its workers died")
        text += f" of {len(wanted)}: {reason}; the same command goes on"
    print(f"study {study.study_name!r}: {text}")
    failed = [trial for trial in trials.values() if trial.state == TrialState.FAIL]
    for trial in failed[:MOST_LINES]:
        folder = trial_folder(spec, trial.user_attrs["slot"])
        print(f"  {describe(trial, spec)}  (log: {folder / 'log.txt'})")
    if failed[MOST_LINES:]:
        print(f"  and {len(failed) - MOST_LINES} more that failed")
    if not spec.points and counts[TrialState.COMPLETE]:
        for best in study.best_trials[:MOST_LINES]:
            print(f"best: {describe(best, spec)}\n  {best.user_attrs.get('command', '')}")
