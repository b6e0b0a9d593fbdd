"""What a recipe with overrides says, without a run: the keys and values of a study are checked
before its first trial."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from hpo.space import corners, flatten, overrides
from lightning_seg.cli import CLI
from lightning_seg.cli.arguments import peek
from lightning_seg.errors import InputError


class DryRun(CLI):
    """The command line up to network and data, with weights that take no memory.

    Nothing is read or trained. What a recipe says does not depend on the machine, and a launcher
    leaves the GPUs to its workers: no precision is chosen, and no trainer is made.
    """

    def instantiate_classes(self) -> None:
        with torch.device("meta"):
            super().instantiate_classes()

    def choose_precision(self, trainer: Any) -> None:
        pass

    def instantiate_trainer(self, **kwargs: Any) -> Any:
        return None

    def _run_subcommand(self, subcommand: str) -> None:
        pass

    @property
    def values(self) -> dict[str, Any]:
        """Every key with its value, dotted."""
        return flatten(self.config["fit"].as_dict())


def digest(recipe: str | Path) -> str:
    """The first 16 hex digits of the SHA-256 of a recipe's file."""
    return hashlib.sha256(Path(recipe).read_bytes()).hexdigest()[:16]


def try_fit(args: Sequence[str]) -> DryRun:
    """``fit`` with these arguments, dry; InputError where something in it does not work."""
    command = ["fit", *args]
    return DryRun(command, peek("fit", command))


def dry_run(recipe: str, args: Sequence[str]) -> dict[str, Any]:
    """Every key of ``fit -c recipe args`` with its value, dotted; InputError where one does not
    work."""
    return try_fit(["-c", recipe, *args]).values


def check_space(
    recipe: str,
    args: Sequence[str],
    space: Mapping[str, Any],
) -> dict[str, Any]:
    """The configuration of the recipe itself, once the whole space has been tried.

    Each choice and each end of a range is tried on the command line.
    """
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
