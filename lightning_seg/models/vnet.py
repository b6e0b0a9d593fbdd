"""V-Net: Milletari, Navab, Ahmadi, "V-Net: Fully Convolutional Neural Networks for Volumetric
Medical Image Segmentation", 3DV 2016.

    e_l = act(y + F_n(y)), y = down(e_{l-1})
    d_l = act(y + F_n([s_l, act(y)])), y = up(d_{l+1})
    act = prelu(bn(.))

F_n are n 5x5 convolutions with ``act`` between them; up and down are 2x2 convolutions of stride 2.
Differs from the paper: 2-D, twice its widths and batch norm, as in the Dual Cross-Attention paper.
There the image enters the first sum through a 1x1 convolution, and only the raw map has that sum:
without a skip module that takes raw maps it is dead (``unused``).
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lightning_seg.errors import InputError
from lightning_seg.models.frame.encoder import Level, TappedEncoder
from lightning_seg.models.frame.skeleton import Segmenter, UNetDecoder
from lightning_seg.models.frame.skip import make_skip


def _act(channels: int) -> nn.Module:
    return nn.Sequential(nn.BatchNorm2d(channels), nn.PReLU())


def _convolutions(in_channels: int, out_channels: int, number: int) -> nn.Sequential:
    """``number`` 5x5 convolutions, each but the last with norm and activation."""
    layers: list[nn.Module] = []
    for _ in range(number):
        layers += [nn.Conv2d(in_channels, out_channels, 5, padding=2), _act(out_channels)]
        in_channels = out_channels
    return nn.Sequential(*layers[:-1])


class InputLevel(nn.Module):
    """A 5x5 convolution of the image; the projected image is added to the raw map alone."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.body = _convolutions(in_channels, out_channels, 1)
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1)
        self.finish = _act(out_channels)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        x = self.body(image)
        return self.finish(x), x + self.shortcut(image)


class DownSum(nn.Module):
    """Half the size, then the residual sum."""

    def __init__(self, in_channels: int, out_channels: int, number: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(in_channels, out_channels, 2, 2)
        self.body = _convolutions(out_channels, out_channels, number)

    def forward(self, x: Tensor) -> Tensor:
        x = self.down(x)
        return x + self.body(x)


class UpStage(nn.Module):
    """Twice the size, concatenation behind the skip, the residual sum, norm and activation."""

    def __init__(
        self, in_channels: int, skip_channels: int, out_channels: int, number: int
    ) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(in_channels, out_channels, 2, 2)
        self.act = _act(out_channels)
        self.body = _convolutions(skip_channels + out_channels, out_channels, number)
        self.finish = _act(out_channels)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        x = self.up(x)
        return self.finish(x + self.body(torch.cat([skip, self.act(x)], 1)))


class VNet(Segmenter):
    """V-Net in two dimensions. Further arguments as in `UNet`.

    Args:
        depths: convolutions per level, fine to coarse; the finest one of the encoder has one in any
            case.
        skip: see `make_skip`.
    """

    tiny: ClassVar[dict[str, Any]] = {"widths": (4, 8, 16), "depths": (1, 2, 2)}

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 1,
        widths: Sequence[int] = (32, 64, 128, 256, 512),
        depths: Sequence[int] = (1, 2, 3, 3, 3),
        skip: str | dict[str, Any] | None = None,
    ) -> None:
        if len(depths) != len(widths):
            raise InputError(
                f"vnet has {len(widths)} widths and {len(depths)} depths; give one of each per level."
            )
        between = make_skip(skip, widths)
        sizes = zip(widths[:-1], widths[1:], depths[1:], strict=True)
        levels = [
            InputLevel(in_channels, widths[0]),
            *(Level(DownSum(i, o, n), _act(o)) for i, o, n in sizes),
        ]
        numbers = iter(depths[-2::-1])  # one per stage, coarse to fine
        decoder = UNetDecoder(widths, lambda i, s, o: UpStage(i, s, o, next(numbers)))
        super().__init__(
            TappedEncoder(levels, widths, between.raw), decoder, num_classes, skip=between
        )
        self.unused = () if between.raw else ("encoder.levels.0.shortcut.",)
