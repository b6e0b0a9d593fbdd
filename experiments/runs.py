"""Tested runs as they lie in their folders, and the facts about them."""

import hashlib
import inspect
import json
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any

import lightning as L
import yaml

from experiments.facts import Facts, Result
from lightning_seg.data import SegmentationDataModule
from lightning_seg.data._source import source_class
from lightning_seg.environment import hardware, read_environment
from lightning_seg.errors import InputError
from lightning_seg.models._listing import count
from lightning_seg.module import SegmentationModule

RECIPES = Path(__file__).parent
# What says which network it is, where files lie, or how fast it goes: no part of how a network is trained.
NETWORK = {f"model.{name}" for name in ("architecture", "encoder", "options", "pretrained")}
COPIED = ("dataset", "synthetic", "protocol", "protocol_digest", "split", "images", "size", "scored_at", "threshold")
NOT_TRAINING = {
    "data.root",
    "data.num_workers",
    "data.seed",
    "trainer.devices",
    "trainer.accelerator",
    "trainer.strategy",
    "trainer.num_nodes",
    "trainer.logger",
    "trainer.plugins",
    "trainer.profiler",
    "trainer.benchmark",
    "trainer.deterministic",
    "trainer.default_root_dir",
    "trainer.log_every_n_steps",
    "trainer.inference_mode",
    "trainer.enable_progress_bar",
    "trainer.enable_model_summary",
    "trainer.enable_checkpointing",
    "trainer.enable_autolog_hparams",
    "trainer.model_registry",
    "trainer.barebones",
    "trainer.detect_anomaly",
    "trainer.num_sanity_val_steps",
    "trainer.use_distributed_sampler",
    "trainer.limit_test_batches",
    "trainer.limit_predict_batches",
}


def find_runs(folders: Iterable[Path]) -> list[Path]:
    """The run folders (``version_N``) at or below ``folders``; InputError where one of these holds none."""
    found: list[Path] = []
    for folder in folders:
        runs = sorted({config.parent for config in folder.rglob("config.yaml")})
        if not runs:
            raise InputError(f"no run lies in {str(folder)!r}; give runs/<name>, or the folder of a sweep.")
        found += runs
    return list(dict.fromkeys(found))


def results_of(run: Path, known: Mapping[str, str] = MappingProxyType({})) -> Iterator[Result]:
    """The tests of the run's best checkpoint, each with its facts.

    The best checkpoint is the one that its validation scores chose; others were tested to look, not to report.

    Args:
        known: recipe, commit and hardware of a run that has not kept them.
    """
    for file in sorted(run.glob("test-*/*/summary.json")):
        summary = json.loads(file.read_text())
        checkpoint = Path(summary["checkpoint"]).stem
        if checkpoint.startswith("best"):
            inference = file.parent.name.partition(checkpoint)[0].strip("-")
            yield Result(_facts(run, summary, inference, known), file.with_name("scores.csv"))


def summary_of(result: Result) -> dict[str, Any]:
    """The scores beside the table of a run that is not yet recorded: class -> score -> convention -> value, interval."""
    content: dict[str, Any] = json.loads(result.file.with_name("summary.json").read_text())
    return content["scores"]


def _facts(run: Path, summary: dict[str, Any], inference: str, known: Mapping[str, str]) -> Facts:
    config = yaml.safe_load((run / "config.yaml").read_text())
    kept = read_environment(run)
    sittings: list[dict[str, Any]] = kept.get("sittings", [])
    recipe = _recipe(run, kept.get("command", ["-c", known["recipe"]] if known.get("recipe") else []))
    settings = training(config) | {"data.protocol": summary["protocol"]}  # its name, where a path or nothing was given
    model = config["model"]
    parameters, gmacs = _cost(config, summary)
    return Facts(
        recipe=recipe.stem if recipe else "",
        changes=_changes(settings, recipe) if recipe else {},
        training=hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8],
        architecture=model["architecture"],
        encoder=model["encoder"] or "",
        options=model["options"] or {},
        pretrained=bool(model["pretrained"]),
        encoder_weights=summary["encoder_weights"],
        leaks=summary.get("protocol_leaks", False),
        grouped=summary.get("groups_known", False),
        checkpoint=Path(summary["checkpoint"]).name,
        inference=inference,
        looks=summary.get("looks"),
        seed=config["seed_everything"],
        epochs=config["trainer"]["max_epochs"],
        precision=sittings[-1]["precision"] if sittings else config["trainer"]["precision"] or "32-true",
        commit=_joined(s["commit"] for s in sittings) or known.get("commit", ""),
        hardware=_joined(map(hardware, sittings)) or known.get("hardware", ""),
        minutes=round(sum(s["minutes"] for s in sittings), 1) if sittings else _minutes_of_trial(run),
        parameters=parameters,
        gmacs=gmacs,
        **{key: summary[key] for key in COPIED},
    )


def _minutes_of_trial(run: Path) -> float | None:
    """As the engine of sweeps took them, the test included; None for a run of another origin."""
    file = run.parent / "result.json"
    seconds = json.loads(file.read_text())["facts"].get("seconds") if file.is_file() else None
    return None if seconds is None else round(seconds / 60, 1)


def _joined(values: Iterable[str]) -> str:
    return " then ".join(dict.fromkeys(values))


def training(config: dict[str, Any]) -> dict[str, Any]:
    """dotted key -> value of everything that decides a training but its seed, where it is not the default."""
    classes = {"model": SegmentationModule, "data": SegmentationDataModule, "trainer": L.Trainer}
    defaults = {
        f"{part}.{name}": parameter.default
        for part, kind in classes.items()
        for name, parameter in inspect.signature(kind).parameters.items()
    }
    given = {f"{part}.{name}": value for part in classes for name, value in (config.get(part) or {}).items()}
    given |= {
        f"checkpoint.{name}": config["checkpoint"][name] for name in ("monitor", "mode") if "checkpoint" in config
    }
    given["trainer.callbacks"] = [
        c["class_path"].rpartition(".")[2] for c in given.get("trainer.callbacks") or []
    ] or None
    return {
        key: value
        for key, value in given.items()
        if key not in NOT_TRAINING and value not in (defaults.get(key), None, {}, False)
    }


def _recipe(run: Path, command: list[str]) -> Path | None:
    """The recipe that the run's command named, or of which it has the name; None where it is none of ours."""
    pairs = pairwise(command)
    named = [Path(value).stem for option, value in pairs if option in ("-c", "--config")] or [run.parent.name]
    file = RECIPES / f"{named[-1]}.yaml"
    return file if file.is_file() else None


def _changes(settings: dict[str, Any], recipe: Path) -> dict[str, Any]:
    """Where ``settings`` depart from those of the recipe, besides the network."""
    content = yaml.safe_load(recipe.read_text())
    content["checkpoint"] = {"monitor": "val/dice", "mode": "max"} | content.get("checkpoint", {})
    theirs = training(content)
    keys = sorted((set(settings) | set(theirs)) - NETWORK)
    return {key: settings.get(key) for key in keys if settings.get(key) != theirs.get(key)}


def _cost(config: dict[str, Any], summary: dict[str, Any]) -> tuple[int, float | None]:
    """Parameters, and GMACs for one image where its size is a number."""
    model, size = config["model"], summary["size"]
    given = config["data"].get("dataset_options") or {}
    channels = given.get("in_channels", source_class(config["data"]["dataset"]).in_channels)
    options = (model["options"] or {}) | {"encoder": model["encoder"], "encoder_options": model["encoder_options"]}
    side = size if isinstance(size, int) else 256
    parameters, macs = _count(
        model["architecture"],
        side,
        json.dumps(options | {"num_classes": len(summary["scores"]), "in_channels": channels}),
    )
    return parameters, round(macs / 1e9, 4) if isinstance(size, int) else None


@cache
def _count(architecture: str, side: int, options: str) -> tuple[int, int]:
    return count(architecture, side, **json.loads(options))
