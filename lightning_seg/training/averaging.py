"""The moving average of a network's weights, which is validated and saved in their place."""

from typing import Any

import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from lightning_seg.errors import InputError


def check_ema(decay: float | None) -> None:
    """InputError where ``model.ema`` is not a share."""
    if decay is not None and not 0 < decay < 1:
        raise InputError(
            f"model.ema is {decay}; give a decay between 0 and 1, such as 0.999, or leave it out."
        )


class WeightEMA(WeightAveraging):
    """``average <- d average + (1 - d) weights`` after each optimiser step.

    At the n-th step d is min(decay, (1 + n) / (10 + n)): the rising decay of TensorFlow and timm,
    with which a short training forgets its start; Lightning's ``EMAWeightAveraging`` has a constant
    one. Statistics of batch norm are averaged alike. Lightning's callback does the rest: validation
    runs on the average, a checkpoint's ``state_dict`` is the average, and ``current_model_state``
    beside it is what training goes on from.
    """

    def __init__(self, decay: float) -> None:
        super().__init__()
        self.decay = decay

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        if stage == "fit":
            # the module is still on the CPU, and Lightning would leave the average there
            device = trainer.strategy.root_device
            self._average_model = _Average(pl_module, device, self.decay)


class _Average(AveragedModel):
    """The average on ``device``; its count of steps is on the host, which must not wait."""

    def __init__(self, model: nn.Module, device: torch.device, decay: float) -> None:
        super().__init__(model, device)
        self.n_averaged = torch.tensor(0)
        self.decay = decay

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """One step, in place, for all tensors at once."""
        steps = int(self.n_averaged)
        decay = min(self.decay, (1 + steps) / (10 + steps)) if steps else 0.0
        averages, counts = _tensors(self.module)
        weights, new_counts = _tensors(model)
        torch._foreach_lerp_(averages, weights, 1 - decay)
        if counts:
            torch._foreach_copy_(counts, new_counts)
        self.n_averaged += 1


def _tensors(module: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """Parameters and buffers that can be averaged, and the others: counts of batches."""
    found = [*module.parameters(), *module.buffers()]
    averaged = [each for each in found if each.is_floating_point()]
    return averaged, [each for each in found if not each.is_floating_point()]
