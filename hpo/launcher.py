"""Starts the workers of one machine, looks after them and after the queue, and shows how the study
goes."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna

import hpo
from hpo import queue
from hpo.progress import Progress
from hpo.slots import WorkerSlot
from hpo.storage import STORAGE_VARIABLE, open_storage
from hpo.worker import load_spec

RESTARTS = 5  # of a worker that dies, before its place is given up
ROUND = 0.5  # seconds between two looks


def environment(slot: WorkerSlot) -> dict[str, str]:
    """The environment of a worker. A trial is no task of the Slurm job, or process of the group,
    that this launcher may be one of."""
    foreign = ("SLURM_", "RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_", "NODE_RANK")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(foreign)}
    paths = [str(Path(hpo.__file__).parent.parent), os.environ.get("PYTHONPATH", "")]
    return {**kept, "PYTHONPATH": os.pathsep.join(filter(None, paths)), **slot.environment}


@dataclass
class _Place:
    """A slot with its worker."""

    slot: WorkerSlot
    process: subprocess.Popen[bytes] | None = None
    restarts: int = 0


@dataclass
class Launcher:
    """One launcher per machine; several work on one study where they share its storage."""

    storage: str
    name: str
    places: list[WorkerSlot]
    end: float | None = None  # seconds since 1970 after which no trial is started
    only: str | None = None  # glob of the points of a sweep that are run
    stopping: int = 0  # the signal that ended it
    _workers: list[_Place] = field(default_factory=list)

    def run(self) -> optuna.Study:
        """Work until the queue is done, the time is over, or a signal comes; then the workers have
        ended too."""
        study = optuna.load_study(
            study_name=self.name,
            storage=open_storage(self.storage, stop=lambda: bool(self.stopping), wait=True),
        )
        self._workers = [_Place(slot) for slot in self.places]
        before = {
            number: signal.signal(number, self._stop) for number in (signal.SIGTERM, signal.SIGINT)
        }
        try:
            self._look_after(study)
        finally:
            self._end()
            for number, handler in before.items():
                signal.signal(number, handler)
        queue.tend(study, load_spec(study), queue.SilenceWatch(load_spec(study).grace))
        return study

    def _stop(self, signum: int, frame: Any) -> None:
        self.stopping = signum

    def _look_after(self, study: optuna.Study) -> None:
        watch = queue.SilenceWatch(load_spec(study).grace)
        with Progress(study, self.only) as progress:
            while not self.stopping:
                spec = load_spec(study)
                queue.tend(study, spec, watch)
                self._start_workers(queue.done(spec, study.get_trials(deepcopy=False), self.only))
                progress.show(spec, len([p for p in self._workers if p.process]))
                if not any(place.process for place in self._workers):
                    return
                time.sleep(ROUND)

    def _start_workers(self, done: bool) -> None:
        """Start those that are not there, unless all is done; those that ended by themselves have
        nothing left to do."""
        for place in self._workers:
            code = place.process.poll() if place.process else None
            if place.process is None and place.restarts == 0 and not done:
                place.process, place.restarts = self._start(place.slot), 1
            elif place.process is not None and code is not None:
                again = code != 0 and place.restarts <= RESTARTS
                place.process = self._start(place.slot) if again else None
                place.restarts += 1

    def _start(self, slot: WorkerSlot) -> subprocess.Popen[bytes]:
        job = {
            "study": self.name,
            "number": slot.number,
            "end": self.end,
            "only": self.only,
        }
        command = [sys.executable, "-c", "from hpo.worker import start; start()", json.dumps(job)]
        # stdin: a pipe that closes when this process is gone; a session of its own: Ctrl-C is for the launcher
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            start_new_session=True,
            # a list of processes shows arguments to everybody, and the storage may hold a password
            env=environment(slot) | {STORAGE_VARIABLE: self.storage},
        )

    def _end(self) -> None:
        processes = [place.process for place in self._workers if place.process]
        for process in processes:
            process.terminate()
        for process in processes:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
