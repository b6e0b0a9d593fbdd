"""Kills commands at random moments, lets the same command go on, and compares with one that ran through.

    python tools/kills.py [--kills 10] [--only predict ...]

Each command runs in a fork of this process, which gets SIGKILL after a random share of the time that
the whole run took. After so many kills it runs to its end. Results must be the same to the last
byte, but for times.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from experiments import record  # noqa: E402
from experiments.leaderboard.__main__ import main as leaderboard  # noqa: E402
from lightning_seg import cli  # noqa: E402
from lightning_seg.data.__main__ import main as data  # noqa: E402
from lightning_seg.data.sources.phantom import render_phantom  # noqa: E402
from lightning_seg.export.onnx import main as export_onnx  # noqa: E402
from lightning_seg.inference.__main__ import main as predict  # noqa: E402
from lightning_seg.runs import Run  # noqa: E402
from tests.inference.conftest import write_checkpoint  # noqa: E402
from tests.made_runs import make_run  # noqa: E402

FIT = ["--data.protocol", "auto", "--data.size", "16", "--data.batch_size", "4"]
FIT += ["--data.dataset_options", '{"count": 40, "resolution": 16}', "--data.augment", "[]"]
FIT += ["--model.options", "{widths: [2, 4]}", "--trainer.accelerator", "cpu"]
FIT += ["--trainer.max_epochs", "8", "--runs", "runs", "--name", "a"]


def run_fit(common: Path) -> None:
    """A training, from its last checkpoint where there is one."""
    version = Path("runs/a/version_0")
    last = Run.open(version).last if version.is_dir() else None
    if last is None:
        shutil.rmtree("runs", ignore_errors=True)
    cli.run(["fit", *FIT, *(["--ckpt_path", str(last.path)] if last else [])])


def run_predict(common: Path) -> None:
    """Masks of a folder of pictures."""
    options = ["--ckpt_path", str(common / "a.ckpt"), "--devices", "cpu", "--output", "out"]
    predict([*options, "--input", str(common / "pictures")])


def run_prepare(common: Path) -> None:
    """A folder of scaled pictures, which is removed where a kill left a whole one."""
    given = ["--root", str(common), "--size", "32", "--protocol", "auto"]
    options = ["--dataset_options", "{images: pictures, masks: masks}"]
    if not Path("out").exists():
        data(["prepare", "folder", "--output", "out", *given, *options])


def run_record(common: Path) -> None:
    """Results of runs among others."""
    record.main([str(common / "tested"), "--results", "results"])


def run_leaderboard(common: Path) -> None:
    """The pages of recorded results."""
    leaderboard(["--results", str(common / "results"), "--output", "out", "--html", "out/a.html"])


def run_export(common: Path) -> None:
    """A checkpoint as ONNX."""
    export_onnx(["--ckpt_path", str(common / "a.ckpt"), "--output", "a.onnx", "--size", "32"])


COMMANDS: dict[str, Callable[[Path], None]] = {
    "fit": run_fit,
    "predict": run_predict,
    "prepare": run_prepare,
    "record": run_record,
    "leaderboard": run_leaderboard,
    "export": run_export,
}


def make_common(folder: Path) -> None:
    """What the commands start from."""
    write_checkpoint(folder / "a.ckpt")
    for name in ("pictures", "masks"):
        (folder / name).mkdir()
    for number in range(30):
        image, mask = render_phantom("polyp", 42, number, 96)
        Image.fromarray(image).save(folder / "pictures" / f"{number}.png")
        Image.fromarray(np.asarray(mask).reshape(96, 96).astype(np.uint8) * 255).save(
            folder / "masks" / f"{number}.png"
        )
    for number in range(4):
        make_run(folder / "tested" / f"net{number}" / "version_0", 0.7 + 0.02 * number, 40 + number)
    record.main([str(folder / "tested"), "--results", str(folder / "results")])


def start(command: Callable[[Path], None], place: Path, common: Path) -> int:
    """The process that runs a command in a folder."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        os.setsid()
        os.chdir(place)
        log = os.open(place.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        command(common)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def run_through(command: Callable[[Path], None], place: Path, common: Path) -> float:
    """Seconds that a command takes; RuntimeError where it fails."""
    began = time.monotonic()
    if os.waitpid(start(command, place, common), 0)[1]:
        raise RuntimeError(place.with_suffix(".log").read_text()[-2000:])
    return time.monotonic() - began


def contents(place: Path) -> Iterator[tuple[str, str]]:
    """Name and digest of what a command left, without times and places."""
    for file in sorted(place.rglob("*")):
        name = str(file.relative_to(place))
        times = ("events", "environment.json", "inputs.csv", "facts", "hparams", "ledger", "lock")
        if not file.is_file() or any(word in name for word in times):
            continue
        if file.suffix == ".ckpt":
            weights = torch.load(file, weights_only=True)["state_dict"]
            content = b"".join(value.numpy().tobytes() for value in weights.values())
        else:
            content = file.read_bytes().replace(str(place).encode(), b"")
        if file.name in ("predictions.csv", "settings.json"):
            content = b"\n".join(sorted(content.splitlines()))
        yield name, hashlib.sha256(content).hexdigest()


def main() -> int:
    """Kill each command, and print a line for it; 1 where a result is another."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--only", nargs="+", choices=COMMANDS, default=list(COMMANDS))
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    options = parser.parse_args()
    draw, differ = random.Random(options.seed), 0
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        common = Path(scratch) / "common"
        common.mkdir()
        make_common(common)
        for name in options.only:
            whole, killed = Path(scratch) / f"{name}-whole", Path(scratch) / f"{name}-killed"
            whole.mkdir()
            killed.mkdir()
            seconds = run_through(COMMANDS[name], whole, common)
            for _ in range(options.kills):
                child = start(COMMANDS[name], killed, common)
                time.sleep(draw.uniform(0.02, seconds))
                os.killpg(child, signal.SIGKILL)
                os.waitpid(child, 0)
            run_through(COMMANDS[name], killed, common)
            ours, theirs = dict(contents(killed)), dict(contents(whole))
            wrong = sorted(set(ours.items()) ^ set(theirs.items()))
            differ += bool(wrong)
            state = f"DIFFERENT: {json.dumps(wrong[:4])}" if wrong else "identical"
            print(f"{name}: {options.kills} kills, {len(ours)} files {state}", flush=True)
    print(f"seed {options.seed}")
    return int(differ > 0)


if __name__ == "__main__":
    sys.exit(main())
