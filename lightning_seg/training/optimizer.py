"""The optimiser: its settings, its groups of parameters, its fused kernels."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from lightning_seg.errors import InputError, unknown
from lightning_seg.training.averaging import check_ema

_OF_TORCH = ("Adam", "AdamW", "NAdam", "RMSprop", "SGD")
OPTIMIZERS = {name.lower(): name for name in _OF_TORCH}
# have a kernel that updates all parameters at once, on these devices:
FUSED = ("adam", "adamw", "sgd")
FUSED_ON = {"cpu", "cuda"}
# optimizer_options that choose another
OWN_KERNEL = {"fused", "foreach", "capturable", "differentiable"}
SCHEDULES = ("constant", "cosine", "multistep", "plateau")


@dataclass(frozen=True, kw_only=True)
class Optimization:
    """The optimiser and its schedule; a resumed run goes on with the same.

    Args:
        optimizer: adam, adamw, nadam, rmsprop or sgd.
        lr: the learning rate at its highest.
        weight_decay: of the optimiser.
        optimizer_options: further arguments of the optimiser.
        schedule: of the learning rate: ``cosine`` to zero by step; ``constant``; ``multistep``
            (schedule_options: milestones in epochs, gamma); ``plateau`` of val/loss
            (schedule_options: factor, patience, min_lr).
        warmup: share of all steps over which the learning rate of ``cosine`` and ``constant``
            first rises linearly.
        schedule_options: of ``multistep`` and ``plateau``.
        encoder_lr: factor on the learning rate of the encoder, such as 0.1.
        layer_decay: factor on it for each layer of the timm encoder, as timm counts them, from
            the decoder to the stem: 0.75.
        no_decay: no weight decay for norms and biases.
        freeze: parts of the network that do not learn: ``[encoder]`` for good, ``{encoder: 3}``
            for 3 epochs. Their batch norm keeps its statistics, their dropout and drop path rest.
        ema: decay of the moving average of the weights, such as 0.999, that is validated and
            saved in their place; it rises as (1 + n) / (10 + n) in the first steps n.

    Errors: InputError for unknown names, and values out of range.
    """

    optimizer: str = "adamw"
    lr: float = 1e-3
    weight_decay: float = 1e-4
    optimizer_options: dict[str, Any] | None = None
    schedule: str = "cosine"
    warmup: float = 0.05
    schedule_options: dict[str, Any] | None = None
    encoder_lr: float | None = None
    layer_decay: float | None = None
    no_decay: bool = False
    freeze: list[str] | dict[str, int] | None = None
    ema: float | None = None

    def __post_init__(self) -> None:
        if self.optimizer not in OPTIMIZERS:
            raise unknown("optimizer", self.optimizer, OPTIMIZERS)
        if self.schedule not in SCHEDULES:
            raise unknown("schedule", self.schedule, SCHEDULES)
        if self.schedule_options and self.schedule in ("constant", "cosine"):
            raise InputError(
                f"schedule {self.schedule!r} takes no schedule_options "
                f"({self.schedule_options}); leave them out."
            )
        if not 0 <= self.warmup < 1:
            raise InputError(
                f"warmup is {self.warmup}; give the share of all steps, at least 0 and below 1, "
                "such as 0.05."
            )
        if self.encoder_lr is not None and self.encoder_lr <= 0:
            raise InputError(
                f"encoder_lr is {self.encoder_lr}; give a factor above 0, such as 0.1, or "
                "freeze: [encoder]."
            )
        if self.layer_decay is not None and not 0 < self.layer_decay <= 1:
            raise InputError(
                f"layer_decay is {self.layer_decay}; give a factor above 0 and at most 1, "
                "such as 0.75."
            )
        check_ema(self.ema)

    @property
    def by_layer(self) -> bool:
        """True where the layers of the encoder have rates of their own."""
        return self.layer_decay is not None

    @property
    def by_part(self) -> bool:
        """True where the encoder's rate is another than the decoder's."""
        return self.by_layer or self.encoder_lr is not None


def make_optimizer(
    net: nn.Module,
    optimization: Optimization,
    encoder: Mapping[str, int],
    clipped: bool = False,
) -> torch.optim.Optimizer:
    """The optimiser of the parameters of ``net``.

    Args:
        encoder: see `parameter_groups`.
        clipped: whether its gradients are clipped.
    """
    name, options = optimization.optimizer, dict(optimization.optimizer_options or {})
    devices = {parameter.device.type for parameter in net.parameters()}
    if name in FUSED and devices <= FUSED_ON and not OWN_KERNEL & options.keys():
        options["fused"] = True
    try:
        optimizer: torch.optim.Optimizer = getattr(torch.optim, OPTIMIZERS[name])(
            parameter_groups(net, optimization, encoder),
            lr=optimization.lr,
            weight_decay=optimization.weight_decay,
            **options,
        )
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"optimizer {name} does not take these options: {error}.") from error
    optimizer.register_load_state_dict_pre_hook(_keep_kernel)
    if clipped:
        # a fused optimiser could unscale the gradients of 16-mixed itself, which Lightning takes
        # for a reason not to clip
        optimizer._step_supports_amp_scaling = False  # type: ignore[attr-defined]
    return optimizer


def _keep_kernel(
    optimizer: torch.optim.Optimizer,
    state: dict[str, Any],
) -> dict[str, Any]:
    """A checkpoint's state without its choice of a kernel.

    It may be from another machine, or from before there were fused ones. torch would take that
    choice over and still leave the scale of 16-mixed to the optimiser, which then fails.
    """
    groups = [dict(group) for group in state["param_groups"]]
    for theirs, ours in zip(groups, optimizer.param_groups, strict=False):
        if "fused" in ours:
            theirs["fused"] = ours["fused"]
    return state | {"param_groups": groups}


def parameter_groups(
    net: nn.Module, optimization: Optimization, encoder: Mapping[str, int]
) -> list[dict[str, Any]]:
    """The parameters of ``net``, one group for each learning rate and weight decay.

    LearningRateMonitor shows the names of the groups.

    Args:
        encoder: its parameters' names in ``net`` with their distance from the decoder, where
            their rates differ.
    """
    if not encoder and not optimization.no_decay:
        return [{"params": list(net.parameters())}]
    factor, layer_decay = optimization.encoder_lr or 1, optimization.layer_decay or 1
    groups: dict[str, dict[str, Any]] = {}
    for name, parameter in net.named_parameters():
        label, rate, decay = "network", optimization.lr, optimization.weight_decay
        if name in encoder:
            label = f"encoder_{encoder[name]:02d}" if optimization.by_layer else "encoder"
            rate *= factor * layer_decay ** encoder[name]
        if optimization.no_decay and parameter.ndim <= 1:
            label, decay = f"{label}_no_decay", 0.0
        group = {"params": [], "lr": rate, "weight_decay": decay, "name": label}
        groups.setdefault(label, group)["params"].append(parameter)
    return list(groups.values())
