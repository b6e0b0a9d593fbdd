"""`fit` as far as network and data, for commands that must know what a recipe says before it
trains."""

from collections.abc import Sequence
from typing import Any, Self

import torch

from lightning_seg.cli.arguments import peek, with_recipe_paths
from lightning_seg.cli.command_line import CLI


class DryFit(CLI):
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

    @classmethod
    def of(cls, args: Sequence[str]) -> Self:
        """``fit`` with these arguments; InputError where something in it does not work."""
        command = ["fit", *args]
        return cls(with_recipe_paths(command), peek("fit", command))
