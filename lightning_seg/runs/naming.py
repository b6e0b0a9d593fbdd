"""Which checkpoints the options of `lightning_seg.options.add_model_options` mean."""

import argparse
from pathlib import Path
from typing import Any

from lightning_seg.errors import InputError
from lightning_seg.files.documents import read_yaml
from lightning_seg.runs.run import find_checkpoint

PLACE = ("ckpt_path", "name", "runs")  # keys of a recipe that say which run is meant


def named_checkpoints(given: argparse.Namespace) -> list[Path]:
    """The files that the options of `add_model_options` mean."""
    place = recipe_place(given.config) if given.config else {}
    name = given.name or place.get("name") or (given.config and Path(given.config).stem)
    runs = given.runs or place.get("runs") or "runs"
    return [find_checkpoint(text, name=name, runs=runs) for text in given.ckpt_path]


def named_checkpoint(given: argparse.Namespace) -> Path:
    """The one file that they mean; InputError for several."""
    found = named_checkpoints(given)
    if len(found) > 1:
        raise InputError(f"--ckpt_path stands there {len(found)} times; this command takes one.")
    return found[0]


def recipe_place(path: str | Path) -> dict[str, Any]:
    """The keys of a recipe that say where its run lies; InputError for a file that is no recipe."""
    file = Path(path).expanduser()
    if not file.is_file():
        raise InputError(
            f"there is no recipe {str(file.absolute())!r}; "
            "give the path of a YAML file, such as experiments/quickstart.yaml."
        )
    content = read_yaml(file) or {}
    if not isinstance(content, dict):
        raise InputError(
            f"{file} is not a recipe; its top level must be keys such as data: and model:."
        )
    return {key: content[key] for key in PLACE if content.get(key)}
