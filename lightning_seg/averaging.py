"""The exponential moving average of a network's weights, which validation scores and checkpoints hold."""

from typing import Any

import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor

from lightning_seg.errors import InputError


def check_ema(decay: float | None) -> None:
    """InputError where ``model.ema`` is not a share."""
    if decay is not None and not 0 < decay < 1:
        raise InputError(f"model.ema is {decay}; give a decay between 0 and 1, such as 0.999, or leave it out.")


class WeightEMA(WeightAveraging):
    """``average <- d average + (1 - d) weights`` after each optimiser step, d = min(decay, (1 + n) / (10 + n)) at the n-th.

    The rising decay, that of TensorFlow's and timm's, lets a short training forget its start. Statistics of batch norm are averaged
    alike. Lightning's callback does the rest: validation runs on the average, a checkpoint's ``state_dict`` is the average, and
    ``current_model_state`` beside it what training goes on from.
    """

    def __init__(self, decay: float) -> None:
        super().__init__(multi_avg_fn=_Update(decay))

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        if self._average_model is not None:  # is read by the host at each step, which must not wait for a GPU
            self._average_model.n_averaged = self._average_model.n_averaged.cpu()


class _Update:
    """One step of the average, in place, for all tensors of one type and device at once."""

    def __init__(self, decay: float) -> None:
        self.decay = decay

    @torch.no_grad()
    def __call__(self, averages: list[Tensor], weights: list[Tensor], steps: Tensor) -> None:
        if not averages[0].is_floating_point():  # batch norm's count of batches
            torch._foreach_copy_(averages, weights)
            return
        decay = ((1 + steps) / (10 + steps)).clamp(max=self.decay)
        change = torch._foreach_sub(weights, averages)
        torch._foreach_mul_(change, 1 - decay)
        torch._foreach_add_(averages, change)
