"""The schedule of the learning rate."""

import math
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch.optim import lr_scheduler

from lightning_seg.errors import InputError
from lightning_seg.training.optimizer import Optimization

PLATEAU_OF = "val/loss"


def make_schedule(
    optimizer: torch.optim.Optimizer, optimization: Optimization, trainer: Any
) -> dict[str, Any]:
    """Lightning's description of the schedule: ``plateau`` watches the validation loss."""
    name, options = optimization.schedule, optimization.schedule_options or {}
    try:
        if name == "plateau":
            plateau = lr_scheduler.ReduceLROnPlateau(optimizer, **options)
            # Lightning is not to step it: see `PlateauSteps`
            return {"scheduler": plateau, "monitor": PLATEAU_OF, "frequency": sys.maxsize}
        if name == "multistep":
            steps = lr_scheduler.MultiStepLR(optimizer, **options)
            return {"scheduler": steps, "interval": "epoch"}
    except (TypeError, ValueError) as error:
        raise InputError(f"schedule {name} does not take these options: {error}.") from error
    total = trainer.estimated_stepping_batches
    if math.isinf(total):
        raise InputError(
            f"schedule {name!r} must know the number of steps; set trainer.max_epochs or "
            "trainer.max_steps."
        )
    factor = _warmup(int(total), optimization.warmup, name == "cosine")
    return {"scheduler": lr_scheduler.LambdaLR(optimizer, factor), "interval": "step"}


def _warmup(total: int, warmup: float, cosine: bool) -> Callable[[int], float]:
    """The factor of the learning rate at a step: a linear rise, then constant or half a cosine.

    A function, not an object: schedulers store the attributes of objects, and a run resumed with
    more epochs would keep the old total.
    """
    rise = round(total * warmup)
    fall = max(1, total - rise)

    def factor(step: int) -> float:
        if step < rise:
            return (step + 1) / rise
        if not cosine:
            return 1.0
        share = min(1.0, (step - rise) / fall)
        return 0.5 * (1 + math.cos(math.pi * share))

    return factor
