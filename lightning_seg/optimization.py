"""The optimiser and the schedule of the learning rate, by the hyper-parameters of `SegmentationModule`."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch

from lightning_seg.errors import InputError, unknown

OPTIMIZERS = {name.lower(): name for name in ("Adam", "AdamW", "NAdam", "RMSprop", "SGD")}
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


def make_optimizer(parameters: Iterable[torch.nn.Parameter], hp: Mapping[str, Any]) -> torch.optim.Optimizer:
    """The optimiser of the hyper-parameters optimizer, lr, weight_decay and optimizer_options."""
    make = getattr(torch.optim, OPTIMIZERS[hp["optimizer"]])
    try:
        return make(parameters, lr=hp["lr"], weight_decay=hp["weight_decay"], **(hp["optimizer_options"] or {}))
    except (TypeError, ValueError) as error:
        raise InputError(f"optimizer {hp['optimizer']} does not take these options: {error}.") from error


def make_schedule(optimizer: torch.optim.Optimizer, hp: Mapping[str, Any], trainer: Any) -> dict[str, Any]:
    """Lightning's description of the schedule of the hyper-parameters schedule, warmup and schedule_options."""
    name, options = hp["schedule"], hp["schedule_options"] or {}
    make = torch.optim.lr_scheduler
    try:
        if name == "plateau":
            return {"scheduler": make.ReduceLROnPlateau(optimizer, **options), "monitor": "val/loss"}
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
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - rise) / max(1, total - rise)))) if cosine else 1.0

    return factor
