"""Tested runs as they lie in their folders, and the facts about them."""

import hashlib
import inspect
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any

import lightning as L
import yaml

from experiments.edited_config import check_config
from experiments.facts import RECIPES, RecordedResult, RunFacts
from lightning_seg.data import SegmentationDataModule
from lightning_seg.data.sources.base import source_class
from lightning_seg.data.splits import load_protocol
from lightning_seg.errors import InputError
from lightning_seg.evaluation.summary import FROM_FILES, Scores, Summary, named_data
from lightning_seg.files.trust import check_code
from lightning_seg.models.frame.listing import count
from lightning_seg.runs import Run
from lightning_seg.runs.cross_validation import POOLED, CrossValidation
from lightning_seg.runs.environment import hardware, read_environment
from lightning_seg.runs.run import CONFIG_FILE, CROSS_VALIDATION_FILE
from lightning_seg.training.module import SegmentationModule
from lightning_seg.training.optimizer import Optimization

# What says which network it is, where files lie, or how fast it goes: no part of how a network is trained.
NETWORK = {f"model.{name}" for name in ("architecture", "encoder", "options", "pretrained")}
COPIED = (
    "synthetic",
    "protocol",
    "protocol_digest",
    "split",
    "images",
    "size",
    "scored_at",
    "threshold",
)
NOT_TRAINING = {
    "model.compile",
    "model.activation_checkpointing",
    "data.root",
    "data.cache",
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
    """The run folders (``version_N``) at or below ``folders``, and those of cross-validations in
    place of the runs of their folds; InputError where one of these holds none."""
    found: list[Path] = []
    for folder in folders:
        validations = sorted({file.parent for file in folder.rglob(CROSS_VALIDATION_FILE)})
        configs = {config.parent for config in folder.rglob("config.yaml")}
        runs = sorted(run for run in configs if not set(validations) & set(run.parents))
        runs += validations
        # predictions of other tools have no training
        runs += sorted(
            {file.parents[2] for file in folder.rglob(f"test-*/{FROM_FILES}*/summary.json")}
        )
        if not runs:
            raise InputError(
                f"no run lies in {str(folder)!r}; give runs/<name>, or the folder of a sweep."
            )
        found += runs
    return list(dict.fromkeys(found))


def results_of(
    run: Path,
    known: Mapping[str, str] = MappingProxyType({}),
    trust_code: bool = False,
) -> Iterator[RecordedResult]:
    """The tests of the run's best checkpoint, each with its facts.

    The best checkpoint is the one that its validation scores chose; others were tested to look, not
    to report.

    Args:
        known: recipe, commit and hardware of a run that has not kept them.
        trust_code: import what its configuration names outside of Lightning and this project.
    """
    validation = CrossValidation.open(run)
    if validation is not None:
        yield from _results_of_folds(validation, known, trust_code)
        return
    place = Run.open(run)
    if not place.config_file.is_file():
        yield from _results_of_files(place)
        return
    check_config(place)
    best = place.best_stem
    found = [(Summary.read(folder), folder) for folder in place.score_folders("test")]
    trained = place.config.get("data") or {}
    # on its own data before others
    for summary, folder in sorted(found, key=lambda each: _moved_elsewhere(trained, each[0].data)):
        checkpoint = Path(summary.checkpoint).stem
        # without its checkpoints, a run has the names of their files alone
        chosen = checkpoint == best if best else checkpoint.startswith("best")
        if chosen and not summary.partial:
            inference = folder.name.partition(checkpoint)[0].strip("-")
            facts = _facts(run, summary, inference, known, trust_code)
            yield RecordedResult(facts, folder / "scores.csv")


def _results_of_folds(
    validation: CrossValidation, known: Mapping[str, str], trust_code: bool
) -> Iterator[RecordedResult]:
    """The pooled scores of a cross-validation, one result; none where folds lack."""
    for folder in validation.scored():
        summary = Summary.read(folder)
        if summary.partial or summary.folds is None:
            continue
        inference = folder.name.partition(POOLED)[0].strip("-")
        facts = [
            _facts(run.folder, summary, inference, known, trust_code, validation.protocol)
            for run in validation.trained
        ]
        minutes = [each.minutes for each in facts if each.minutes is not None]
        dice = {name: scores["dice"]["image"] for name, scores in summary.folds.values.items()}
        one = replace(
            facts[0],
            commit=_joined(each.commit for each in facts),
            hardware=_joined(each.hardware for each in facts),
            minutes=round(sum(minutes), 1) if minutes else None,
            folds=dice,
        )
        yield RecordedResult(one, folder / "scores.csv")


def _results_of_files(run: Run) -> Iterator[RecordedResult]:
    """The scores of predictions that another tool wrote, under the name of the run."""
    for folder in run.score_folders("test"):
        summary = Summary.read(folder)
        facts = RunFacts(
            recipe="",
            training=folder.name.removeprefix(FROM_FILES).partition("-")[0],
            architecture=run.name,
            encoder="",
            pretrained=False,
            encoder_weights={},
            content=str(summary.data.get("digest", "")),
            leaks=bool(summary.leaks),
            grouped=summary.groups_known,
            inference="scored from files",
            looks=summary.looks,
            roc_auc={name: dict(areas) for name, areas in summary.roc_auc.items()},
            seed=0,
            epochs=0,
            precision="",
            commit="",
            hardware="",
            minutes=None,
            dataset=summary.data_name,
            **{key: getattr(summary, key) for key in COPIED},
        )
        yield RecordedResult(facts, folder / "scores.csv")


def scores_of(result: RecordedResult) -> Scores:
    """The scores beside the table of a run that is not yet recorded."""
    return Summary.read(result.file.parent).scores


def _facts(
    run: Path,
    summary: Summary,
    inference: str,
    known: Mapping[str, str],
    trust_code: bool,
    division: str = "",
) -> RunFacts:
    """What is to be known of a scored run.

    Args:
        division: in place of the protocol of its training: that of all folds.
    """
    config = Run.open(run).config
    check_code(config, run / CONFIG_FILE, trust_code)
    if division:
        config["data"]["protocol"] = division
    if config["data"]["dataset"] == summary.dataset:
        # the data set's default protocol may have become another since
        config["data"]["protocol"] = config["data"].get("protocol") or summary.protocol
    kept = read_environment(run)
    sittings: list[dict[str, Any]] = kept.get("sittings", [])
    recipe = _recipe(
        run, kept.get("command", ["-c", known["recipe"]] if known.get("recipe") else [])
    )
    settings, model = training_settings(config), config["model"]
    trained_on = (config["data"]["dataset"], settings["data.protocol"])
    scored_on = (summary.dataset, summary.protocol)
    moved = _moved_elsewhere(config["data"], summary.data)
    own_data = scored_on == trained_on and not moved
    name = named_data(trained_on[0], config["data"].get("root") or "")
    elsewhere = (name, trained_on[1], "of another folder") if moved else (name, trained_on[1])
    parameters, gmacs = _cost(config, summary)
    return RunFacts(
        recipe=recipe.stem if recipe else "",
        changes=_changes(settings, recipe) if recipe else {},
        training=hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8],
        trained_on="" if own_data else ", ".join(elsewhere),
        architecture=model["architecture"],
        encoder=model["encoder"] or "",
        options=model["options"] or {},
        pretrained=bool(model["pretrained"]),
        encoder_weights=dict(summary.encoder_weights),
        content=str(summary.data.get("digest", "")),
        leaks=bool(summary.leaks),
        grouped=summary.groups_known,
        checkpoint=Path(summary.checkpoint).name,
        inference=inference,
        looks=summary.looks,
        roc_auc={name: dict(areas) for name, areas in summary.roc_auc.items()},
        seed=config["seed_everything"],
        epochs=config["trainer"]["max_epochs"],
        precision=sittings[-1]["precision"]
        if sittings
        else config["trainer"]["precision"] or "32-true",
        commit=_joined(s["commit"] for s in sittings) or known.get("commit", ""),
        hardware=_joined(map(hardware, sittings)) or known.get("hardware", ""),
        minutes=round(sum(s["minutes"] for s in sittings), 1)
        if sittings
        else _minutes_of_trial(run),
        threads=next((s["threads"] for s in reversed(sittings) if "threads" in s), None),
        load=_mean_load(sittings),
        ending=_ending(Run.open(run)),
        doubts="; ".join(filter(None, [summary.other_images, summary.changed])),
        parameters=parameters,
        gmacs=gmacs,
        dataset=summary.data_name,
        **{key: getattr(summary, key) for key in COPIED},
    )


def _mean_load(sittings: list[dict[str, Any]]) -> float | None:
    """The mean over the minutes of those sittings that kept it."""
    kept = [(s["load"], s["minutes"]) for s in sittings if s.get("load") is not None]
    minutes = sum(each for _, each in kept)
    return round(sum(load * each for load, each in kept) / minutes, 1) if minutes else None


def _ending(run: Run) -> str:
    """``INTERRUPTED after 3 of 20 epochs``, ``PART OF THE IMAGES (limit_train_batches 0.1)``; empty
    for a training of all images that went to its own end."""
    how, after, epochs = run.ending.text.partition(" after ")
    early = f"{how.upper()}{after}{epochs}" if run.ending.caution else ""
    part = f"PART OF THE IMAGES ({run.left_out})" if run.left_out else ""
    return "; ".join(filter(None, [early, part]))


def _minutes_of_trial(run: Path) -> float | None:
    """The minutes as the engine of sweeps took them, the test included; None for a run of another
    origin."""
    file = run.parent / "result.json"
    seconds = (
        json.loads(file.read_text(encoding="utf-8"))["facts"].get("seconds")
        if file.is_file()
        else None
    )
    return None if seconds is None else round(seconds / 60, 1)


def _joined(values: Iterable[str]) -> str:
    return " then ".join(dict.fromkeys(values))


def _moved_elsewhere(trained: Mapping[str, Any], scored: Mapping[str, Any]) -> bool:
    """Tell whether a run was scored on data of another root than the one it was trained on."""
    roots = [Path(data.get("root") or "").expanduser() for data in (trained, scored)]
    return bool(scored) and roots[0].resolve() != roots[1].resolve()


def training_settings(config: dict[str, Any]) -> dict[str, Any]:
    """dotted key -> value of everything that decides a training but its seed, where it is not the
    default."""
    defaults = {
        "model": _defaults_of(SegmentationModule) | _defaults_of(Optimization),
        "data": _defaults_of(SegmentationDataModule),
        "trainer": _defaults_of(L.Trainer),
    }
    found = {
        f"{part}.{name}": value
        for part, known in defaults.items()
        for name, value in _not_default(known, config.get(part) or {}).items()
    }
    monitor = {"monitor": "val/dice", "mode": "max"} | (config.get("checkpoint") or {})
    found |= {f"checkpoint.{name}": monitor[name] for name in ("monitor", "mode")}
    if config.get("classes") == "exclusive":
        found["classes"] = "exclusive"
    found["data.protocol"] = _protocol(config["data"])
    if found.get("trainer.precision") == "32-true":  # Lightning's default
        del found["trainer.precision"]
    if "trainer.callbacks" in found:
        found["trainer.callbacks"] = [_callback(each) for each in found["trainer.callbacks"]]
    return {key: value for key, value in found.items() if key not in NOT_TRAINING}


def _defaults_of(kind: Any) -> dict[str, Any]:
    """The defaults of the arguments of a class by name."""
    parameters = inspect.signature(kind).parameters
    return {name: parameter.default for name, parameter in parameters.items()}


def _not_default(
    defaults: Mapping[str, Any],
    given: Mapping[str, Any],
) -> dict[str, Any]:
    """The values that are given and no default; an empty dictionary or list is as good as None."""
    return {
        name: value
        for name, value in given.items()
        if value != defaults.get(name) and not (value in ({}, []) and defaults.get(name) is None)
    }


def _callback(entry: dict[str, Any]) -> dict[str, Any]:
    """A callback of the recipe or the configuration, which holds its defaults too."""
    module, _, name = entry["class_path"].rpartition(".")
    given = entry.get("init_args") or {}
    try:
        kind = getattr(import_module(module or "lightning.pytorch.callbacks"), name)
    except ImportError:  # of code that is not at hand
        return {name: given}
    return {name: _not_default(_defaults_of(kind), given)}


def _protocol(data: Mapping[str, Any]) -> str:
    """The name of the protocol of a configuration, which may give a file or leave it to the data
    set."""
    given = data.get("protocol") or source_class(data["dataset"]).default_protocol
    path = Path(given).expanduser()
    if path.suffix != ".csv":
        return str(given)
    return load_protocol(path).name if path.is_file() else path.stem


def _recipe(run: Path, command: list[str]) -> Path | None:
    """The recipe that the run's command named, or of which it has the name; None where it is none
    of ours."""
    pairs = pairwise(part for given in command for part in given.split("=", 1))
    named = [Path(value).stem for option, value in pairs if option in ("-c", "--config")] or [
        run.parent.name
    ]
    file = RECIPES / f"{named[-1]}.yaml"
    return file if file.is_file() else None


def _changes(settings: dict[str, Any], recipe: Path) -> dict[str, Any]:
    """The keys in which ``settings`` depart from those of the recipe, besides the network and a
    precision that it leaves to the machine."""
    theirs = training_settings(yaml.safe_load(recipe.read_text(encoding="utf-8")))
    named = (yaml.safe_load(recipe.read_text(encoding="utf-8")).get("trainer") or {}).get(
        "precision"
    )
    keys = sorted(
        (set(settings) | set(theirs)) - NETWORK - (set() if named else {"trainer.precision"})
    )
    return {key: settings.get(key) for key in keys if settings.get(key) != theirs.get(key)}


def _cost(
    config: dict[str, Any],
    summary: Summary,
) -> tuple[int, float | None]:
    """Parameters, and GMACs for one image where its size is a number."""
    model, size = config["model"], summary.size
    given = config["data"].get("dataset_options") or {}
    channels = given.get("in_channels", source_class(config["data"]["dataset"]).in_channels)
    options = (model["options"] or {}) | {
        "encoder": model["encoder"],
        "encoder_options": model["encoder_options"],
    }
    side = size if isinstance(size, int) else config["data"].get("crop") or 256
    channels_out = len(summary.scores) + int(config.get("classes") == "exclusive")
    parameters, macs = _count(
        model["architecture"],
        side,
        json.dumps(options | {"num_classes": channels_out, "in_channels": channels}),
    )
    return parameters, round(macs / 1e9, 4) if isinstance(size, int) else None


@cache
def _count(architecture: str, side: int, options: str) -> tuple[int, int]:
    return count(architecture, side, **json.loads(options))
