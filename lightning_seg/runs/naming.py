"""Which checkpoints the options of `lightning_seg.options.add_model_options` mean."""

import argparse
from pathlib import Path
from typing import Any

from lightning_seg.errors import InputError
from lightning_seg.files.documents import read_yaml
from lightning_seg.files.shipped import find_shipped
from lightning_seg.runs.cross_validation import CrossValidation, find_checkpoints
from lightning_seg.runs.run import find_checkpoint

PLACE = ("ckpt_path", "name", "runs")  # keys of a recipe that say which run is meant


def named_checkpoints(given: argparse.Namespace) -> list[Path]:
    """The files that the options of `add_model_options` mean; of a cross-validation those of its
    folds, an ensemble."""
    where = _where(given)
    return [file for text in given.ckpt_path for file in find_checkpoints(text, **where)]


def named_cross_validations(given: argparse.Namespace) -> list[CrossValidation]:
    """The cross-validations among what the options mean."""
    runs = _where(given)["runs"]
    found = (CrossValidation.find(text, runs) for text in given.ckpt_path)
    return [each for each in found if each is not None]


def named_checkpoint(given: argparse.Namespace) -> Path:
    """The one file that they mean; InputError for several, and for a cross-validation."""
    if len(given.ckpt_path) > 1:
        count = len(given.ckpt_path)
        raise InputError(f"--ckpt_path stands there {count} times; this command takes one.")
    return find_checkpoint(given.ckpt_path[0], **_where(given))


def _where(given: argparse.Namespace) -> dict[str, Any]:
    """The name of the run that ``best`` and ``last`` are of, and the folder of all runs."""
    place = recipe_place(given.config) if given.config else {}
    name = given.name or place.get("name") or (given.config and Path(given.config).stem)
    return {"name": name, "runs": given.runs or place.get("runs") or "runs"}


def recipe_place(path: str | Path) -> dict[str, Any]:
    """The keys of a recipe that say where its run lies; InputError for a file that is no recipe."""
    file = find_shipped("recipe", path)
    content = read_yaml(file) or {}
    if not isinstance(content, dict):
        raise InputError(
            f"{file} is not a recipe; its top level must be keys such as data: and model:."
        )
    return {key: content[key] for key in PLACE if content.get(key)}
