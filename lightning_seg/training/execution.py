"""`Execution`: a training step on the machine at hand, with the same results."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from lightning_seg.errors import InputError
from lightning_seg.training.activation_checkpointing import checkpoint_activations, require_units
from lightning_seg.training.heap import keep_freed_memory
from lightning_seg.training.precision import (
    check_compile,
    check_compiler,
    compile_network,
    widen_depthwise,
)


@dataclass(frozen=True)
class Execution:
    """Compilation and activation checkpointing of the network in `fit`.

    Attributes:
        compile: see `SegmentationModule`.
        activation_checkpointing: see `SegmentationModule`.

    Errors: InputError for an unknown mode, and for both at once.
    """

    compile: bool | str = False
    activation_checkpointing: bool = False

    def __post_init__(self) -> None:
        check_compile(self.compile)
        if self.activation_checkpointing and self.compile:
            raise InputError(
                "model.compile and model.activation_checkpointing do not go together: compiled "
                "code chooses itself what to compute again; set one of them to false."
            )

    def check_network(self, net: nn.Module) -> None:
        """InputError where ``net`` has nothing that could be computed again and should."""
        if self.activation_checkpointing:
            require_units(net)

    def check_machine(self, device: torch.device) -> None:
        """InputError where this machine cannot compile for ``device`` and would have to."""
        if self.compile:
            check_compiler(device)

    def prepare(self, net: nn.Module, device: torch.device) -> None:
        """Let ``net`` compile itself, or compute twice, as `fit` starts on ``device``."""
        if device.type == "cpu":
            keep_freed_memory()
            widen_depthwise(net)
        if self.compile:
            compile_network(net, self.compile)
        if self.activation_checkpointing:
            checkpoint_activations(net)

    @contextmanager
    def as_tested(self, device: torch.device) -> Iterator[None]:
        """Let networks compute as `validate` and `test` do: in float32, not compiled."""
        with ExitStack() as stack:
            stack.enter_context(torch.autocast(device.type, enabled=False))
            if self.compile:
                stack.enter_context(torch.compiler.set_stance("force_eager"))
            yield
