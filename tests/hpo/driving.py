"""Studies driven as processes that can be killed, and a real PostgreSQL server."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import optuna

from hpo.storage import open_storage

HERE = Path(__file__).parent


class Driven:
    """A study in a folder of its own, whose launcher can be started, killed and started again."""

    def __init__(self, folder, storage=None, study="s"):
        self.folder, self.study = folder, study
        self.storage = storage or str(folder / "runs" / study / "study.journal")
        self.record = folder / "record.txt"
        self.processes = []

    def start(self, trials, nap=0.2, **settings):
        job = {
            "storage": self.storage,
            "study": self.study,
            "runs": str(self.folder / "runs" / self.study),
            "trials": trials,
        }
        path = os.pathsep.join([str(HERE.parent.parent), str(HERE)])
        environment = {
            **os.environ,
            "PYTHONPATH": path,
            "HPO_RECORD": str(self.record),
            "HPO_NAP": str(nap),
        }
        log = (self.folder / "launcher.txt").open("a")
        process = subprocess.Popen(
            [sys.executable, str(HERE / "drive.py"), json.dumps(job | settings)],
            env=environment, stdout=log, stderr=subprocess.STDOUT, cwd=self.folder, start_new_session=True,
        )  # fmt: skip
        self.processes.append(process)
        return process

    def finish(self, trials, seconds=180, **settings):
        """Run to the end; the launcher must say that all went well."""
        assert self.start(trials, **settings).wait(seconds) == 0, self.log()

    def log(self):
        return (self.folder / "launcher.txt").read_text(encoding="utf-8")

    def open(self):
        return optuna.load_study(study_name=self.study, storage=open_storage(self.storage))

    def trials(self, *states):
        try:
            trials = self.open().get_trials(deepcopy=False)
        except Exception:  # not there yet
            return []
        return [trial for trial in trials if not states or trial.state.name in states]

    def wait_for(self, condition, seconds=120):
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, self.log()
            time.sleep(0.1)

    def ends(self):
        """The parameters of the trainings that went to their end."""
        lines = self.record.read_text(encoding="utf-8").splitlines() if self.record.exists() else []
        return [
            line.split(" ", 1)[1].rpartition(" ")[0] for line in lines if line.startswith("end")
        ]

    def alive(self):
        """Process ids of trials that still run."""
        lines = self.record.read_text(encoding="utf-8").splitlines() if self.record.exists() else []
        return {pid for pid in (int(line.rpartition(" ")[2]) for line in lines) if is_alive(pid)}


def is_alive(pid):
    try:
        return (
            Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
            not in "ZX"
        )
    except OSError:
        return False


def stop(made):
    for process in made.processes:
        if process.poll() is None:
            process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def postgres_binaries():
    """The folder of `initdb`, in PATH or where Debian puts it."""
    found = shutil.which("initdb")
    places = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return next((place for place in places if (place / "initdb").exists()), None)


class Postgres:
    """A server on a free port in a folder of its own; as root it runs as the user postgres, as it must."""

    def __init__(self, folder):
        self.folder, self.binaries = folder, postgres_binaries()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"postgresql://postgres@127.0.0.1:{self.port}/postgres"
        if os.getuid() == 0:
            shutil.chown(folder, "postgres")
        self._do(["initdb", "-D", str(folder / "data"), "-U", "postgres", "--auth=trust", "-N"])

    def _do(self, command, **options):
        command = [str(self.binaries / command[0]), *command[1:]]
        prefix = (
            ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
            if os.getuid() == 0
            else []
        )
        subprocess.run(
            [*prefix, *command], check=True, cwd=self.folder, stdout=subprocess.DEVNULL, **options
        )

    def start(self):
        options = (
            f"-p {self.port} -h 127.0.0.1 -k {self.folder} -c fsync=off -c max_connections=200"
        )
        log = str(self.folder / "log.txt")
        command = [
            "pg_ctl",
            "-D",
            str(self.folder / "data"),
            "-o",
            options,
            "-l",
            log,
            "-w",
            "start",
        ]
        for attempt in range(
            20
        ):  # the processes of a killed server may hold its memory for a moment
            try:
                return self._do(command, stderr=subprocess.DEVNULL)
            except subprocess.CalledProcessError:
                if attempt == 19:
                    raise
                time.sleep(0.5)

    def kill(self):
        """kill -9 of the server; its children see that and end."""
        pid = int(
            (self.folder / "data" / "postmaster.pid").read_text(encoding="utf-8").splitlines()[0]
        )
        os.kill(pid, signal.SIGKILL)
        while is_alive(pid):
            time.sleep(0.05)

    def stop(self):
        with contextlib.suppress(subprocess.CalledProcessError):
            self._do(
                ["pg_ctl", "-D", str(self.folder / "data"), "-m", "immediate", "stop"],
                stderr=subprocess.DEVNULL,
            )
