"""What corruptions of the images do to a network's scores: the rows of ``corruptions.csv``."""

import subprocess
import sys
from pathlib import Path

from trust_tables import ROOT, Row

from lightning_seg.errors import InputError
from lightning_seg.evaluation import ScoreTable
from lightning_seg.evaluation.robustness import FILE as CORRUPTIONS_FILE
from lightning_seg.evaluation.robustness import Robustness
from lightning_seg.runs import find_run

TRAINED_AS = (
    "-c experiments/unet_mobilenetv2_kvasir_cpu.yaml --data.size 128 --trainer.max_epochs 20 "
    "--data.protocol reserve-42-of-kvasir-60-20-20-v2"
)  # the options of `fit` behind the figures on Kvasir-SEG


def robustness_rows(name: str) -> list[Row]:
    """The scores of a run under all corruptions; it is trained and tested where it was not."""
    place = Path(name)
    where = ["--name", place.name, "--runs", str(place.resolve().parent)]
    if not place.is_dir():
        _lightning_seg("fit", *TRAINED_AS.split(), *where)
    files = _corruption_files(name)
    if not files:
        _lightning_seg("test", "--ckpt_path", "best", *where, "--corrupt", "all")
        files = _corruption_files(name)
    found = Robustness.read(files[0])
    if len(found.clean) > 1:
        raise InputError("these figures are of networks of one class.")
    [(class_name, clean)] = found.clean.items()
    table = ScoreTable.read(files[0].parent / "noise-1" / "scores.csv")
    about = {
        "protocol": found.protocol,
        "size": found.size,
        "images": found.images,
        "groups": len(set(table.groups)),
        "seed": found.seed,
    }
    rows = [about | {"kind": "clean", "severity": 0} | _named("dice", *clean["dice"])]
    for one in found.of(class_name):
        figures = _named("dice", one.value, *one.interval)
        figures |= _named("difference", one.difference, *one.difference_interval)
        rows.append(about | {"kind": one.kind, "severity": one.severity} | figures)
    rows[0] |= _named("difference", 0.0, 0.0, 0.0)
    return rows


def _corruption_files(name: str) -> list[Path]:
    return sorted(find_run(name).folder.glob(f"corrupted-test-*/best-*/{CORRUPTIONS_FILE}"))


def _lightning_seg(*words: str) -> None:
    print("$ lightning-seg", *words, flush=True)
    subprocess.run([sys.executable, "-m", "lightning_seg", *words], cwd=ROOT, check=True)


def _named(name: str, value: float, low: float, high: float) -> Row:
    keys = name, f"{name}_low", f"{name}_high"
    return {key: f"{one:.5f}" for key, one in zip(keys, (value, low, high), strict=True)}
