"""A worker: takes trials from the queue of a study, one at a time, and runs each in a process of
its own.

    python -c 'from hpo.worker import start; start()' '{"study": ..., "number": 0, "end": null, "only": null}'

$LIGHTNING_SEG_STORAGE says where the study is, unless ``storage`` stands there too.
``end``: seconds since 1970 after which no trial is started; ``only``: a glob of points of a sweep.

It ends when the queue is done, on SIGTERM (its trial goes back to the queue), or when its launcher
is gone.
"""

import json
import multiprocessing
import os
import signal
import sys
import time
import zlib
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import Trial, TrialState

from hpo import queue
from hpo.spec import StudySpec
from hpo.storage import STORAGE_VARIABLE, open_storage
from hpo.trial_messages import TrialJob, TrialResult, claim_folder
from hpo.trial_process import main as trial_main
from hpo.trials import judge_memory, make_job, make_pruner, make_sampler, trial_labels
from lightning_seg.errors import one_sentence

IDLE = 0.3  # seconds between two looks into an empty queue
INPUT_ERROR = 2  # the exit code of a process that ended with a sentence about bad input


class Worker:
    """One slot of one machine."""

    def __init__(
        self,
        storage: str,
        study: str,
        number: int,
        end: float | None = None,
        only: str | None = None,
        lifeline: Any = None,  # readable once the launcher is gone
    ) -> None:
        self.number, self.end, self.only, self.lifeline = number, end, only, lifeline
        self.stopping, self.launcher = False, queue.identity(os.getppid())
        self.study = optuna.load_study(
            study_name=study, storage=open_storage(storage, stop=self._is_over, wait=True)
        )
        self.spec = load_spec(self.study)
        seed = zlib.crc32(f"{study} {queue.identity()} {number} {len(self.study.trials)}".encode())
        self.study.sampler = make_sampler(self.spec, seed)
        self.study.pruner = make_pruner(self.spec)
        self._context = multiprocessing.get_context("forkserver")
        # children are forks of a process that has loaded torch but never run it: they start at once and share no state
        module = self.spec.function.partition(":")[0] if self.spec.function else "hpo.training"
        self._context.set_forkserver_preload([module])

    def run(self) -> None:
        """Work until there is nothing left to do."""
        while not self._ended():
            trial = queue.claim(self.study, self.spec.wanted(self.only), self.launcher)
            if trial is not None:
                with suppress(
                    UpdateFinishedTrialError
                ):  # someone who thought this worker dead has ended the trial
                    self._run(trial)
            elif queue.done(self.spec, self.study.get_trials(deepcopy=False), self.only):
                return
            else:
                time.sleep(IDLE)

    def _ended(self) -> bool:
        """Tell whether no further trial is to be started."""
        if self._is_over():
            return True
        self.spec = load_spec(self.study)
        late = self.end is not None and time.time() > self.end
        return late or queue.stalled(self.spec, self.study)

    def _is_over(self) -> bool:
        """Tell whether this worker was told to end, or has lost its launcher."""
        if self.lifeline is not None and wait([self.lifeline], timeout=0):
            self.stopping = True  # the launcher writes nothing: its end of the pipe has closed
        return self.stopping

    def _run(self, trial: Trial) -> None:
        job = make_job(self.spec, trial)
        trial.set_user_attr("host", queue.host())
        for key, value in trial_labels(self.spec, trial, job).items():
            trial.set_user_attr(key, value)
        if foreign := claim_folder(job.folder, job.own):
            result = TrialResult("failed", reason=foreign)
        else:
            result = TrialResult.read(job.folder) or self._in_child(trial, job)
        if self.stopping and result.state == "failed":
            queue.finish(
                self.study, trial, TrialResult("failed", reason="interrupted"), again="interrupted"
            )
        else:
            result = judge_memory(self.spec, trial, result)
            queue.finish(self.study, trial, result, again="died" if result.again else None)
            self._thin(result)

    def _thin(self, result: TrialResult) -> None:
        if self.spec.keep_best is not None and result.state == "complete":
            # torch, which a study over a plain function does without
            from hpo.thinning import thin_behind_best

            thin_behind_best(self.spec, self.study.get_trials(deepcopy=False))

    def _in_child(self, trial: Trial, job: TrialJob) -> TrialResult:
        ours, theirs = self._context.Pipe()
        lifeline, held = self._context.Pipe(duplex=False)
        log = _TrialLog(Path(job.folder) / "log.txt")
        child = self._context.Process(target=trial_main, args=(job, theirs, lifeline))
        child.start()
        theirs.close()
        lifeline.close()
        try:
            return self._attend(trial, child, ours, log)
        finally:
            held.close()
            _kill(child)

    def _attend(
        self, trial: Trial, child: Any, connection: Connection, log: "_TrialLog"
    ) -> TrialResult:
        """Answer the child until its result is there, or it or the worker is to end."""
        next_beat = 0.0
        while not self._is_over():
            if time.monotonic() >= next_beat:
                if self.study._storage.get_trial(trial._trial_id).state != TrialState.RUNNING:
                    return TrialResult("failed", reason="another worker took it over")
                trial.set_user_attr("beat", int(time.time()))
                next_beat = time.monotonic() + self.spec.grace / 6
            if not wait([connection, child.sentinel], timeout=min(0.5, self.spec.grace / 6)):
                continue
            try:
                result = self._answer(trial, connection)
            except (EOFError, ConnectionError):
                child.join(10)
                said = log.said() if child.exitcode == INPUT_ERROR else ""
                reason = said or _cause(child.exitcode)
                return TrialResult("failed", reason=reason, again=not said)
            if result is not None:
                return result
        return TrialResult("failed", reason="interrupted")

    def _answer(self, trial: Trial, connection: Connection) -> TrialResult | None:
        if not connection.poll(1):
            raise EOFError
        kind, *content = connection.recv()
        if kind == "facts":
            for key, value in content[0].items():
                trial.set_user_attr(key, value)
        elif kind == "report":
            step, value = content
            connection.send(self._report(trial, step, value))
        return content[0] if kind == "done" else None

    def _report(self, trial: Trial, step: int, value: float) -> bool:
        if self.spec.minimize:  # Optuna prunes no trial of two objectives
            trial.set_user_attr("progress", step + 1)
            return False
        trial.report(value, step)
        return trial.should_prune()


class _TrialLog:
    """The lines that a trial prints from now on."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._start = file.stat().st_size if file.is_file() else 0

    def said(self) -> str:
        """The sentence with which one of the trial's processes ended, or an empty string."""
        if not self._file.is_file():
            return ""
        with self._file.open("rb") as file:
            file.seek(self._start)
            lines = file.read().decode(errors="replace").splitlines()
        told = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
        return told[0] if told else ""


def _cause(code: int | None) -> str:
    if code is not None and code < 0:
        note = " (out of memory?)" if code == -signal.SIGKILL else ""
        return f"its process was ended by {signal.Signals(-code).name}{note}"
    return f"its process ended with code {code}"


def _kill(child: Any) -> None:
    """End the child and all processes of its group."""
    child.join(0.2)
    for end in (os.killpg, os.kill):
        try:
            end(child.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            continue
    child.join(10)


def load_spec(study: optuna.Study) -> StudySpec:
    return StudySpec.load(study.user_attrs["spec"])


def main(args: list[str]) -> None:
    job = {"storage": os.environ.get(STORAGE_VARIABLE)} | json.loads(args[0])
    worker = Worker(**job, lifeline=sys.stdin)

    def stop(signum: int, frame: Any) -> None:
        worker.stopping = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    worker.run()


def start() -> None:
    """The worker as a process. It has no main module, for each trial's process would import that
    anew."""
    with one_sentence():
        main(sys.argv[1:])
