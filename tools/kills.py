"""Kills commands at random moments, lets the same command go on, and compares with one that ran through.

    python tools/kills.py [--kills 10] [--only predict ...]

Each command runs in a fork of this process, which gets SIGKILL with its group after a random share of
the time that the whole run took. After so many kills it runs to its end. Results must be the same to
the last byte, but for times; of a study, each slot must have one result, with the same parameters and
values.
"""

import argparse
import csv
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
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch
import yaml
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from experiments import record, reproduce, sweep  # noqa: E402
from experiments.leaderboard.__main__ import main as leaderboard  # noqa: E402
from hpo import queue  # noqa: E402
from hpo import run as search  # noqa: E402
from hpo.storage import open_storage  # noqa: E402
from lightning_seg import cli  # noqa: E402
from lightning_seg.analysis.calibrate import main as calibrate  # noqa: E402
from lightning_seg.data.__main__ import main as data  # noqa: E402
from lightning_seg.data.sources.phantom import render_phantom  # noqa: E402
from lightning_seg.export.onnx import main as export_onnx  # noqa: E402
from lightning_seg.inference.__main__ import main as predict  # noqa: E402
from lightning_seg.reports.scored_files import main as score  # noqa: E402
from lightning_seg.runs import Run  # noqa: E402
from tests.inference.conftest import write_checkpoint  # noqa: E402
from tests.made_runs import make_run  # noqa: E402

FIT = ["--data.protocol", "auto", "--data.size", "16", "--data.batch_size", "4"]
FIT += ["--data.dataset", "phantom_polyp"]
FIT += ["--data.dataset_options", '{"count": 40, "resolution": 16}', "--data.augment", "[]"]
FIT += ["--model.options", "{widths: [2, 4]}", "--trainer.accelerator", "cpu"]
FIT += ["--trainer.max_epochs", "8", "--runs", "runs", "--name", "a"]

RECIPE = {
    "seed_everything": 1,
    "model": {"options": {"widths": [2, 4]}},
    "data": {
        "dataset": "phantom_polyp",
        "dataset_options": {"count": 40, "resolution": 16},
        "protocol": "auto",
        "size": 16,
        "batch_size": 4,
        "num_workers": 0,
        "augment": [],
    },
    "trainer": {"accelerator": "cpu", "max_epochs": 8, "enable_progress_bar": False},
}
SWEEP = {
    "seeds": [1, 2],
    "models": [
        {"name": "plain", "overrides": {}},
        {"name": "fast", "overrides": {"model.lr": 0.01}},
    ],
}
SPACE = {"model.lr": {"float": [1e-4, 1e-2], "log": True}}
CAMPAIGN = {"fits": [{"name": "plain", "recipe": "tiny.yaml", "seeds": [1, 2]}]}


def run_fit(common: Path) -> None:
    """A training, from its last checkpoint where there is one."""
    version = Path("runs/a/version_0")
    last = Run.open(version).last if version.is_dir() else None
    if last is None:
        shutil.rmtree("runs", ignore_errors=True)
    cli.run(["fit", *FIT, *(["--ckpt_path", str(last.path)] if last else [])])


def run_sweep(common: Path) -> None:
    """Four trainings, each tested."""
    sweep.main(["--sweep", str(common / "few.yaml"), "--workers", "1"])


def run_hpo(common: Path) -> None:
    """A study of given trials: what a sampler draws is another after each start."""
    given = ["--trials", "4", "--warm-start", str(common / "runs/tuned/study.journal")]
    given += ["--best", "3", "--pruner", "none"]
    _search(common, "again", *given)


def _search(common: Path, study: str, *more: str) -> None:
    files = ["--recipe", str(common / "tiny.yaml"), "--space", str(common / "space.yaml")]
    search.main([*files, "--study", study, "--workers", "1", *more])


def run_campaign(common: Path) -> None:
    """Two trainings, each tested and recorded."""
    given = ["--campaign", str(common / "all.yaml"), "--results", "results"]
    reproduce.main([*given, "--threads", "1", "--nice", "0"])


def run_predict(common: Path) -> None:
    """Masks of a folder of pictures."""
    options = ["--ckpt_path", str(common / "a.ckpt"), "--devices", "cpu", "--output", "out"]
    predict([*options, "--input", str(common / "pictures")])


def run_prepare(common: Path) -> None:
    """A folder of scaled pictures, or what is missing of it."""
    given = ["--root", str(common), "--size", "32", "--protocol", "auto"]
    options = ["--dataset_options", "{images: pictures, masks: masks}"]
    data(["prepare", "folder", "--output", "out", *given, *options])


def run_adopt(common: Path) -> None:
    """A folder of pictures and masks as a recipe, unless a kill left a whole one."""
    if not Path("own.yaml").exists():
        data(["adopt", str(common / "own"), "--output", "own.yaml"])


def run_record(common: Path) -> None:
    """Results of runs among others."""
    record.main([str(common / "tested"), "--results", "results"])


def run_leaderboard(common: Path) -> None:
    """The pages of recorded results."""
    leaderboard(["--results", str(common / "results"), "--output", "out", "--html", "out/a.html"])


def run_export(common: Path) -> None:
    """A checkpoint as ONNX."""
    export_onnx(["--ckpt_path", str(common / "a.ckpt"), "--output", "a.onnx", "--size", "32"])


def run_score(common: Path) -> None:
    """Scores of masks that another tool wrote."""
    score([str(common / "masks"), str(common / "masks"), "--name", "a"])


def run_calibrate(common: Path) -> None:
    """A calibrated checkpoint as a run of its own, unless a kill left a whole one."""
    if not Path("runs").exists():
        shutil.copytree(common / "trained" / "runs", "copied", dirs_exist_ok=True)
        Path("copied").rename("runs")
    if not list(Path("runs/a-calibrated").glob("version_0/checkpoints/*.ckpt")):
        calibrate(["--ckpt_path", "best", "--name", "a", "--devices", "cpu"])


COMMANDS: dict[str, Callable[[Path], Any]] = {
    "fit": run_fit,
    "sweep": run_sweep,
    "hpo": run_hpo,
    "campaign": run_campaign,
    "predict": run_predict,
    "prepare": run_prepare,
    "adopt": run_adopt,
    "record": run_record,
    "leaderboard": run_leaderboard,
    "export": run_export,
    "score": run_score,
    "calibrate": run_calibrate,
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
    for name, kept in {"images": "pictures", "masks": "masks"}.items():
        shutil.copytree(folder / kept, folder / "own" / name)
    for number in range(4):
        make_run(folder / "tested" / f"net{number}" / "version_0", 0.7 + 0.02 * number, 40 + number)
    record.main([str(folder / "tested"), "--results", str(folder / "results")])
    (folder / "trained").mkdir()
    images = ["--data.dataset_options", '{"count": 120, "resolution": 16}']
    run_through(lambda _: cli.run(["fit", *FIT, *images]), folder / "trained", folder)

    few = SWEEP | {"recipe": str(folder / "tiny.yaml")}
    files = {"tiny": RECIPE, "few": few, "space": SPACE, "all": CAMPAIGN}
    for name, content in files.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content))
    given = ["--trials", "3", "--sampler", "random", "--pruner", "none"]
    run_through(lambda _: _search(folder, "tuned", *given), folder, folder)


def start(command: Callable[[Path], Any], place: Path, common: Path) -> int:
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


def run_through(command: Callable[[Path], Any], place: Path, common: Path) -> float:
    """Seconds that a command takes; RuntimeError where it fails."""
    began = time.monotonic()
    if os.waitpid(start(command, place, common), 0)[1]:
        raise RuntimeError(place.with_suffix(".log").read_text()[-2000:])
    return time.monotonic() - began


def study_results(file: Path) -> list[tuple[Any, ...]]:
    """Slot, state, parameters and values of each result, and how often the slot has one."""
    study = optuna.load_study(study_name=None, storage=open_storage(str(file)))
    ended = [trial for trial in study.get_trials() if trial.state in queue.FINISHED]
    counts = Counter(trial.user_attrs["slot"] for trial in ended)
    latest = queue.attempts(study.get_trials())
    return [
        (slot, counts[slot], trial.state.name, trial.params, trial.values)
        for slot, trial in sorted(latest.items())
    ]


TIMES = (
    "events",
    "environment.json",
    "inputs.csv",
    "facts",
    "hparams",
    "ledger",
    "lock",
    "log.txt",
)
CLOCKED = (
    "seconds",
    "memory",
    "minutes",
    "load",
    "commit",
    "ending",
    "looks",  # at the test split, of which one that a kill cut off is one
)  # keys of JSON, columns of CSV


def contents(place: Path) -> Iterator[tuple[str, str]]:
    """Name and digest of what a command left, without times and places."""
    for file in sorted(place.rglob("*")):
        name = str(file.relative_to(place))
        if file.is_file() and not any(word in name for word in TIMES):
            yield name, hashlib.sha256(comparable(file, place)).hexdigest()


def comparable(file: Path, place: Path) -> bytes:
    """The content of a file as far as two runs of one command must have it alike."""
    if file.suffix == ".journal":
        return repr(study_results(file)).encode()
    if file.suffix == ".ckpt":
        weights = torch.load(file, weights_only=True)["state_dict"]
        return b"".join(value.numpy().tobytes() for value in weights.values())
    content = file.read_bytes().replace(str(place).encode(), b"")
    results = "results" in file.parts and file.suffix == ".json"
    if file.name in ("result.json", "summary.json") or results:
        return json.dumps(without_clocks(json.loads(content)), sort_keys=True).encode()
    if file.name == "reproduced.csv":
        rows = csv.DictReader(content.decode().splitlines())
        return repr([without_clocks(row) for row in rows]).encode()
    lines = content.splitlines()
    if file.name in ("predictions.csv", "settings.json"):
        lines.sort()
    if file.suffix == ".yaml":  # a comment tells the memory that was free
        lines = [line for line in lines if not line.strip().startswith(b"#")]
    return b"\n".join(lines)


def without_clocks(content: Any) -> Any:
    """The content without what a clock, the machine's memory or the ledger says."""
    if isinstance(content, dict):
        kept = {key: value for key, value in content.items() if key not in CLOCKED}
        return {key: without_clocks(value) for key, value in kept.items()}
    return content


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
            wrong = sorted({name for name, _ in ours.items() ^ theirs.items()})
            differ += bool(wrong)
            state = f"DIFFERENT: {', '.join(wrong)}" if wrong else "identical"
            print(f"{name}: {options.kills} kills, {len(ours)} files {state}", flush=True)
    print(f"seed {options.seed}")
    return int(differ > 0)


if __name__ == "__main__":
    sys.exit(main())
