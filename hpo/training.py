"""The training of a trial: ordinary runs through the ordinary command line, watched by one callback."""

import importlib.util
import math
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch.utils.flop_counter import FlopCounterMode

from hpo.trial_process import TrainingError, TrialChannel, TrialJob, TrialResult
from lightning_seg.cli import CLI, run
from lightning_seg.errors import InputError


class Reporter(L.Callback):
    """Reports the objective after each epoch and stops where the pruner says so, on all devices alike.

    What it has seen goes with the checkpoint, so that a trial that is taken up again has its whole curve.
    """

    def __init__(self, objective: str, channel: TrialChannel | None) -> None:
        self.objective, self.channel = objective, channel
        self.history: dict[int, float] = {}  # epoch -> value
        self.seconds = 0.0
        self.pruned = False
        self._start = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        return {"history": self.history, "seconds": self._elapsed()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.history, self.seconds = dict(state_dict["history"]), state_dict["seconds"]

    def _elapsed(self) -> float:
        return self.seconds + time.monotonic() - self._start

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.channel is not None and trainer.is_global_zero:
            self.channel.facts(max_epochs=trainer.max_epochs)
            for epoch, value in self.history.items():
                self.channel.report(epoch, value)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        value, loss = (float(self._metric(trainer, name)) for name in (self.objective, "val/loss"))
        if not (math.isfinite(value) and math.isfinite(loss)):
            name = self.objective if not math.isfinite(value) else "val/loss"
            raise TrainingError(f"{name} is not a number in epoch {trainer.current_epoch + 1}")
        self.history = {
            epoch: kept for epoch, kept in self.history.items() if epoch < trainer.current_epoch
        }
        self.history[trainer.current_epoch] = value
        stop = (
            self.channel.report(trainer.current_epoch, value) if self.channel is not None else False
        )
        at_end = (
            trainer.current_epoch + 1 == trainer.max_epochs
        )  # then there is nothing left to save
        if trainer.strategy.broadcast(stop) and not at_end:
            self.pruned = trainer.should_stop = True

    def _metric(self, trainer: L.Trainer, name: str) -> Any:
        if name not in trainer.callback_metrics:
            known = ", ".join(
                sorted(key for key in trainer.callback_metrics if key.startswith("val/"))
            )
            raise InputError(
                f"the objective {name!r} is not logged in this run; there are {known}."
            )
        return trainer.callback_metrics[name]


class _Quiet:
    """The channel of one replica: its epochs are not those of the trial."""

    def __init__(self, channel: TrialChannel) -> None:
        self._channel = channel

    def report(self, step: int, value: float) -> bool:
        return False

    def facts(self, **facts: Any) -> None:
        self._channel.facts(**facts)


def train(job: TrialJob, channel: TrialChannel) -> TrialResult:
    """Train once, or each replica with a report after it; test where the job says so."""
    if not job.replicas:
        cli, reporter = _fit(job, Path(job.folder), job.args, channel)
        if job.test and not reporter.pruned:
            _test(cli, Path(job.folder) / "version_0", job.devices)
        return _result(job, cli, [reporter], reporter.pruned)
    reporters: list[Reporter] = []
    for number, (name, own) in enumerate(job.replicas.items()):
        folder = Path(f"{job.folder}-{name}")
        cli, reporter = _fit(job, folder, [*job.args, *own, "--name", folder.name], _Quiet(channel))
        reporters.append(reporter)
        if channel.report(number, _best(reporter, job)) and number + 1 < len(job.replicas):
            return _result(job, cli, reporters, True)
    return _result(job, cli, reporters, False)


def _fit(job: TrialJob, folder: Path, args: list[str], channel: Any) -> tuple[CLI, Reporter]:
    """A new run, or the rest of one whose process died."""
    version = folder / "version_0"
    last = max(version.glob("checkpoints/last*.ckpt"), default=None)
    if last is None:
        shutil.rmtree(version, ignore_errors=True)  # it died within its first epoch
    command = ["fit", *args, *(["--ckpt_path", str(last), "--trust_code"] if last else [])]
    if (
        job.devices > 1
    ):  # Lightning starts the other processes with the arguments of this one: see `main` below
        sys.argv = ["hpo.training", job.objective, *command]
        sys.modules["__main__"].__spec__ = importlib.util.find_spec("hpo.training")
    reporter = Reporter(job.objective, channel)
    return run(command, callbacks=[reporter]), reporter


def _test(cli: CLI, version: Path, devices: int) -> None:
    """Once: a trial that died after its test does not look again."""
    if any(version.glob("test-*/**/summary.json")):
        return
    checkpoint: Any = cli.trainer.checkpoint_callback
    command = ["test", "--ckpt_path", checkpoint.best_model_path, "--trust_code"]
    if devices == 1:
        run(command)
        return
    group = ("LOCAL_RANK", "RANK", "WORLD_SIZE", "NODE_RANK", "MASTER_")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(group)}
    command = [sys.executable, "-m", "lightning_seg", *command, "--trainer.devices", "1"]
    subprocess.run(command, env=environment, check=True)


def _best(reporter: Reporter, job: TrialJob) -> float:
    return max(reporter.history.values()) if job.maximize else min(reporter.history.values())


def _result(job: TrialJob, cli: CLI, reporters: list[Reporter], pruned: bool) -> TrialResult:
    values = [_best(reporter, job) for reporter in reporters]
    facts = {
        "seconds": round(sum(reporter._elapsed() for reporter in reporters), 1),
        "epochs": sum(max(reporter.history) + 1 for reporter in reporters),
        "memory": round(_memory(), 3),
    }
    if pruned:
        return TrialResult("pruned", facts=facts)
    value = sum(values) / len(values)
    return TrialResult(
        "complete", [value, _cost(cli, job.cost)] if job.cost else [value], facts=facts
    )


def _memory() -> float:
    """GiB at most: of the GPU where there is one, else of this process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_reserved() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _cost(cli: CLI, name: str) -> float:
    """gmacs (10^9 multiply-adds) or latency (ms, median of 20) of one image of the training's size in the network."""
    net = cli.model.net.eval()
    size = cli.datamodule.hparams["size"] or 256
    image = torch.rand(
        1, cli.datamodule.in_channels, *(size if isinstance(size, list | tuple) else (size, size))
    )
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
    run(command, callbacks=[Reporter(objective, None)])


if __name__ == "__main__":
    main(sys.argv[1:])
