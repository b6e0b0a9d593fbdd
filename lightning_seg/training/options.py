"""The hyper-parameters that say how `fit` trains, besides loss, optimiser and schedule, put into effect on the network."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import lightning as L
import torch
from torch import nn

from lightning_seg.errors import InputError
from lightning_seg.models import encoder_parameters
from lightning_seg.training.activation_checkpointing import checkpoint_activations, require_units
from lightning_seg.training.averaging import WeightEMA, check_ema
from lightning_seg.training.freezing import Freezing, dead_parameters, frozen_parts
from lightning_seg.training.optimizer import make_optimizer
from lightning_seg.training.precision import (
    CompileCost,
    check_compile,
    check_compiler,
    compile_network,
    widen_depthwise,
)


class TrainingOptions:
    """freeze, encoder_lr, layer_decay, no_decay, ema, compile and activation_checkpointing of `SegmentationModule`.

    Args:
        net: the network; what never learns in it is frozen here, before several devices count its gradients.
        hp: all hyper-parameters.

    Errors: InputError for options that do not fit the network, or each other.
    """

    def __init__(self, net: nn.Module, hp: Mapping[str, Any]) -> None:
        check_ema(hp["ema"])
        check_compile(hp["compile"])
        self.net, self.hp = net, hp
        for name in dead_parameters(net):
            net.get_parameter(name).requires_grad_(False)
        self.frozen = frozen_parts(net, hp["freeze"])
        for part in (part for part, epochs in self.frozen.items() if epochs is None):
            net.get_submodule(part).requires_grad_(False)
        layered = hp["layer_decay"] is not None
        self.distances = (
            encoder_parameters(net, layered) if layered or hp["encoder_lr"] is not None else {}
        )
        if hp["activation_checkpointing"]:
            require_units(net)
        if hp["activation_checkpointing"] and hp["compile"]:
            raise InputError(
                "model.compile and model.activation_checkpointing do not go together: compiled code chooses itself what to "
                "compute again; set one of them to false."
            )

    def callbacks(self) -> list[L.Callback]:
        """Those of `fit`."""
        freezing: list[L.Callback] = [Freezing(self.frozen)] if self.frozen else []
        averaging: list[L.Callback] = (
            [WeightEMA(self.hp["ema"])] if self.hp["ema"] is not None else []
        )
        timing: list[L.Callback] = [CompileCost()] if self.hp["compile"] else []
        return [*freezing, *averaging, *timing]

    def check_machine(self, device: torch.device) -> None:
        """InputError where this machine cannot compile for ``device`` and would have to."""
        if self.hp["compile"]:
            check_compiler(device)

    def start(self, device: torch.device) -> None:
        """As `fit` starts on ``device``: the network learns to compile itself, or to compute twice."""
        if device.type == "cpu":
            widen_depthwise(self.net)
        if self.hp["compile"]:
            compile_network(self.net, self.hp["compile"])
        if self.hp["activation_checkpointing"]:
            checkpoint_activations(self.net)

    def optimizer(self, clipped: bool) -> torch.optim.Optimizer:
        """The optimiser; ``clipped``: its gradients are."""
        optimizer = make_optimizer(self.net, self.hp, self.distances)
        if clipped:
            # a fused optimiser could unscale the gradients of 16-mixed itself, which Lightning takes for a reason not to clip
            optimizer._step_supports_amp_scaling = False  # type: ignore[attr-defined]
        return optimizer

    @contextmanager
    def as_tested(self, device: torch.device) -> Iterator[None]:
        """Within, the network computes as `validate` and `test` do where nothing else is said: in float32, not compiled."""
        with ExitStack() as stack:
            stack.enter_context(torch.autocast(device.type, enabled=False))
            if self.hp["compile"]:
                stack.enter_context(torch.compiler.set_stance("force_eager"))
            yield
