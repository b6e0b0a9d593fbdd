"""Whether a training is long enough for the running statistics of its batch norms."""

import math
from collections.abc import Iterator
from typing import Any

import lightning as L
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

REMAINDER = 0.05  # of their start, that statistics may still hold at the end


class RunningStatistics(L.Callback):
    """Says so where the statistics with which a network is validated will not have settled.

    Each batch moves them by the norm's momentum: .1 in torch, .01 for networks after Keras, whose
    statistics need 299 batches to forget 95 % of their start. A shorter run can fit its training
    images well and still predict nothing in evaluation.
    """

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        steps = trainer.estimated_stepping_batches
        if math.isinf(steps) or not trainer.is_global_zero:
            return
        batches = int(steps) * trainer.accumulate_grad_batches
        trained_before = pl_module.encoder if pl_module.origin else None
        caution = slow_statistics(pl_module.net, batches, trained_before)
        if caution:
            print(f"note: {caution}", flush=True)


def slow_statistics(
    net: nn.Module,
    batches: int,
    trained_before: nn.Module | None = None,
) -> str:
    """The caution about ``net`` after so many batches; empty where its statistics settle.

    Args:
        trained_before: the part of it whose statistics are good from the start.
    """
    momentum = min(_momenta(net, trained_before), default=1.0)
    if not 0 < momentum < 1:
        return ""
    left = (1 - momentum) ** batches
    if left <= REMAINDER:
        return ""
    needed = math.ceil(math.log(REMAINDER) / math.log(1 - momentum))
    return (
        f"batch norm with momentum {momentum:g} still holds {left:.0%} of its first statistics "
        f"after the {batches} batches of this run, so scores of validation and test may stay low "
        f"though the training loss falls; train for {needed} batches or more "
        "(trainer.max_epochs, data.batch_size)."
    )


def _momenta(net: nn.Module, trained_before: nn.Module | None) -> Iterator[float]:
    settled = set() if trained_before is None else set(trained_before.modules())
    for module in net.modules():
        if not isinstance(module, _BatchNorm) or module in settled:
            continue
        learns = any(parameter.requires_grad for parameter in module.parameters())
        if learns and module.track_running_stats and module.momentum is not None:
            yield module.momentum
