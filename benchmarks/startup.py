"""Seconds until something happens: `--help`, the import, the first batch and the first step; ours and the plain loop's."""

import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch

from benchmarks._peers import ENDLESS, LONG, PAIRS, SMOKE_PAIRS, write_pictures
from benchmarks._section import Bars, Section, spread, table
from lightning_seg.runs.environment import ROOT

REPETITIONS = 3
COMMANDS = {
    "lightning-seg --help": ["-m", "lightning_seg", "--help"],
    "lightning-seg models": ["-m", "lightning_seg", "models"],
    "lightning-seg predict --help": ["-m", "lightning_seg", "predict", "--help"],
    "lightning-seg test --help": ["-m", "lightning_seg", "test", "--help"],
    "lightning-seg export --help": ["-m", "lightning_seg", "export", "--help"],
    "lightning-seg data --help": ["-m", "lightning_seg", "data", "--help"],
    "import lightning_seg, which imports the rest when it is used": ["-c", "import lightning_seg"],
    "lightning-seg report --help": ["-m", "lightning_seg", "report", "--help"],
    "lightning-seg fit --help": ["-m", "lightning_seg", "fit", "--help"],
    "the imports of lightning-seg fit": [
        "-c",
        "from lightning_seg.cli.light_imports import lean_lightning; lean_lightning(); "
        "import lightning_seg.cli.command_line, albumentations, cv2",
    ],
    "the imports of the plain loop": [
        "-c",
        "import lightning, segmentation_models_pytorch, albumentations, torchmetrics, cv2",
    ],
}
Seconds = dict[str, list[float]]


def run(smoke: bool = False, compiled: bool = False) -> Section:
    """The section of the results; ``smoke``: once and tiny, ``compiled`` changes nothing."""
    repetitions = 1 if smoke else REPETITIONS
    commands = dict(list(COMMANDS.items())[: 1 if smoke else None])
    found: Seconds = {name: [] for name in commands}
    processor: Seconds = {name: [] for name in commands}
    for _ in range(repetitions):
        for name, command in commands.items():
            before = _processor_seconds()
            found[name].append(_seconds(command))
            processor[name].append(_processor_seconds() - before)
    with tempfile.TemporaryDirectory() as folder:
        kind, starts = _starts(Path(folder), smoke, repetitions)
    return _section(found, processor, starts, kind, repetitions)


def _processor_seconds() -> float:
    """Of all processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _seconds(command: Sequence[str]) -> float:
    begin = time.perf_counter()
    subprocess.run([sys.executable, *command], cwd=ROOT, check=True, capture_output=True)
    return time.perf_counter() - begin


def _starts(scratch: Path, smoke: bool, repetitions: int) -> tuple[str, dict[str, Seconds]]:
    """Of trainings in fresh processes: ours without and with a cache of decoded images, and the plain loop."""
    file, kind = write_pictures(scratch, smoke)
    size, batch, pair = (32, 2, SMOKE_PAIRS[0]) if smoke else (256, 8, PAIRS[0])
    found: dict[str, Seconds] = {}
    for repetition in range(repetitions):
        runs = scratch / str(repetition)
        ours = ["ours", *pair.our_args(file, size, batch, runs, *ENDLESS)]
        plain = [
            "plain",
            *pair.plain_args(
                file, size, batch, runs=runs / "plain", epochs=LONG, validate_every=LONG
            ),
        ]
        ways = [
            ("ours, first run on these data", ours),
            ("ours, later runs", ours),
            ("plain", plain),
        ]
        for name, args in ways[1:] if smoke else ways:
            for what, seconds in _start(args).items():
                found.setdefault(name, {}).setdefault(what, []).append(seconds)
    return f"{kind} at {size} x {size}, {pair.name}", found


def _start(args: Sequence[str]) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.startup", str(time.monotonic()), *args]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    first, second = done.stdout.split()[-2:]
    return {"first batch": float(first), "first step": float(second)}


class FirstStep(L.Callback):
    """Prints the seconds since ``start`` at the first batch and after the first step, and ends the training."""

    def __init__(self, start: float) -> None:
        self.start = start

    def on_train_batch_start(self, *args: Any) -> None:
        print(f"{time.monotonic() - self.start:.3f}")

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        print(f"{time.monotonic() - self.start:.3f}", flush=True)
        raise SystemExit(0)


def _train(start: float, way: str, args: list[str]) -> None:
    if way == "ours":
        from lightning_seg.cli import run as fit

        fit(args, [FirstStep(start)])
    else:
        from benchmarks import _plain

        _plain.main(args, [FirstStep(start)])


def _section(
    commands: Seconds,
    processor: Seconds,
    starts: dict[str, Seconds],
    kind: str,
    repetitions: int,
) -> Section:
    caption = (
        f"Seconds, each in a fresh process, in turn; median [quartiles] of {repetitions}. Training: {kind}; from the command until "
        "the first batch is there and the first step is done. Ours decodes all images once, and finds them decoded from then on. Each "
        "with its default precision and its own decoder."
    )
    first = table(
        ("command", "seconds", "CPU seconds"),
        [
            [name, spread(values, 2), spread(processor[name], 2)]
            for name, values in commands.items()
        ],
    )
    lines = [
        [name, *(spread(values, 1) for values in found.values())] for name, found in starts.items()
    ]
    second = table(("training", "first batch, s", "first step, s"), lines)
    bars = commands | {f"first step: {name}": found["first step"] for name, found in starts.items()}
    chart = Bars("Seconds from the command on", "s", bars)
    return Section(
        f"{caption}\n\n{first}\n\n{second}",
        {"commands": commands, "processor": processor, "trainings": starts},
        {"seconds": chart},
    )


if __name__ == "__main__":
    _train(float(sys.argv[1]), sys.argv[2], sys.argv[3:])
