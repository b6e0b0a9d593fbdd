"""Phases of a GPU session that run whole commands: training on one device and on all, failures, studies."""

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from benchmarks._record import Record
from lightning_seg.runs.environment import ROOT

if TYPE_CHECKING:
    from benchmarks.gpu_session import Session

LIMIT = 120.0  # seconds of one command
ENDING = 60.0  # seconds in which a run ends after SIGTERM
IMAGES = {"train": 24, "val": 13, "test": 9}  # 13: unequal parts on every number of devices
EPOCHS = 6
RECIPE = """
seed_everything: 1
trainer: {{max_epochs: {epochs}, enable_progress_bar: false}}
data:
  {{dataset: phantom_polyp, protocol: {protocol}, size: 64, batch_size: 8, dataset_options: {{resolution: 64}}}}
model: {{architecture: unet, options: {{widths: [8, 16]}}, loss: {{dice: 1.0}}, lr: 0.02}}
"""


class CommandError(RuntimeError):
    """A command did not do what it should."""


@dataclass(frozen=True)
class Bench:
    """The recipe, the folder and the devices of these phases."""

    session: "Session"
    folder: Path
    deadline: float

    @cached_property
    def devices(self) -> int:
        """All GPUs; two processes where the session is tried on the CPU."""
        return torch.cuda.device_count() if self.on_gpu else 2

    @property
    def on_gpu(self) -> bool:
        return self.session.device.type == "cuda"

    @cached_property
    def recipe(self) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        splits = [split for split, number in IMAGES.items() for _ in range(number)]
        rows = [f"polyp-{i:04d},{split}" for i, split in enumerate(splits)]
        head = ["# name: session", "# version: 1", "# rule: the first ones", "id,split"]
        protocol = self.folder / "session.csv"
        protocol.write_text("\n".join([*head, *rows, ""]))
        file = self.folder / "session.yaml"
        file.write_text(RECIPE.format(epochs=EPOCHS, protocol=protocol))
        return file

    def on(self, devices: int) -> list[str]:
        """Options of a run on so many devices."""
        place = ["--trainer.accelerator", "gpu" if self.on_gpu else "cpu"]
        place += ["--trainer.devices", str(devices), "--runs", str(self.folder / "runs")]
        several = ["--trainer.strategy", "ddp"] if devices > 1 else []
        synced = ["--trainer.sync_batchnorm", "true"] if devices > 1 and self.on_gpu else []
        return [*place, *several, *synced]

    def fit(self, name: str, devices: int, *more: str) -> list[str]:
        return ["fit", "-c", str(self.recipe), "--name", name, *self.on(devices), *more]

    def run(self, *args: str, module: str = "lightning_seg", fails: bool = False) -> str:
        """What a command said; CommandError where it fails, or does not although it is to."""
        limit = max(5.0, min(LIMIT, self.deadline - time.monotonic()))
        process = self.start(*args, module=module)
        try:
            said, _ = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            raise CommandError(f"it did not end within {limit:.0f} s") from None
        finally:
            _kill(process)
        if fails == (process.returncode == 0):
            last = said.strip().splitlines()[-1:] or ["nothing said"]
            raise CommandError(f"exit code {process.returncode}: {last[0][-400:]}")
        return said

    def start(self, *args: str, module: str = "lightning_seg") -> subprocess.Popen[str]:
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        return subprocess.Popen(
            [sys.executable, "-m", module, *args],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": path},
            start_new_session=True,
        )

    def checkpoint(self, name: str, which: str) -> Path:
        return max((self.folder / "runs" / name / "version_0" / "checkpoints").glob(f"{which}*"))

    def left(self) -> list[str]:
        """Command lines of processes that still name this folder, after some seconds."""
        end = time.monotonic() + 5
        while True:
            lines = [line for line in _command_lines() if str(self.folder) in line]
            if not lines or time.monotonic() > end:
                return lines
            time.sleep(0.2)


def command_line(session: "Session", record: Record, deadline: float) -> bool:
    """Each step is a row; what fails has an ``error``, what cannot be tried here is ``skipped``."""
    bench = Bench(session, Path(session.runs).resolve() / "session", deadline)
    return _take(bench, record, STEPS)


def studies(session: "Session", record: Record, deadline: float) -> bool:
    """Two trials side by side, and one on two devices."""
    bench = Bench(session, Path(session.runs).resolve() / "session", deadline)
    return _take(bench, record, {"two trials": _two_trials, "two devices": _wide_trial})


def _take(
    bench: Bench, record: Record, steps: dict[str, Callable[[Bench], dict[str, Any]]]
) -> bool:
    record.update(devices=bench.devices, failed=[])
    for name, step in steps.items():
        if time.monotonic() > bench.deadline:
            return False
        start = time.monotonic()
        try:
            row = step(bench)
        except Exception as error:  # of whatever kind: it is what this phase is to find
            row = {"error": f"{type(error).__name__}: {str(error)[-500:]}"}
            record.update(failed=[*record.content["failed"], name])
        record.add(step=name, seconds=round(time.monotonic() - start, 1), **row)
    return True


def _one(bench: Bench) -> dict[str, Any]:
    """16-mixed, clipped gradients, a moving average, augmentation on the device."""
    precision = "16-mixed" if bench.on_gpu else "bf16-mixed"
    options = ["--trainer.precision", precision, "--trainer.gradient_clip_val", "1"]
    options += ["--model.ema", "0.9", "--data.augment_on", "device"]
    bench.run(*bench.fit("one", 1, *options))
    return {"steps": _steps(bench, "one")}


def _all(bench: Bench) -> dict[str, Any]:
    if bench.devices < 2:
        return {"skipped": "there is one GPU"}
    bench.run(*bench.fit("all", bench.devices))
    steps, expected = _steps(bench, "all"), EPOCHS * IMAGES["train"] // 8
    if steps != expected:
        raise CommandError(f"{steps} steps instead of {expected}")
    return {"steps": steps}


def _steps(bench: Bench, name: str) -> int:
    content = torch.load(bench.checkpoint(name, "last"), map_location="cpu", weights_only=True)
    return int(content["global_step"])


def _trained(bench: Bench) -> str:
    return "all" if bench.devices > 1 else "one"


def _validate(bench: Bench) -> dict[str, Any]:
    """The score that chose the epoch, from the checkpoint, against that of `validate`."""
    best = bench.checkpoint(_trained(bench), "best")
    content = torch.load(best, map_location="cpu", weights_only=True)
    states = [state for state in content["callbacks"].values() if "best_model_score" in state]
    inside = next(float(state["best_model_score"]) for state in states if state.get("monitor"))
    bench.run("validate", "--ckpt_path", str(best), *bench.on(1))
    alone = _pooled_dice(_table(bench))
    if abs(inside - alone) > 2e-3:
        raise CommandError(f"{inside:.4f} in fit, {alone:.4f} in validate")
    return {"in_fit": inside, "validate": alone, "telling": inside > 0}


def _same_images(bench: Bench) -> dict[str, Any]:
    if bench.devices < 2:
        return {"skipped": "there is one GPU"}
    best = bench.checkpoint("all", "best")
    found = []
    for devices in (1, bench.devices):
        bench.run("validate", "--ckpt_path", str(best), *bench.on(devices))
        found.append([row["id"] for row in _table(bench)])
    if found[0] != found[1] or len(found[0]) != IMAGES["val"]:
        raise CommandError(f"{len(found[0])} images on one device, {len(found[1])} on all")
    return {"images": len(found[0])}


def _table(bench: Bench) -> list[dict[str, str]]:
    """The validation's table that was written last."""
    files = (bench.folder / "runs" / _trained(bench)).glob("version_0/val-*/*/scores.csv")
    newest = max(files, key=lambda file: file.stat().st_mtime)
    with newest.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def _pooled_dice(rows: list[dict[str, str]]) -> float:
    tp, fp, fn = (sum(float(row[key]) for row in rows) for key in ("tp", "fp", "fn"))
    return 2 * tp / (2 * tp + fp + fn)


def _memory(bench: Bench) -> dict[str, Any]:
    """The last process runs out of memory in its second step."""
    net = ["--model.architecture", "benchmarks._gpu_failing:OutOfMemory", "--trust_code"]
    net += ["--model.options", "{}"]
    said = bench.run(*bench.fit("memory", bench.devices, *net), fails=True)
    told = [line for line in said.splitlines() if line.startswith("error:")]
    return _ended(bench, told)


def _sigterm(bench: Bench) -> dict[str, Any]:
    endless = ["--trainer.max_epochs", "10000"]
    process = bench.start(*bench.fit("sigterm", bench.devices, *endless))
    try:
        run = bench.folder / "runs" / "sigterm"
        while not any(run.glob("version_0/checkpoints/last*")):
            if process.poll() is not None or time.monotonic() > bench.deadline:
                raise CommandError("it saved no epoch")
            time.sleep(0.2)
        children = [pid for pid in _children(process.pid) if "--name" in _command_of(pid)]
        os.kill(children[-1] if children else process.pid, signal.SIGTERM)
        said, _ = process.communicate(timeout=ENDING)
    except subprocess.TimeoutExpired:
        raise CommandError(f"it did not end within {ENDING:.0f} s") from None
    finally:
        _kill(process)
    return _ended(bench, [f"exit code {process.returncode}", *said.strip().splitlines()[-1:]])


def _ended(bench: Bench, told: list[str]) -> dict[str, Any]:
    left = bench.left()
    if left:
        raise CommandError(f"{len(left)} processes are left")
    return {"told": told}


def _resume(bench: Bench) -> dict[str, Any]:
    """From all devices to one; where there is one GPU, from one to one."""
    name = _trained(bench)
    last = str(bench.checkpoint(name, "last"))
    more = ["--trainer.max_epochs", str(EPOCHS + 1), "--ckpt_path", last]
    bench.run(*bench.fit(name, 1, *more))
    steps, expected = _steps(bench, name), (EPOCHS + 1) * IMAGES["train"] // 8
    if steps != expected:
        raise CommandError(f"{steps} steps instead of {expected}")
    return {"steps": steps}


def _compile(bench: Bench) -> dict[str, Any]:
    if bench.session.smoke:
        return {"skipped": "a CPU compiles for minutes"}
    said = bench.run(*bench.fit("compiled", bench.devices, "--model.compile", "true"))
    return {"told": [line for line in said.splitlines() if line.startswith("compile:")]}


def _study(bench: Bench, name: str, *more: str) -> dict[str, Any]:
    space = bench.folder / "space.yaml"
    recipe = str(bench.recipe)
    space.write_text("model.lr: {float: [0.001, 0.01], log: true}\n")
    args = ["run", "--recipe", recipe, "--space", str(space), "--study", name, "--pruner", "none"]
    place = ["--runs", str(bench.folder / "runs"), "--trainer.max_epochs", "1"]
    place += ["--trainer.accelerator", "gpu" if bench.on_gpu else "cpu"]
    said = bench.run(*args, *place, *more, module="hpo")
    results = sorted((bench.folder / "runs" / name).glob("trial_*/result.json"))
    if "failed" in said.splitlines()[-1] or not results:
        raise CommandError(said[-400:])
    return {"trials": len(results)}


def _two_trials(bench: Bench) -> dict[str, Any]:
    return _study(bench, "side_by_side", "--trials", "2", "--workers", str(min(2, bench.devices)))


def _wide_trial(bench: Bench) -> dict[str, Any]:
    if bench.devices < 2:
        return {"skipped": "there is one GPU"}
    more = ["--trials", "1", "--workers", "1", "--devices-per-trial", "2"]
    return _study(bench, "wide", *more)


STEPS: dict[str, Callable[[Bench], dict[str, Any]]] = {
    "fit on one device": _one,
    "fit on all devices": _all,
    "validate equals the score in fit": _validate,
    "the same images on one device and on all": _same_images,
    "out of memory on one process": _memory,
    "SIGTERM to one process": _sigterm,
    "resume on another number of devices": _resume,
    "compile on all devices": _compile,
}


def _kill(process: subprocess.Popen[str]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait()


def _command_lines() -> Iterator[str]:
    for folder in Path("/proc").glob("[0-9]*"):
        yield _command_of(int(folder.name))


def _command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8").replace("\0", " ")
    except OSError:
        return ""


def _children(pid: int) -> list[int]:
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8")
    except OSError:
        return []
    return [int(child) for child in text.split()]
