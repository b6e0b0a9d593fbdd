"""Layers of timm with plain arithmetic of sizes: that of their own takes torch.export minutes to
simplify, where sizes are symbols."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def exportable(net: nn.Module) -> nn.Module:
    """``net``, for evaluation, with such layers instead of timm's and its weights in the usual
    order; in place."""
    for parent in list(net.modules()):
        for name, child in list(parent.named_children()):
            plain = _PLAIN.get(type(child).__name__)
            if plain is not None and type(child).__module__.startswith("timm."):
                setattr(parent, name, plain(child))
    for tensor in (*net.parameters(), *net.buffers()):
        tensor.data = tensor.data.contiguous()  # torch.export cannot save channels_last well
    return net


class _SameConv(nn.Module):
    """A convolution padded as TensorFlow's "same"; timm computes the padding through a float."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.weight, self.bias = conv.weight, conv.bias
        self.kernel, self.stride, self.dilation, self.groups = (
            conv.kernel_size,
            conv.stride,
            conv.dilation,
            conv.groups,
        )

    def forward(self, x: Tensor) -> Tensor:
        bottom, right = (self._missing(axis, x.shape[axis - 2]) for axis in (0, 1))
        x = F.pad(x, (right // 2, right - right // 2, bottom // 2, bottom - bottom // 2))
        return F.conv2d(x, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)

    def _missing(self, axis: int, size: int) -> int:
        stride, reach = self.stride[axis], (self.kernel[axis] - 1) * self.dilation[axis] + 1
        return max(
            reach - (size % stride or stride), 0
        )  # a number where the size is a multiple of the stride


class _SwinBlock(nn.Module):
    """A block of Swin Transformer (Liu et al., 2021); timm pads to whole windows by remainders,
    and computes views from them."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C)"""
        x = x + self._attend(self.block.norm1(x))
        return x + self.block.mlp(self.block.norm2(x))

    def _attend(self, x: Tensor) -> Tensor:
        batch, height, width, channels = x.shape
        (high, wide), (down, across) = self.block.window_size, self.block.shift_size
        rows, columns = (height + high - 1) // high, (width + wide - 1) // wide
        x = torch.roll(x, (-down, -across), (1, 2))
        x = F.pad(x, (0, 0, 0, columns * wide - width, 0, rows * high - height))
        x = x.reshape(batch, rows, high, columns, wide, channels).transpose(2, 3)
        x = x.reshape(batch * rows * columns, high * wide, channels)
        mask = None
        if down or across:
            part = 3 * _parts_of_axis(rows * high, high, down)[:, None] + _parts_of_axis(
                columns * wide, wide, across
            )
            part = (
                part.reshape(rows, high, columns, wide)
                .transpose(1, 2)
                .reshape(rows * columns, high * wide)
            )
            mask = (part[:, None] != part[:, :, None]) * -100.0
            mask = mask.expand(batch, -1, -1, -1).reshape(
                batch * rows * columns, high * wide, high * wide
            )
        x = self.block.attn(x, mask=mask)
        x = x.reshape(batch, rows, columns, high, wide, channels).transpose(2, 3)
        x = x.reshape(batch, rows * high, columns * wide, channels)[:, :height, :width]
        return torch.roll(x, (down, across), (1, 2))


def _parts_of_axis(length: int, window: int, shift: int) -> Tensor:
    """(length,): which of the three parts of a shifted axis that must not see each other a place
    belongs to."""
    place = torch.arange(length)
    return (place >= length - window).long() + (place >= length - shift)


_PLAIN: dict[str, Any] = {"Conv2dSame": _SameConv, "SwinTransformerBlock": _SwinBlock}
