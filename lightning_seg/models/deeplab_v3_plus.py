"""DeepLabv3+: Chen et al., "Encoder-Decoder with Atrous Separable Convolution for Semantic
Segmentation", ECCV 2018.

    a = ASPP(e_16) = W [conv1x1, sep3x3 at rates 12, 24, 36, mean](e_16)
    d = sep3x3 [up4(sep3x3(a)), conv1x1(e_4)]

Differs from the paper: the form of segmentation_models.pytorch: one 3x3 convolution in the decoder
(the paper: two), dilation only in the encoder's last stage, rates of output stride 8. Bilinear
upsampling does not align corners.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lightning_seg.errors import InputError
from lightning_seg.models.frame.blocks import ConvNormAct, resize_maps
from lightning_seg.models.frame.encoder import TimmEncoder
from lightning_seg.models.frame.skeleton import Segmenter

ENCODER = "resnet50"


class SeparableConv(nn.Sequential):
    """3x3 depthwise convolution with holes, then 1x1, batch norm, ReLU."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        dilation: int = 1,
    ) -> None:
        super().__init__(
            nn.Conv2d(in_channels, in_channels, 3, 1, dilation, dilation, in_channels, bias=False),
            *ConvNormAct(in_channels, out_channels, 1),
        )


class MeanBranch(nn.Module):
    """The mean over the map, 1x1 convolution, batch norm, ReLU, everywhere.

    The norm comes after the mean is spread out again: its statistics are the same and it can train
    on a single image.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv, self.norm, self.act = ConvNormAct(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        mean = self.conv(x.mean((2, 3), keepdim=True))
        return self.act(self.norm(mean.expand(-1, -1, *x.shape[-2:])))


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling: five views of one map, side by side, then 1x1 and dropout."""

    def __init__(
        self, in_channels: int, out_channels: int, rates: Sequence[int], dropout: float
    ) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            [
                ConvNormAct(in_channels, out_channels, 1),
                *(SeparableConv(in_channels, out_channels, rate) for rate in rates),
                MeanBranch(in_channels, out_channels),
            ]
        )
        self.join = ConvNormAct(len(self.branches) * out_channels, out_channels, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.join(torch.cat([branch(x) for branch in self.branches], 1)))


class DeepLabDecoder(nn.Module):
    """ASPP on the coarsest map, joined at stride 4 with a narrow copy of the encoder's map
    there."""

    def __init__(
        self,
        channels: Sequence[int],
        fine: int,
        width: int,
        fine_width: int,
        rates: Sequence[int],
        dropout: float,
    ) -> None:
        super().__init__()
        self.aspp = nn.Sequential(
            ASPP(channels[-1], width, rates, dropout), SeparableConv(width, width)
        )
        self.fine = fine
        self.narrow = ConvNormAct(channels[fine], fine_width, 1)
        self.block = SeparableConv(width + fine_width, width)
        self.channels = width

    def forward(self, pyramid: list[Tensor]) -> Tensor:
        fine = self.narrow(pyramid[self.fine])
        return self.block(
            torch.cat([resize_maps(self.aspp(pyramid[-1]), fine.shape[-2:]), fine], 1)
        )


class DeepLabV3Plus(Segmenter):
    """DeepLabv3+. Arguments as in `UNet`, and:

    Args:
        encoder: timm name; the default is ResNet50.
        output_stride: of the encoder's last map; None for an encoder that has no such option (and
            then 32, most often).
        rates: dilations of the pyramid pooling.
        width, fine_width: channels of the decoder and of the encoder's map at stride 4.
        dropout: rate after the pyramid pooling.
    """

    tiny: ClassVar[dict[str, Any]] = {"encoder": "resnet10t", "width": 16, "fine_width": 8}

    def __init__(
        self,
        encoder: str | None = ENCODER,
        in_channels: int = 3,
        num_classes: int = 1,
        output_stride: int | None = 16,
        rates: Sequence[int] = (12, 24, 36),
        width: int = 256,
        fine_width: int = 48,
        dropout: float = 0.5,
        encoder_options: dict[str, Any] | None = None,
    ) -> None:
        dilated = {} if output_stride is None else {"output_stride": output_stride}
        body = TimmEncoder(encoder or ENCODER, in_channels, {**dilated, **(encoder_options or {})})
        if 4 not in body.strides:
            raise InputError(
                f"encoder {encoder!r} has strides {body.strides}; deeplab_v3_plus takes one with a map at 4."
            )
        fine = body.strides.index(4)
        decoder = DeepLabDecoder(body.channels, fine, width, fine_width, rates, dropout)
        super().__init__(body, decoder, num_classes)
