"""The jobs of experiments/slurm under a Slurm of two nodes on this machine, with two tasks on the CPU."""

import getpass
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from experiments import sweep
from lightning_seg.training import devices
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
FirstJobId={ports[1]}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
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
NodeName=n0 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=64 State=UNKNOWN
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[3]} CPUs=64 State=UNKNOWN
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
    """A controller and two nodes in a folder of their own; jobs run in it as in a checkout.

    The last digits of a job's number choose the port on which its processes meet: other ones each
    time, so that two such clusters do not take each other's.
    """

    def __init__(self, folder):
        self.folder = folder
        for name in ("state", "spool-n0", "spool-n1"):
            (folder / name).mkdir()
        (folder / ".venv").symlink_to(sys.prefix)
        for name in ("experiments", "hpo"):
            (folder / name).symlink_to(ROOT / name)
        facts = {"host": socket.gethostname().split(".")[0], "user": getpass.getuser()}
        text = CONFIG.format(**facts, folder=folder, ports=free_ports(4))
        (folder / "slurm.conf").write_text(text)
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        self.environment = {key: v for key, v in os.environ.items() if not key.startswith("SLURM")}
        self.environment |= {"SLURM_CONF": str(folder / "slurm.conf"), "PYTHONPATH": path}
        # n0 is no address
        self.environment |= {"OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1"}
        self.hastened: set[str] = set()
        self.daemons = [self._daemon("slurmctld")]
        self.daemons += [self._daemon("slurmd", "-N", node) for node in ("n0", "n1")]

    def _daemon(self, name, *options):
        log = (self.folder / f"{name}{''.join(options)}.log").open("w")
        command = [name, "-D", "-f", str(self.folder / "slurm.conf"), *options]
        return subprocess.Popen(command, stdout=log, stderr=log, env=self.environment)

    def end(self):
        self.ask("scancel", "--state=RUNNING", "--user", getpass.getuser())
        for daemon in reversed(self.daemons):
            daemon.terminate()
            try:
                daemon.wait(30)
            except subprocess.TimeoutExpired:  # it waits for a task that was not ended
                daemon.kill()
                daemon.wait()

    def ask(self, *command):
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True
        )
        return done.stdout + done.stderr

    def ready(self):
        return self.ask("sinfo", "--noheader", "--Node").count("idle") == 2

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


def test_two_nodes_with_disks_of_their_own_train_or_end_with_one_sentence(cluster, recipe):
    """The working folder of each is its disk."""
    for node in ("0", "1"):
        (cluster.folder / "disk" / node).mkdir(parents=True)
        shutil.copy(cluster.folder / recipe, cluster.folder / "disk" / node)
    fit = f"lightning-seg fit -c {recipe} --name disks --trainer.max_epochs 1"
    lines = ['export PATH="$PWD/.venv/bin:$PATH"']
    lines += ["cat > on_node.sh <<'end'", "cd disk/$SLURM_NODEID"]
    lines += [f"exec {fit} --trainer.num_nodes 2 --trainer.strategy ddp", "end"]
    lines += ["srun --kill-on-bad-exit=1 --wait=60 bash on_node.sh"]
    (cluster.folder / "disks.sh").write_text("\n".join(["#!/bin/bash", *lines, ""]))
    two = ("--nodes=2", "--ntasks-per-node=1", "--cpus-per-task=1", "disks.sh")
    job = cluster.submit(*two)
    cluster.wait(job)
    assert "2 x cpu" in cluster.log(job)
    assert list(cluster.folder.glob("disk/0/runs/disks/version_0/checkpoints/last*"))
    assert not (cluster.folder / "disk" / "1" / "runs").exists(), "node 0 alone writes"
    other = cluster.folder / "disk" / "1" / recipe
    other.write_text(other.read_text(encoding="utf-8").replace("lr: 0.01", "lr: 0.02"))
    job = cluster.submit(*two)
    cluster.wait(job, "FAILED")
    assert "do not have the same options: node 0 (" in cluster.log(job)
    assert "Traceback" not in cluster.log(job)


def test_a_job_of_two_nodes_trains_as_one_of_one(cluster, recipe):
    two = (*ON_CPU, "--nodes=2", "--ntasks-per-node=1")
    job = cluster.submit(*two, "experiments/slurm/fit.sbatch", recipe, "--trainer.max_epochs", "1")
    cluster.wait(job)
    run = cluster.folder / "runs" / f"tiny_{job}" / "version_0"
    record = json.loads((run / "environment.json").read_text(encoding="utf-8"))
    assert record["sittings"][0]["devices"] == 2
    assert record["ending"]["status"] == "complete"


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


# what a task is told, a line each, and whether it has a terminal
TELL = """
(
  echo RUN=$(env | grep ^SLURM_ | sort | sed 's/ /_/g')
  if (: < /dev/tty) 2> /dev/null; then echo terminal; else echo none; fi
) | xargs
"""


def test_tasks_of_srun_are_told_from_a_session_whatever_the_job_is_called(cluster, monkeypatch):
    (cluster.folder / "tell.sh").write_text(TELL)
    (cluster.folder / "within.sh").write_text("bash tell.sh\nsrun --overlap bash tell.sh\n")
    two = ["--ntasks=2", "--ntasks-per-node=2"]
    pty = " ".join(["srun", *two, "--pty", "bash", "within.sh"])
    commands = {
        "bash": ["srun", *two, "bash", "tell.sh"],
        "interactive": ["salloc", *two, "srun", "bash", "tell.sh"],
        "within": ["script", "--quiet", "--command", pty, "/dev/null"],
    }
    found = {
        name: _starters(cluster.ask(*command), monkeypatch) for name, command in commands.items()
    }
    steps = ["SLURMEnvironment"] * 2
    assert found == {
        "bash": steps,
        "interactive": steps,
        "within": ["LightningEnvironment", *steps],
    }


def _starters(said, monkeypatch):
    """Who starts the processes of each task that printed what it is told."""
    kinds = []
    for line in re.findall("RUN=(.*)", said):
        *variables, terminal = line.split()
        with monkeypatch.context() as patch:
            for variable in variables:
                patch.setenv(*variable.split("=", 1))
            patch.setattr(devices, "_has_terminal", lambda has=terminal == "terminal": has)
            kinds.append(type(devices.cluster_environment()).__name__)
    return kinds


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


def test_a_task_that_is_queued_again_leaves_the_others_of_its_array(cluster, recipe, monkeypatch):
    monkeypatch.chdir(cluster.folder)
    grid = ["--recipe", recipe, "--seeds", "1,2", "--study", "again", "--slurm", "again.sbatch"]
    sweep.main([*grid, "--trainer.max_epochs", "60"])
    job = cluster.submit("--gpus=0", "--cpus-per-task=1", "again.sbatch")
    first, last = (cluster.folder / "runs" / "again" / f"trial_000{slot}" for slot in (0, 1))
    until(lambda: all(any(run.rglob("last-epoch=00[2-9]*")) for run in (first, last)), 200)
    # Slurm gives the last task the number of the whole array
    cluster.ask("scancel", "--batch", "--signal=USR1", f"{job}_1")
    until(lambda: cluster.facts(f"{job}_1")["Restarts"] == "1")
    assert not list(last.rglob("summary.json")), "a training that was ended is not tested"
    for task in (f"{job}_0", f"{job}_1"):
        cluster.wait(task)
    for run, sittings in ((first, 1), (last, 2)):
        record = json.loads((run / "version_0" / "environment.json").read_text(encoding="utf-8"))
        assert len(record["sittings"]) == sittings, cluster.log(job)
        assert record["ending"]["epochs_done"] == 60
        assert len(list(run.glob("version_0/test-*/*/summary.json"))) == 1


def test_two_jobs_of_an_array_share_a_sweep_that_goes_on_where_one_was_ended(cluster, recipe):
    study = ["runs/shared/study.journal", "--recipe", recipe, "--seeds", "1-3", "--study", "shared"]
    more = ["--workers", "1", "--trainer.max_epochs", "12"]
    two = ("--gpus-per-node=0", "--cpus-per-task=1", "--ntasks-per-node=1", "--array=0-1")
    job = cluster.submit(*two, "experiments/slurm/sweep.sbatch", *study, *more)
    until(lambda: len(list(cluster.folder.glob("runs/shared/trial_*/**/last*"))) > 1, 250)
    cluster.ask("scancel", "--batch", "--signal=USR1", f"{job}_1")
    until(lambda: cluster.facts(f"{job}_1")["Restarts"] == "1")
    for task in (f"{job}_0", f"{job}_1"):
        cluster.wait(task, seconds=600)
    runs = sorted(cluster.folder.glob("runs/shared/trial_*"))
    results = [json.loads((run / "result.json").read_text(encoding="utf-8")) for run in runs]
    assert [result["state"] for result in results] == ["complete"] * 3, cluster.log(job)
    assert [len(list(run.rglob("summary.json"))) for run in runs] == [1] * 3
    ledger = (cluster.folder / "runs" / "ledger.csv").read_text(encoding="utf-8")
    assert ledger.count("runs/shared/trial_") == 3, "each is tested once"


def test_a_study_on_one_node_goes_on_where_its_job_was_ended(cluster, recipe):
    (cluster.folder / "space.yaml").write_text("model.lr: {float: [0.001, 0.1], log: true}\n")
    study = ["runs/s/study.journal", "--recipe", recipe, "--space", "space.yaml", "--study", "s"]
    more = ["--trials", "3", "--workers", "2", "--trainer.max_epochs", "5", "--pruner", "none"]
    one = ("--gpus-per-node=0", "--cpus-per-task=2", "--ntasks-per-node=1")
    job = cluster.submit(*one, "experiments/slurm/hpo.sbatch", *study, *more)
    until(lambda: any(cluster.folder.glob("runs/s/trial_*/version_0/checkpoints/last*")), 200)
    cluster.ask("scancel", "--batch", "--signal=USR1", job)
    until(lambda: cluster.facts(job)["Restarts"] == "1")
    cluster.wait(job)
    results = sorted(cluster.folder.glob("runs/s/trial_*/result.json"))
    states = [json.loads(file.read_text(encoding="utf-8"))["state"] for file in results]
    assert states == ["complete"] * 3, cluster.log(job)
