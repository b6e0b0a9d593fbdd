"""SA-UNet: Guo et al., "SA-UNet: Spatial Attention U-Net for Retinal Vessel Segmentation", ICPR
2020.

    unit(x) = relu(norm(dropblock(conv(x))))
    e_D = unit(SA(unit(down(e_{D-1}))))
    d_l = unit(unit([up(d_{l+1}), e_l]))
    SA(x) = x * sigmoid(conv7x7([mean_c x, max_c x]))

Differs from the paper: nothing known; ``norm="group"`` (8 groups, with SiLU) is the form that
SA-UNetv2's tables call SA-UNet. DropBlock drops 0.18 for DRIVE (default) and 0.13 for CHASE.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from lightning_seg.errors import InputError
from lightning_seg.models.frame.blocks import (
    KERAS_EPSILON,
    DoublingConv,
    SpatialAttention,
    keras_norm,
)
from lightning_seg.models.frame.drop_block import DropBlock
from lightning_seg.models.frame.encoder import ConvEncoder
from lightning_seg.models.frame.group_norm import GroupNorm
from lightning_seg.models.frame.skeleton import Segmenter, UNetDecoder

GROUPS = 8


def batch_relu(channels: int) -> list[nn.Module]:
    return [keras_norm(channels), nn.ReLU(inplace=True)]


def group_silu(channels: int) -> list[nn.Module]:
    if channels % GROUPS:
        raise InputError(
            f"width {channels} does not divide into {GROUPS} groups for the norm; take multiples of {GROUPS}."
        )
    return [GroupNorm(GROUPS, channels, KERAS_EPSILON), nn.SiLU()]


class DropUnits(nn.Sequential):
    """3x3 convolution, DropBlock, norm and activation, twice, with ``between`` them.

    ``activate`` gives the layers of norm and activation for a number of channels.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        drop_rate: float,
        activate: Callable[[int], list[nn.Module]],
        between: Callable[[], nn.Module] | None = None,
    ) -> None:
        layers: list[nn.Module] = []
        for width in (in_channels, out_channels):
            layers += [
                nn.Conv2d(width, out_channels, 3, padding=1),
                DropBlock(drop_rate),
                *activate(out_channels),
            ]
        middle = len(layers) // 2
        super().__init__(*layers[:middle], *([between()] if between else []), *layers[middle:])


class DoublingStage(nn.Module):
    """Transposed convolution, concatenation with the skip that ``attend(skip, x)`` weighs, two
    units."""

    def __init__(
        self,
        in_channels: int,
        skip_channels: int,
        out_channels: int,
        block: Callable[[int, int], nn.Module],
        attend: Callable[[], nn.Module] | None = None,
    ) -> None:
        super().__init__()
        self.up = DoublingConv(in_channels, out_channels)
        self.attend = attend() if attend else None
        self.block = block(out_channels + skip_channels, out_channels)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        x = self.up(x)
        return self.block(torch.cat([x, skip if self.attend is None else self.attend(skip, x)], 1))


def initialize(
    net: nn.Module,
    he: tuple[type[nn.Module], ...],
) -> None:
    """The start of the papers' code: biases at zero, weights by He or, Keras' default, by Glorot.

    Args:
        he: layers that start by He; the convolution of an attention, which has no bias, always
            does.
    """
    for layer in net.modules():
        if not isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            continue
        if layer.bias is None or isinstance(layer, he):
            nn.init.kaiming_normal_(layer.weight)
        else:
            nn.init.xavier_uniform_(layer.weight)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


class SAUNet(Segmenter):
    """SA-UNet.

    Args:
        in_channels: of the image.
        num_classes: output channels.
        widths: channels of each level, fine to coarse, the bottleneck last.
        drop_rate: of DropBlock, whose squares have 7 pixels a side.
        norm: batch norm with ReLU, or group norm with SiLU.
    """

    tiny: ClassVar[dict[str, Any]] = {"widths": (8, 16), "drop_rate": 0.05}

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 1,
        widths: Sequence[int] = (16, 32, 64, 128),
        drop_rate: float = 0.18,
        norm: Literal["batch", "group"] = "batch",
    ) -> None:
        block = partial(
            DropUnits, drop_rate=drop_rate, activate=batch_relu if norm == "batch" else group_silu
        )
        encoder = ConvEncoder(
            in_channels, widths, block, bottom=partial(block, between=SpatialAttention)
        )
        decoder = UNetDecoder(encoder.channels, partial(DoublingStage, block=block))
        super().__init__(encoder, decoder, num_classes)
        initialize(self, he=() if norm == "batch" else (nn.Conv2d, nn.ConvTranspose2d))
