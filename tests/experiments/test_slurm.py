"""The jobs of experiments/slurm under a Slurm of one node on this machine, with two tasks on the CPU."""

import getpass
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from experiments import sweep
from lightning_seg.training.processes import free_ports

ROOT = Path(__file__).parent.parent.parent
PROGRAMS = ("slurmctld", "slurmd", "srun", "sbatch", "scontrol", "scancel")
CONFIG = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/none
CredType=cred/none
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=2,bf_interval=2
ReturnToService=2
MpiDefault=none
NodeName={host} NodeAddr=127.0.0.1 CPUs=64 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
TINY = """
seed_everything: 1
trainer: {accelerator: cpu, enable_progress_bar: false, precision: 32-true}
data:
  {dataset: phantom_polyp, protocol: %s, size: 32, batch_size: 4, num_workers: 0, dataset_options: {resolution: 32}}
model: {architecture: unet, options: {widths: [4, 8]}, lr: 0.01}
"""
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not all(map(shutil.which, PROGRAMS)), reason="Slurm (Debian: slurm-wlm) is not installed"
    ),
]


class Cluster:
    """A controller and a node in a folder of their own, and jobs that run in it as in a checkout."""

    def __init__(self, folder):
        self.folder = folder
        for name in ("state", "spool"):
            (folder / name).mkdir()
        (folder / ".venv").symlink_to(sys.prefix)
        for name in ("experiments", "hpo"):
            (folder / name).symlink_to(ROOT / name)
        facts = {"host": socket.gethostname().split(".")[0], "user": getpass.getuser()}
        text = CONFIG.format(**facts, folder=folder, ports=free_ports(2))
        (folder / "slurm.conf").write_text(text)
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        self.environment = {key: v for key, v in os.environ.items() if not key.startswith("SLURM")}
        self.environment |= {"SLURM_CONF": str(folder / "slurm.conf"), "PYTHONPATH": path}
        self.environment |= {"OMP_NUM_THREADS": "1"}
        self.hastened: set[str] = set()
        self.daemons = [self._daemon("slurmctld"), self._daemon("slurmd")]

    def _daemon(self, name):
        log = (self.folder / f"{name}.log").open("w")
        command = [name, "-D", "-f", str(self.folder / "slurm.conf")]
        return subprocess.Popen(command, stdout=log, stderr=log, env=self.environment)

    def end(self):
        self.ask("scancel", "--state=RUNNING", "--user", getpass.getuser())
        for daemon in reversed(self.daemons):
            daemon.terminate()
            daemon.wait(30)

    def ask(self, *command):
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True
        )
        return done.stdout + done.stderr

    def ready(self):
        return "idle" in self.ask("sinfo", "--noheader")

    def submit(self, *command):
        said = self.ask("sbatch", "--parsable", "--output=%j.out", *map(str, command))
        assert said.strip().isdecimal(), said
        return said.strip()

    def facts(self, job):
        words = self.ask("scontrol", "show", "job", job).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def wait(self, job, state="COMPLETED", seconds=300):
        """Until the job is in that state; one that was queued again waits for seconds, not minutes.

        Slurm refuses a job that starts within the second in which it was ended.
        """
        end = time.monotonic() + seconds
        while (facts := self.facts(job))["JobState"] != state:
            failed = facts["JobState"] in ("FAILED", "TIMEOUT", "CANCELLED", "NODE_FAIL")
            assert not failed, f"{facts}\n{self.log(job)}"
            assert time.monotonic() < end, f"{facts}\n{self.log(job)}"
            waits = facts["JobState"] == "PENDING" and facts["Reason"] == "BeginTime"
            if waits and job not in self.hastened:
                self.ask("scontrol", "update", f"JobId={job}", "StartTime=now+5")
                self.hastened.add(job)
            time.sleep(1)
        return facts

    def log(self, job):
        files = sorted(self.folder.glob(f"*{job}*.out"))
        return "\n".join(file.read_text(encoding="utf-8") for file in files)


def until(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, condition
        time.sleep(0.3)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    found = Cluster(tmp_path_factory.mktemp("slurm"))
    try:
        until(found.ready, 60)
        yield found
    finally:
        found.end()


@pytest.fixture(scope="module")
def recipe(cluster):
    """12 / 6 / 5 phantoms of 32 pixels."""
    rows = [
        f"polyp-{i:04d},{'train' if i < 12 else 'val' if i < 18 else 'test'}" for i in range(23)
    ]
    head = "# name: tiny\n# version: 1\n# rule: the first 23\nid,split\n"
    (cluster.folder / "tiny.csv").write_text(head + "\n".join(rows) + "\n")
    (cluster.folder / "tiny.yaml").write_text(TINY % (cluster.folder / "tiny.csv"))
    return "tiny.yaml"


ON_CPU = ("--gpus-per-node=0", "--cpus-per-task=1")


def test_a_training_of_two_tasks_is_queued_again_at_its_time_limit_and_goes_on(cluster, recipe):
    epochs = ["--trainer.max_epochs", "60"]
    two = (*ON_CPU, "--ntasks-per-node=2")
    job = cluster.submit(*two, "experiments/slurm/fit.sbatch", recipe, *epochs)
    run = cluster.folder / "runs" / f"tiny_{job}" / "version_0"
    until(lambda: any(run.glob("checkpoints/last-epoch=00[2-9]*")), 200)
    cluster.ask("scancel", "--batch", "--signal=USR1", job)  # as Slurm does before the limit
    until(lambda: cluster.facts(job)["Restarts"] == "1")
    cluster.wait(job)
    record = json.loads((run / "environment.json").read_text(encoding="utf-8"))
    assert len(record["sittings"]) == 2, cluster.log(job)
    assert {sitting["devices"] for sitting in record["sittings"]} == {2}
    assert record["ending"]["status"] == "complete"
    assert record["ending"]["epochs_done"] == 60
    assert [folder.name for folder in run.parent.iterdir()] == ["version_0"]


def test_a_task_that_fails_ends_the_job_with_its_sentence(cluster, recipe):
    two = (*ON_CPU, "--ntasks-per-node=2")
    wrong = ["--data.batch_size", "3"]
    job = cluster.submit(*two, "experiments/slurm/fit.sbatch", recipe, *wrong)
    cluster.wait(job, "FAILED")
    assert "cannot be shared by 2 devices" in cluster.log(job)
    assert "Traceback" not in cluster.log(job)


def test_what_cannot_run_is_not_submitted(cluster, recipe):
    said = cluster.ask("bash", "experiments/slurm/fit.sbatch", recipe)
    assert "batch_size 4 cannot be shared by 8 devices" in said
    assert "Submitted" not in said


def test_a_script_without_srun_trains_and_tests_on_two_devices(cluster, recipe):
    script = cluster.folder / "alone.sh"
    options = "--trainer.devices 2 --trainer.strategy ddp --trainer.accelerator cpu"
    fit = f"lightning-seg fit -c {recipe} --name alone --trainer.max_epochs 1 {options}"
    test = f"lightning-seg test --ckpt_path best --name alone {options}"
    path = 'export PATH="$PWD/.venv/bin:$PATH"'
    script.write_text("\n".join(["#!/bin/bash", "set -e", path, fit, test, ""]))
    job = cluster.submit("--ntasks=1", script)
    cluster.wait(job)
    (table,) = cluster.folder.glob("runs/alone/version_0/test-*/*/scores.csv")
    assert len(table.read_text(encoding="utf-8").splitlines()) == 1 + 5


def test_a_sweep_is_an_array_of_trainings_that_are_tested(cluster, recipe, monkeypatch):
    monkeypatch.chdir(cluster.folder)
    overrides = ["--trainer.max_epochs", "1"]
    sweep.main(["--recipe", recipe, "--seeds", "1,2", "--slurm", "array.sbatch", *overrides])
    job = cluster.submit("--gpus=0", "--cpus-per-task=1", "array.sbatch")
    for task in (f"{job}_0", f"{job}_1"):
        cluster.wait(task)
    tested = sorted(cluster.folder.glob("runs/tiny_sweep/trial_*/version_0/test-*/*/summary.json"))
    assert len(tested) == 2
    again = cluster.submit("--gpus=0", "--cpus-per-task=1", "array.sbatch")
    cluster.wait(f"{again}_0")
    assert sorted(cluster.folder.glob("runs/tiny_sweep/trial_*/version_*")) == sorted(
        file.parents[2] for file in tested
    )


def test_a_study_on_one_node_goes_on_where_its_job_was_ended(cluster, recipe):
    (cluster.folder / "space.yaml").write_text("model.lr: {float: [0.001, 0.1], log: true}\n")
    study = ["runs/s/study.journal", "--recipe", recipe, "--space", "space.yaml", "--study", "s"]
    more = ["--trials", "3", "--workers", "2", "--trainer.max_epochs", "8", "--pruner", "none"]
    one = ("--gpus-per-node=0", "--cpus-per-task=2", "--ntasks-per-node=1")
    job = cluster.submit(*one, "experiments/slurm/hpo.sbatch", *study, *more)
    until(lambda: any(cluster.folder.glob("runs/s/trial_*/version_0/checkpoints/last*")), 200)
    cluster.ask("scancel", "--batch", "--signal=USR1", job)
    until(lambda: cluster.facts(job)["Restarts"] == "1")
    cluster.wait(job)
    results = sorted(cluster.folder.glob("runs/s/trial_*/result.json"))
    states = [json.loads(file.read_text(encoding="utf-8"))["state"] for file in results]
    assert states == ["complete"] * 3, cluster.log(job)
