"""The optimiser and the schedule of the learning rate, by the hyper-parameters of `SegmentationModule`."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from lightning_seg.errors import InputError, unknown

OPTIMIZERS = {name.lower(): name for name in ("Adam", "AdamW", "NAdam", "RMSprop", "SGD")}
FUSED = (
    "adam",
    "adamw",
    "sgd",
)  # have a kernel that updates all parameters at once, on these devices:
FUSED_ON = {"cpu", "cuda"}
OWN_KERNEL = {
    "fused",
    "foreach",
    "capturable",
    "differentiable",
}  # optimizer_options that choose another
SCHEDULES = ("constant", "cosine", "multistep", "plateau")


def check_optimization(hp: Mapping[str, Any]) -> None:
    """InputError for unknown names of the optimiser and the schedule, and options of the schedule that it does not take."""
    for kind, known in (("optimizer", OPTIMIZERS), ("schedule", SCHEDULES)):
        if hp[kind] not in known:
            raise unknown(kind, hp[kind], known)
    if hp["schedule_options"] and hp["schedule"] in ("constant", "cosine"):
        raise InputError(
            f"schedule {hp['schedule']!r} takes no schedule_options ({hp['schedule_options']}); leave them out."
        )
    if not 0 <= hp["warmup"] < 1:
        raise InputError(
            f"warmup is {hp['warmup']}; give the share of all steps, at least 0 and below 1, such as 0.05."
        )
    if hp["encoder_lr"] is not None and hp["encoder_lr"] <= 0:
        raise InputError(
            f"encoder_lr is {hp['encoder_lr']}; give a factor above 0, such as 0.1, or freeze: [encoder]."
        )
    if hp["layer_decay"] is not None and not 0 < hp["layer_decay"] <= 1:
        raise InputError(
            f"layer_decay is {hp['layer_decay']}; give a factor above 0 and at most 1, such as 0.75."
        )


def make_optimizer(
    net: nn.Module, hp: Mapping[str, Any], encoder: Mapping[str, int]
) -> torch.optim.Optimizer:
    """The optimiser of the hyper-parameters optimizer, lr, weight_decay, optimizer_options and of `parameter_groups`."""
    make, options = (
        getattr(torch.optim, OPTIMIZERS[hp["optimizer"]]),
        dict(hp["optimizer_options"] or {}),
    )
    devices = {parameter.device.type for parameter in net.parameters()}
    if hp["optimizer"] in FUSED and devices <= FUSED_ON and not OWN_KERNEL & options.keys():
        options["fused"] = True
    try:
        optimizer = make(
            parameter_groups(net, hp, encoder),
            lr=hp["lr"],
            weight_decay=hp["weight_decay"],
            **options,
        )
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"optimizer {hp['optimizer']} does not take these options: {error}."
        ) from error
    optimizer.register_load_state_dict_pre_hook(_keep_kernel)
    return optimizer


def _keep_kernel(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint's state without its choice of a kernel: it may be from another machine, or from before there were fused ones.

    torch would take that choice over and still leave the scale of 16-mixed to the optimiser, which then fails.
    """
    groups = [dict(group) for group in state["param_groups"]]
    for theirs, ours in zip(groups, optimizer.param_groups, strict=False):
        if "fused" in ours:
            theirs["fused"] = ours["fused"]
    return state | {"param_groups": groups}


def parameter_groups(
    net: nn.Module, hp: Mapping[str, Any], encoder: Mapping[str, int]
) -> list[dict[str, Any]]:
    """The parameters of ``net``, one group for each learning rate and weight decay; LearningRateMonitor shows their names.

    Args:
        hp: lr, weight_decay, encoder_lr, layer_decay, no_decay.
        encoder: its parameters' names in ``net`` with their distance from the decoder, where their rates differ.
    """
    if not encoder and not hp["no_decay"]:
        return [{"params": list(net.parameters())}]
    groups: dict[str, dict[str, Any]] = {}
    for name, parameter in net.named_parameters():
        label, rate, decay = "network", hp["lr"], hp["weight_decay"]
        if name in encoder:
            label = f"encoder_{encoder[name]:02d}" if hp["layer_decay"] else "encoder"
            rate *= (hp["encoder_lr"] or 1) * (hp["layer_decay"] or 1) ** encoder[name]
        if hp["no_decay"] and parameter.ndim <= 1:
            label, decay = f"{label}_no_decay", 0.0
        group = {"params": [], "lr": rate, "weight_decay": decay, "name": label}
        groups.setdefault(label, group)["params"].append(parameter)
    return list(groups.values())


def make_schedule(
    optimizer: torch.optim.Optimizer, hp: Mapping[str, Any], trainer: Any
) -> dict[str, Any]:
    """Lightning's description of the schedule of the hyper-parameters schedule, warmup and schedule_options."""
    name, options = hp["schedule"], hp["schedule_options"] or {}
    make = torch.optim.lr_scheduler
    try:
        if name == "plateau":
            return {
                "scheduler": make.ReduceLROnPlateau(optimizer, **options),
                "monitor": "val/loss",
            }
        if name == "multistep":
            return {"scheduler": make.MultiStepLR(optimizer, **options), "interval": "epoch"}
    except (TypeError, ValueError) as error:
        raise InputError(f"schedule {name} does not take these options: {error}.") from error
    total = trainer.estimated_stepping_batches
    if math.isinf(total):
        raise InputError(
            f"schedule {name!r} must know the number of steps; set trainer.max_epochs or trainer.max_steps."
        )
    factor = _warmup(int(total), hp["warmup"], name == "cosine")
    return {"scheduler": make.LambdaLR(optimizer, factor), "interval": "step"}


def _warmup(total: int, warmup: float, cosine: bool) -> Callable[[int], float]:
    """Factor of the learning rate at a step: linear rise, then constant or half a cosine to zero.

    A function, not an object: schedulers store the attributes of objects, and a run resumed with more epochs would keep the old total.
    """
    rise = round(total * warmup)

    def factor(step: int) -> float:
        if step < rise:
            return (step + 1) / rise
        return (
            0.5 * (1 + math.cos(math.pi * min(1.0, (step - rise) / max(1, total - rise))))
            if cosine
            else 1.0
        )

    return factor
