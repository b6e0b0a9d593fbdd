"""The training of a trial: ordinary runs through the ordinary command line, watched by one
callback."""

import importlib.util
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from hpo.reporter import TrialReporter
from hpo.trial_messages import TrialChannel, TrialJob, TrialResult
from lightning_seg import cli
from lightning_seg.errors import InputError
from lightning_seg.files.trust import FLAG, names_code
from lightning_seg.runs import Run
from lightning_seg.training.processes import usable_port

try:
    import resource
except ImportError:  # Windows has none
    resource = None  # type: ignore[assignment]


@dataclass(frozen=True)
class FittedRun:
    """The outcome of one training of a trial."""

    history: dict[int, float]  # epoch -> the objective
    seconds: float
    pruned: bool
    memory: float  # GiB at most
    cost: float | None  # gmacs or latency, where the study minimizes one
    best: str  # the checkpoint

    def value(self, job: TrialJob) -> float:
        """The objective of the best epoch."""
        return max(self.history.values()) if job.maximize else min(self.history.values())


class _QuietChannel:
    """The channel of one replica: its epochs are not those of the trial."""

    def __init__(self, facts: Callable[..., None]) -> None:
        self.facts = facts

    def report(self, step: int, value: float) -> bool:
        return False


def train(job: TrialJob, channel: TrialChannel) -> TrialResult:
    """Train once, or each replica with a report after it; test where the job says so."""
    if not job.replicas:
        fitted = _fit(job, Path(job.folder), job.args, channel)
        if job.test and not fitted.pruned:
            _test(fitted.best, Path(job.folder) / "version_0", job.devices, _trust(job.args))
        return _result(job, [fitted], fitted.pruned)
    done: list[FittedRun] = []
    fit = _fit_apart if job.devices > 1 else _fit
    for number, (name, own) in enumerate(job.replicas.items()):
        folder = Path(f"{job.folder}-{name}")
        args = [*job.args, *own, "--name", folder.name]
        done.append(fit(job, folder, args, _QuietChannel(channel.facts), name))
        stop = channel.report(number, done[-1].value(job))
        if stop and number + 1 < len(job.replicas):
            return _result(job, done, True)
    return _result(job, done, False)


def _fit(
    job: TrialJob, folder: Path, args: list[str], channel: Any, replica: str = ""
) -> FittedRun:
    """A new run, or the rest of one whose process died."""
    version = folder / "version_0"
    last = Run.open(version).last if version.is_dir() else None
    if last is None:
        shutil.rmtree(version, ignore_errors=True)  # it died within its first epoch
    again = ["--ckpt_path", str(last.path), *_trust(args)] if last else []
    command = ["fit", *args, *again]
    if job.devices > 1:
        # Lightning starts the other processes with the arguments of this one: see `main` below
        sys.argv = ["hpo.training", job.objective, *command]
        sys.modules["__main__"].__spec__ = importlib.util.find_spec("hpo.training")
        # another program may have taken the port since the study began
        port = usable_port(int(os.environ.get("MASTER_PORT", 0)))
        os.environ["MASTER_PORT"] = str(port)
    reporter = TrialReporter(job.objective, channel, replica, job.data.get(replica, ""))
    run = cli.run(command, callbacks=[reporter])
    checkpoint: Any = run.trainer.checkpoint_callback
    return FittedRun(
        history=reporter.history,
        seconds=reporter.elapsed,
        pruned=reporter.pruned,
        memory=_memory(),
        cost=None if job.cost is None or reporter.pruned else _cost(run, job.cost),
        best=checkpoint.best_model_path,
    )


def _fit_apart(
    job: TrialJob, folder: Path, args: list[str], channel: Any, replica: str
) -> FittedRun:
    """`_fit` in a process of its own: one that has been part of a group cannot found another."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    child = context.Process(target=_replica, args=(job, folder, args, theirs, replica))
    child.start()
    theirs.close()
    try:
        while True:
            kind, content = ours.recv()
            if kind == "facts":
                channel.facts(**content)
            elif kind == "failed":
                raise content
            else:
                return content
    except EOFError:
        child.join(10)
        raise SystemExit(child.exitcode) from None
    finally:
        child.join(10)


def _replica(
    job: TrialJob, folder: Path, args: list[str], connection: Connection, replica: str
) -> None:
    """The body of that process."""

    def facts(**content: Any) -> None:
        connection.send(("facts", content))

    try:
        connection.send(("fitted", _fit(job, folder, args, _QuietChannel(facts), replica)))
    except InputError as error:
        connection.send(("failed", error))


def _trust(args: list[str]) -> list[str]:
    """What the command line of a trial allows holds for the checkpoints that it leaves."""
    return [FLAG] if names_code(args) else []


def _test(checkpoint: str, version: Path, devices: int, trust: list[str]) -> None:
    """Once: a trial that died after its test does not look again."""
    if any(version.glob("test-*/**/summary.json")):
        return
    command = ["test", "--ckpt_path", checkpoint, *trust]
    if devices == 1:
        cli.run(command)
        return
    group = ("LOCAL_RANK", "RANK", "WORLD_SIZE", "NODE_RANK", "MASTER_")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(group)}
    command = [sys.executable, "-m", "lightning_seg", *command, "--trainer.devices", "1"]
    subprocess.run(command, env=environment, check=True)


def _result(job: TrialJob, done: list[FittedRun], pruned: bool) -> TrialResult:
    facts = {
        "seconds": round(sum(fitted.seconds for fitted in done), 1),
        "epochs": sum(max(fitted.history) + 1 for fitted in done),
        "memory": round(max(fitted.memory for fitted in done), 3),
    }
    if pruned:
        return TrialResult("pruned", facts=facts)
    values = [sum(fitted.value(job) for fitted in done) / len(done)]
    cost = done[-1].cost
    return TrialResult("complete", values if cost is None else [*values, cost], facts=facts)


def _memory() -> float:
    """GiB at most: of the GPU where there is one, else of this process; 0 where the system does not
    say."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_reserved() / 2**30
    if resource is None:
        return 0.0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _cost(run: cli.CLI, name: str) -> float:
    """The cost of one image of the training's size in the network.

    gmacs: 10^9 multiply-adds. latency: milliseconds, the median of 23.
    """
    net = run.model.net.eval()
    size = run.datamodule.hparams["size"] or run.datamodule.hparams["crop"] or 256
    sides = size if isinstance(size, list | tuple) else (size, size)
    image = torch.rand(1, run.datamodule.in_channels, *sides)
    image = image.to(next(net.parameters()).device).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        if name == "gmacs":
            with FlopCounterMode(display=False) as counter:
                net(image)
            return counter.get_total_flops() / 2e9
        return statistics.median(_seconds(net, image) for _ in range(23)) * 1e3


def _seconds(net: torch.nn.Module, image: torch.Tensor) -> float:
    start = time.perf_counter()
    net(image)
    if image.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start


def main(args: list[str]) -> None:
    """A further process of a trial on several devices: the same run, without a voice of its own."""
    objective, *command = args
    cli.main(command, callbacks=[TrialReporter(objective, None)])


if __name__ == "__main__":
    main(sys.argv[1:])
