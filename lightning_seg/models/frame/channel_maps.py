"""One-channel maps beside maps of many channels, in forms that are quick on the CPU.

In channels-last memory torch goes through 16 channels at a time where one operand has a single
one, five times as slowly as through whole rows.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def trains_on_cpu(x: Tensor) -> bool:
    """Tell whether ``x`` is a channels-last map that a training step on the CPU asks a gradient
    of."""
    if torch.compiler.is_compiling() or not (x.requires_grad and torch.is_grad_enabled()):
        return False
    return x.device.type == "cpu" and x.is_contiguous(memory_format=torch.channels_last)


def weigh_pixels(x: Tensor, weights: Tensor) -> Tensor:
    """``x * weights``: maps (B, C, H, W) and (B, 1, H, W)."""
    if trains_on_cpu(x):
        weights = _repeat_channels(weights, x.shape[1])
    return x * weights


def channel_mean(x: Tensor) -> Tensor:
    """The mean over channels: (B, C, H, W) -> (B, 1, H, W)."""
    return _ChannelMean.apply(x) if trains_on_cpu(x) else x.mean(1, keepdim=True)


def _repeat_channels(x: Tensor, channels: int) -> Tensor:
    return x.expand(-1, channels, -1, -1).contiguous(memory_format=torch.channels_last)


class _ChannelMean(torch.autograd.Function):
    """The gradient of torch's own has no memory of its own, which makes each sum with it slow."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.channels = x.shape[1]
        return x.mean(1, keepdim=True)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return _repeat_channels(grad / ctx.channels, ctx.channels)
