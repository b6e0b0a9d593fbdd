"""Group norm: Wu, He, "Group Normalization", ECCV 2018: torch's, with a quick gradient on the CPU.

    y = w x^ + b        x^ = (x - m) r, m and r: mean and 1 / std over the pixels of a group
    dx = r (w dy - mean(w dy) - x^ mean(w dy x^))

In channels-last memory torch's own gradient takes about 20 times as long as that of batch norm.
The sums over pixels that it needs are those of batch norm of one image, and so is a map times one
number per channel plus another.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from lightning_seg.models.frame.channel_maps import trains_on_cpu

_aten = torch.ops.aten


class GroupNorm(nn.GroupNorm):
    """`torch.nn.GroupNorm`, whose gradient is quick for channels-last maps on the CPU as well."""

    def forward(self, x: Tensor) -> Tensor:
        if not trains_on_cpu(x):
            return super().forward(x)
        return _QuickNorm.apply(x, self.weight, self.bias, self.num_groups, self.eps)


class _QuickNorm(torch.autograd.Function):
    """torch's group norm with the gradient that stands at the top of this file."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        groups: int,
        eps: float,
    ) -> Tensor:
        batch, channels, height, width = x.shape
        shape = batch, channels, height * width
        y, mean, rstd = _aten.native_group_norm(x, weight, bias, *shape, groups, eps)
        ctx.save_for_backward(x, weight, mean, rstd)
        return y

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any,
        grad: Tensor,
    ) -> tuple[Tensor | None, ...]:
        x, weight, mean, rstd = ctx.saved_tensors
        grad = grad.contiguous(memory_format=torch.channels_last)
        batch, channels, height, width = x.shape
        wide = channels // mean.shape[1]
        mean, rstd = (s.to(weight.dtype).repeat_interleave(wide, 1) for s in (mean, rstd))
        dx, dw, db = torch.empty_like(x), torch.zeros_like(weight), torch.zeros_like(weight)
        for image in range(batch):
            pair, m, r = (grad[image, None], x[image, None]), mean[image], rstd[image]
            image_dw, image_db = _pixel_sums(*pair, weight, m, r)
            dw += image_dw
            db += image_db
            mean_dy, mean_dyx = (
                (weight * s).view(-1, wide).mean(1).repeat_interleave(wide) / (height * width)
                for s in (image_db, image_dw)
            )
            of_x = -r * r * mean_dyx
            place = dx[image, None]
            _affine(pair[0], r * weight, torch.zeros_like(r), place)
            place += _affine(pair[1], of_x, -r * mean_dy - of_x * m)
        return dx, dw, db, None, None


def _pixel_sums(
    grad: Tensor, x: Tensor, weight: Tensor, mean: Tensor, rstd: Tensor
) -> tuple[Tensor, Tensor]:
    """Sums over the pixels of one image of ``grad * (x - mean) * rstd`` and of ``grad``."""
    wanted = [False, True, True]
    _, dw, db = _aten.native_batch_norm_backward(
        grad, x, weight, None, None, mean, rstd, True, 0.0, wanted
    )
    return dw, db


def _affine(
    x: Tensor,
    factor: Tensor,
    summand: Tensor,
    out: Tensor | None = None,
) -> Tensor:
    """``factor * x + summand`` by channel: batch norm with mean 0 and variance 1."""
    zero, one = torch.zeros_like(factor), torch.ones_like(factor)
    arguments = x, factor, summand, zero, one, False, 0.0, 0.0
    if out is None:
        return _aten.native_batch_norm(*arguments)[0]
    unused = x.new_empty(0, dtype=factor.dtype), x.new_empty(0, dtype=factor.dtype)
    return _aten.native_batch_norm.out(
        *arguments, out=out, save_mean=unused[0], save_invstd=unused[1]
    )[0]
