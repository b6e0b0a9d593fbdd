"""All that is to be measured on a GPU that is there for minutes only, in one call:

    python -m benchmarks.gpu_session --out DIR [--data DIR --weights DIR] [--minutes 9] [--commit "$(git rev-parse HEAD)"]

Nine phases, each with a share of the time (what one leaves, the next one has), into JSON files in DIR that are whole after every row.
First what says whether runs are right here, in about two minutes (all but ``architectures`` into ``first_minutes.json``):

* ``doctor``: the page of `lightning-seg doctor`.
* ``synced_norms``: synchronized batch norm leaves the logits of MobileNetV2 and EfficientNet as they are.
* ``architectures``: does every network go forward and backward in float16 and in bfloat16?
* ``determinism``: what it costs upsampling and UNet 3+, both settings of one network side by side.
* ``commands``: `fit` on one GPU and on all, `validate` against the score in `fit`, out of memory and SIGTERM on one process, resuming
  on another number of GPUs, compiling. A step that fails has an ``error``; what needs more GPUs than there are is ``skipped``.
* ``studies``: two trials on two GPUs, and one on two devices.

Then speed and a recipe:

* ``throughput``: training images per second of UNet-A's six networks over its four encoders, on data that stays on the device.
* ``peers``: training, steps, inference and memory against a plain Lightning loop over segmentation_models_pytorch and MONAI. What
  fails has a row with its ``error`` (a way to train: ``lost``), what the time cuts short one with ``cut``.
* ``recipe``: ``fit`` and ``test`` of one recipe through the command line, with the GPU's utilisation by epoch. One model of UNet-A:
  ``--phases recipe --overrides "--model.encoder tf_efficientnet_b4 --model.pretrained true"``. A fit that the time cuts short
  is marked ``completed: false``: its scores are those of a schedule that did not end.

On a machine without a package index, carry the wheels of what it lacks (often ``jsonargparse``, ``albumentations``,
``segmentation_models_pytorch``, ``monai`` and what these require) and install them before the call: ``pip install --no-index
--no-deps --target SITE WHEELS/*.whl && PYTHONPATH=SITE python -m benchmarks.gpu_session ...``. ``synced_norms``,
``architectures``, ``determinism`` and ``throughput`` do without. DIR gets eight files, none in a subfolder; the runs themselves,
with their checkpoints, stay in ``--runs``.
``--smoke --device cpu`` runs all of it, tiny, without a GPU.
"""

import argparse
import os
import shlex
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from benchmarks._record import Record, SectionRecord
from lightning_seg.errors import InputError, one_sentence
from lightning_seg.options import OptionParser
from lightning_seg.runs.environment import ROOT, environment

# of the time, in this order
PHASE_SHARES = {
    "doctor": 0.06,
    "synced_norms": 0.02,
    "architectures": 0.06,
    "determinism": 0.03,
    "commands": 0.2,
    "studies": 0.08,
    "throughput": 0.1,
    "peers": 0.22,
    "recipe": 0.23,
}
FIRST = ("doctor", "synced_norms", "determinism", "commands", "studies")
RECIPE = ROOT / "experiments" / "unet_a.yaml"


@dataclass(frozen=True)
class Session:
    """What all phases are told. ``deadline`` of a phase is on the clock of `time.monotonic`."""

    out: Path
    device: torch.device
    smoke: bool
    recipe: Path
    overrides: list[str]
    runs: str


_HOMES = {
    "doctor": ("_gpu_machine", "doctor"),
    "synced_norms": ("_gpu_machine", "synced_norms"),
    "architectures": ("_gpu_networks", "architectures"),
    "determinism": ("_gpu_machine", "price_of_determinism"),
    "commands": ("_gpu_commands", "command_line"),
    "studies": ("_gpu_commands", "studies"),
    "throughput": ("_gpu_networks", "throughput"),
    "peers": ("_gpu_peers", "peers"),
    "recipe": ("_gpu_recipe", "recipe"),
}
Phase = Callable[[Session, Record, float], bool]  # -> False where its time did not suffice


def main(args: list[str]) -> None:
    """Run the phases; one that fails is recorded and does not stop the next one."""
    start = time.monotonic()
    options = _parser().parse_args(args)
    session, minutes = _session(options), options.minutes
    facts = environment(session.device, options.commit) | {"smoke": session.smoke}
    used, first = 0.0, dict[str, Any]()
    for name in options.phases:
        used += PHASE_SHARES[name] / sum(PHASE_SHARES[n] for n in options.phases)
        deadline = start + 60 * minutes * used
        begun = facts | {"phase": name, "status": "running"}
        if name in FIRST:
            record: Record = SectionRecord(session.out / "first_minutes.json", name, begun, first)
        else:
            record = Record(session.out / f"{name}.json", begun)
        _run(name, session, record, deadline)
        print(f"{name}: {record.content['status']} after {record.content['seconds']} s", flush=True)


def _run(name: str, session: Session, record: Record, deadline: float) -> None:
    start = time.monotonic()
    record.update(budget_seconds=round(deadline - start, 1))
    try:
        status = "done" if _phase(name)(session, record, deadline) else "out of time"
        record.update(status=status)
    except (Exception, SystemExit) as error:  # the other phases have their own chance
        record.update(
            status="failed",
            error=f"{type(error).__name__}: {error}",
            traceback=traceback.format_exc(),
        )
    record.update(seconds=round(time.monotonic() - start, 1))


def _phase(name: str) -> Phase:
    """Imported when its turn comes: what one phase lacks does not stop the others."""
    module, function = _HOMES[name]
    return getattr(import_module(f"benchmarks.{module}"), function)


def _session(options: argparse.Namespace) -> Session:
    """The options, checked; folders of data and weights go where the project looks for them."""
    if options.minutes <= 0:
        raise InputError(
            f"--minutes is {options.minutes}; give the minutes that all phases may take together, such as 9."
        )
    if options.device.partition(":")[0] not in ("cuda", "cpu"):
        raise InputError(
            f"--device is {options.device!r}; give cuda, or cpu to try the session out."
        )
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError(
            "torch sees no GPU here; --smoke --device cpu tries everything without one."
        )
    for name in ("data", "weights"):
        folder = getattr(options, name)
        if folder is not None and not folder.is_dir():
            raise InputError(f"--{name} is {str(folder)!r}, which is no folder.")
        if folder is not None:
            os.environ[f"LIGHTNING_SEG_{name.upper()}"] = str(folder.resolve())
    if not options.recipe.is_file():
        raise InputError(
            f"--recipe is {str(options.recipe)!r}, which is no file; give one of experiments/*.yaml."
        )
    if device.type == "cuda":
        # products that a deterministic setting can repeat
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.set_float32_matmul_precision("high")
    options.out.mkdir(parents=True, exist_ok=True)
    return Session(
        options.out,
        device,
        options.smoke,
        options.recipe,
        shlex.split(options.overrides),
        options.runs,
    )


def _parser() -> argparse.ArgumentParser:
    parser = OptionParser(
        prog="python -m benchmarks.gpu_session",
        description="Measure on a GPU that is there for minutes only.",
    )
    parser.add_argument(
        "--output",
        "--out",
        dest="out",
        type=Path,
        required=True,
        metavar="DIR",
        help="where the JSON files go",
    )
    parser.add_argument("--data", type=Path, metavar="DIR", help="instead of $LIGHTNING_SEG_DATA")
    parser.add_argument(
        "--weights", type=Path, metavar="DIR", help="instead of $LIGHTNING_SEG_WEIGHTS"
    )
    parser.add_argument(
        "--limit_minutes",
        "--minutes",
        dest="minutes",
        type=float,
        default=9.0,
        help="for all phases together (default 9)",
    )
    parser.add_argument(
        "--phases",
        nargs="+",
        choices=list(PHASE_SHARES),
        default=list(PHASE_SHARES),
        metavar="PHASE",
    )
    parser.add_argument(
        "--recipe",
        type=Path,
        default=RECIPE,
        metavar="FILE",
        help="default experiments/unet_a.yaml",
    )
    parser.add_argument(
        "--overrides", default="", help='of the recipe, as on the command line: "--model.lr 0.01"'
    )
    parser.add_argument(
        "--runs", default="runs", metavar="DIR", help="where the recipe's run goes (default runs)"
    )
    parser.add_argument("--device", default="cuda", help="cuda (default), or cpu to try it out")
    parser.add_argument(
        "--commit", help="of the code, where this folder is no checkout that could say it"
    )
    parser.add_argument(
        "--smoke", action="store_true", help="tiny: says that it runs, not how fast"
    )
    return parser


if __name__ == "__main__":
    with one_sentence():
        main(sys.argv[1:])
