"""Run folders as `fit` and `test` leave them, made in no time: what is to be recorded, ranked and shown."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from lightning_seg.evaluation import ScoreTable, interval, per_image, pooled

PIXELS = 160 * 160
CONFIG: dict[str, Any] = {
    "seed_everything": 42,
    "trainer": {"max_epochs": 60, "precision": None, "callbacks": None, "devices": "auto"},
    "model": {
        "architecture": "unet",
        "encoder": "mobilenetv2_100",
        "pretrained": True,
        "options": None,
        "encoder_options": None,
        "loss": {"bce": 0.5, "dice": 0.5},
        "lr": 0.0005,
        "weight_decay": 0.01,
    },
    "data": {
        "dataset": "kvasir_seg",
        "protocol": "kvasir-unet-a-v2",
        "size": 160,
        "batch_size": 16,
        "augment": "unet_a",
        "root": None,
        "num_workers": None,
    },
    "checkpoint": {"monitor": "val/dice", "mode": "max"},
}


def write_recipe(folder: Path, recipe: dict[str, Any], splits: list[str]) -> Path:
    """A recipe on the first phantom polyps, one for each name of a split, with its protocol."""
    rows = [f"polyp-{place:04d},{split}" for place, split in enumerate(splits)]
    protocol = folder / "tiny.csv"
    protocol.write_text("\n".join(["# name: tiny", "# version: 1", "id,split", *rows]))
    data = recipe["data"] | {"protocol": str(protocol)}
    file = folder / "tiny.yaml"
    file.write_text(yaml.safe_dump(recipe | {"data": data}))
    return file


def make_table(dice: float, seed: int, images: int = 60, name: str = "polyp") -> ScoreTable:
    """Images of lesions of many sizes, whose Dice lies about ``dice``; which images are hard does not depend on the seed."""
    hard = np.random.default_rng(7)
    area = hard.integers(300, 9000, images)
    skill = np.clip(
        dice + 0.12 * hard.standard_normal(images) - 0.35 * (hard.random(images) < 0.06), 0.02, 0.99
    )
    own = np.random.default_rng(int(1000 * dice)).standard_normal(
        images
    )  # what this model finds hard, whatever its seed
    skill += 0.05 * own + 0.02 * np.random.default_rng(seed).standard_normal(images)
    skill = np.clip(skill, 0.01, 0.995)
    tp = np.round(skill * area).astype(int)
    wrong = area - tp
    counts = np.stack([tp, wrong, wrong, PIXELS - tp - 2 * wrong], -1)[:, None]
    return ScoreTable(
        tuple(f"image{i:03d}" for i in range(images)), (name,), counts.astype(np.int64)
    )


def make_run(
    folder: Path,
    dice: float,
    seed: int = 42,
    changes: dict[str, Any] | None = None,
    inference: str = "",
    **summary: Any,
) -> Path:
    """A folder as `fit` and `test` leave it. ``changes``: dotted keys of the configuration."""
    config = json.loads(json.dumps(CONFIG)) | {"seed_everything": seed}
    for key, value in (changes or {}).items():
        part, _, name = key.partition(".")
        config[part][name] = value
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    sitting = {
        "commit": "27c2e10",
        "cpu": "AMD EPYC, 2 cores",
        "devices": 1,
        "precision": "32-true",
        "minutes": 13.2,
    }
    command = ["fit", "-c", "experiments/unet_mobilenetv2_kvasir_cpu.yaml"]
    sittings = [sitting | {"started": "a"}, sitting | {"started": "b", "minutes": 6.0}]
    (folder / "environment.json").write_text(json.dumps({"command": command, "sittings": sittings}))
    table = make_table(dice, seed, name=summary.get("class_name", "polyp"))
    tested = (
        folder
        / "test-kvasir-unet-a-v2"
        / f"{inference}best-epoch=011-dice=0.9000-{config['data']['size']}"
    )
    table.write(tested / "scores.csv")
    facts = {
        "checkpoint": str(folder / "checkpoints" / "best-epoch=011-dice=0.9000.ckpt"),
        "dataset": config["data"]["dataset"],
        "synthetic": False,
        "protocol": config["data"]["protocol"],
        "protocol_digest": "e4f391a18136",
        "protocol_leaks": False,
        "groups_known": True,
        "split": "test",
        "images": len(table.ids),
        "size": config["data"]["size"] or "native",
        "scored_at": "network size",
        "threshold": 0.5,
        "encoder_weights": {"name": "mobilenetv2_100", "file": "m.safetensors", "sha256": "7f82"},
        "scores": {name: _scores(table, name) for name in table.classes},
        "looks": 3,
    } | summary
    (tested / "summary.json").write_text(json.dumps(facts))
    return folder


def _scores(table: ScoreTable, name: str) -> dict[str, Any]:
    counts = table.of(name)
    return {
        score: {
            "image": {
                "value": float(per_image(counts, score).mean()),
                "interval": interval(counts, score, "image"),
            },
            "pooled": {
                "value": float(pooled(counts, score)),
                "interval": interval(counts, score, "pooled"),
            },
        }
        for score in ("dice", "iou")
    }
