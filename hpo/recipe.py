"""What a recipe with overrides says, without a run: the keys and values of a study are checked before its first trial."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from hpo.space import corners, flatten, overrides
from lightning_seg.cli import CLI
from lightning_seg.cli_arguments import peek
from lightning_seg.errors import InputError


class _Dry(CLI):
    """The command line up to network and data, with weights that take no memory; nothing is read or trained."""

    def instantiate_classes(self) -> None:
        with torch.device("meta"):
            super().instantiate_classes()

    def choose_precision(self, trainer: Any) -> None:
        """What a recipe says does not depend on the machine, and a launcher leaves the GPUs to its workers."""

    def instantiate_trainer(self, **kwargs: Any) -> Any:
        return None

    def _run_subcommand(self, subcommand: str) -> None:
        pass


def digest(recipe: str | Path) -> str:
    """Of the content of a recipe's file."""
    return hashlib.sha256(Path(recipe).read_bytes()).hexdigest()[:16]


def dry_run(recipe: str, args: Sequence[str]) -> dict[str, Any]:
    """Every key of ``fit -c recipe args`` with its value, dotted; InputError where something in it does not work."""
    command = ["fit", "-c", recipe, *args]
    dry = _Dry(command, peek("fit", command))
    return flatten(dry.config["fit"].as_dict())


def check_space(recipe: str, args: Sequence[str], space: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of the recipe itself, once each choice and end of the space has been tried on the command line."""
    base = dry_run(recipe, args)
    for values in corners(space):
        changed = overrides(values, base)
        try:
            dry_run(recipe, [*args, *changed])
        except InputError as error:
            raise InputError(
                f"the space does not fit {recipe} ({' '.join(changed)}): {error}"
            ) from error
    return base
