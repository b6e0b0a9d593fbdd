"""DoubleU-Net: Jha et al., "DoubleU-Net: A Deep Convolutional Neural Network for Medical Image
Segmentation", CBMS 2020.

    x' = x * sigmoid(W d_1(s, ASPP(v)))        v: VGG-19 of the image x, s its skips; a first U-Net
    logits = W' d_2([s, s'], ASPP(e))
    e: a second encoder, of x', s' its skips; every block ends in squeeze and excitation

Differs from the paper: the form of the Dual Cross-Attention paper, its released code repaired: the
first mask has a channel per channel of the normalised image, only the second is supervised; ASPP
without its pooled branch; VGG-19 from scratch. The skip module acts on s before each decoder, the
second time on what the first gave, and on s'. Without one, skips are finished maps; the released
code joins the raw sums there (``raw_skips=True``).
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lightning_seg.errors import InputError
from lightning_seg.models.dca_unet import double_conv_level
from lightning_seg.models.frame.blocks import AttentionMap, ConvNormAct, SqueezeExcite
from lightning_seg.models.frame.encoder import Level, TappedEncoder
from lightning_seg.models.frame.options import refuse
from lightning_seg.models.frame.skeleton import UNetDecoder, pad_to_multiple
from lightning_seg.models.frame.skip import make_skip

CONVOLUTIONS = (2, 2, 4, 4, 4)  # per level of VGG-19


class ConcatASPP(nn.Sequential):
    """A 1x1 and four dilated 3x3 convolutions side by side, then a 1x1 convolution, each with norm
    and ReLU."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        kernels = [(1, 0, 1), *((3, rate, rate) for rate in (1, 6, 12, 18))]
        super().__init__(
            Concat(
                nn.Sequential(
                    nn.Conv2d(
                        in_channels, out_channels, size, padding=pad, dilation=rate, bias=size == 1
                    ),
                    nn.BatchNorm2d(out_channels),
                    nn.ReLU(inplace=True),
                )
                for size, pad, rate in kernels
            ),
            ConvNormAct(5 * out_channels, out_channels, 1),
        )


class Concat(nn.ModuleList):
    """The maps that its modules make of one map, side by side."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([module(x) for module in self], 1)


def vgg_level(
    in_channels: int,
    out_channels: int,
    number: int,
    *after: nn.Module,
    pool: bool,
) -> Level:
    """Max-pooling and ``number`` 3x3 convolutions with ReLU; the raw map lacks the last ReLU."""
    layers: list[nn.Module] = [nn.MaxPool2d(2)] if pool else []
    for i in (in_channels, *[out_channels] * (number - 1)):
        convolution = nn.Conv2d(i, out_channels, 3, padding=1)
        nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(convolution.get_parameter("bias"))
        layers += [convolution, nn.ReLU()]
    return Level(nn.Sequential(*layers[:-1]), nn.Sequential(nn.ReLU(), *after))


def vgg_encoder(
    in_channels: int,
    widths: Sequence[int],
    bottom: int,
    raw: bool,
) -> TappedEncoder:
    """VGG-19 whose coarsest map passes an ASPP of ``bottom`` channels."""
    sizes = list(zip((in_channels, *widths), widths, CONVOLUTIONS, strict=False))
    levels = [vgg_level(i, o, n, pool=level > 0) for level, (i, o, n) in enumerate(sizes[:-1])]
    levels.append(vgg_level(*sizes[-1], ConcatASPP(widths[-1], bottom), pool=True))
    return TappedEncoder(levels, (*widths[:-1], bottom), raw)


def second_encoder(
    in_channels: int, widths: Sequence[int], bottom: int, raw: bool
) -> TappedEncoder:
    """Double convolutions with squeeze and excitation, then an ASPP of ``bottom`` channels at half
    the size of the last."""
    sizes = enumerate(zip((in_channels, *widths), widths, strict=False))
    levels = [
        double_conv_level(i, o, SqueezeExcite(o, 8), pool=level > 0) for level, (i, o) in sizes
    ]
    end = Level(nn.Sequential(nn.MaxPool2d(2), ConcatASPP(widths[-1], bottom)), nn.Identity())
    return TappedEncoder([*levels, end], (*widths, bottom), raw)


class ExcitedStage(nn.Module):
    """Bilinear upsampling x2 with aligned corners, concatenation behind the skip, double
    convolution, squeeze and excitation."""

    def __init__(self, in_channels: int, skip_channels: int, out_channels: int) -> None:
        super().__init__()
        self.up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
        self.block = nn.Sequential(
            ConvNormAct(skip_channels + in_channels, out_channels, bias=True),
            ConvNormAct(out_channels, out_channels, bias=True),
            SqueezeExcite(out_channels, 8),
        )

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return self.block(torch.cat([skip, self.up(x)], 1))


class DoubleUNet(nn.Module):
    """DoubleU-Net. Its recipe must use ``normalization: imagenet``: the released code norms the
    image inside the network.

    Args:
        in_channels, num_classes: as in `UNet`.
        widths: channels of the first encoder, fine to coarse.
        second_widths: channels of the second encoder and, from coarse to fine, of both decoders.
        bottom: channels of both ASPP.
        skip: see `make_skip`.
        raw_skips: without a skip module, join maps before their norm and activation, as the
            released code does.
    """

    tiny: ClassVar[dict[str, Any]] = {
        "widths": (8, 8, 16, 16, 16),
        "second_widths": (8, 8, 16, 16),
        "bottom": 8,
    }

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 1,
        widths: Sequence[int] = (64, 128, 256, 512, 512),
        second_widths: Sequence[int] = (32, 64, 128, 256),
        bottom: int = 64,
        skip: str | dict[str, Any] | None = None,
        raw_skips: bool = False,
    ) -> None:
        if skip is not None:
            refuse("double_unet with a skip module, which decides itself,", raw_skips=raw_skips)
        if not 2 <= len(widths) == len(second_widths) + 1 <= len(CONVOLUTIONS):
            raise InputError(
                f"double_unet has widths {tuple(widths)} and second_widths {tuple(second_widths)}; "
                f"give 2 to {len(CONVOLUTIONS)} widths and one second width less."
            )
        super().__init__()
        channels, second = (*widths[:-1], bottom), (*second_widths, bottom)
        self.first_skip, self.shared_skip, self.second_skip = (
            make_skip(skip, c) for c in (channels, channels, second)
        )
        raw = self.first_skip.raw or raw_skips
        self.encoder = vgg_encoder(in_channels, widths, bottom, raw)
        self.first_decoder = UNetDecoder(channels, ExcitedStage, second_widths[::-1])
        self.mask = nn.Sequential(
            nn.Conv2d(second_widths[0], in_channels, 1), nn.Sigmoid(), AttentionMap()
        )
        self.second_encoder = second_encoder(in_channels, second_widths, bottom, raw)
        joined = (*(a + b for a, b in zip(channels[:-1], second_widths, strict=True)), bottom)
        self.second_decoder = UNetDecoder(joined, ExcitedStage, second_widths[::-1])
        self.head = nn.Conv2d(second_widths[0], num_classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        image = pad_to_multiple(image, self.encoder.strides[-1])
        first = self.first_skip(self.encoder(image))
        again = self.second_skip(self.second_encoder(image * self.mask(self.first_decoder(first))))
        *shared, _ = self.shared_skip(first)
        *own, x = again
        joined = [torch.cat(pair, 1) for pair in zip(shared, own, strict=True)]
        return self.head(self.second_decoder([*joined, x]))[..., :height, :width]
