"""Mobile-UNet: Jing et al., "Mobile-Unet: An Efficient CNN for Fabric Defect Detection", Textile
Research Journal 2022.

    e_1..e_5 = MobileNetV2(image), e_5 to 1280 channels
    d_l = DoubleConv([nearest(d_{l+1}), e_l])

Differs from the paper: the form behind PAM-UNet's Table I (0.85 G multiply-adds at 128 x 128): an
ordinary convolutional decoder of 256 to 16 channels that goes on to full resolution, and a 3x3
head; any encoder. The 1280-channel layer starts from scratch.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from lightning_seg.errors import InputError
from lightning_seg.models.frame.blocks import NearestStage
from lightning_seg.models.frame.encoder import TimmEncoder
from lightning_seg.models.frame.skeleton import Segmenter, UNetDecoder

ENCODER = "mobilenetv2_100"
WIDTHS = (256, 128, 64, 32, 16)
LAST_WIDTH = 1280


class ConvNormReLU6(nn.Sequential):
    """Convolution without bias, batch norm, ReLU6, as MobileNetV2 has them."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        groups: int = 1,
    ) -> None:
        super().__init__(
            nn.Conv2d(
                in_channels,
                out_channels,
                kernel_size,
                stride,
                kernel_size // 2,
                groups=groups,
                bias=False,
            ),
            nn.BatchNorm2d(out_channels),
            nn.ReLU6(inplace=True),
        )


class InvertedResidual(nn.Module):
    """MobileNetV2's: 1x1 to ``expansion`` times the channels, 3x3 depthwise, 1x1 linear; a residual
    if shapes agree."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        expansion: int = 6,
    ) -> None:
        super().__init__()
        inner = expansion * in_channels
        self.residual = stride == 1 and in_channels == out_channels
        self.body = nn.Sequential(
            ConvNormReLU6(in_channels, inner, 1),
            ConvNormReLU6(inner, inner, 3, stride, groups=inner),
            nn.Conv2d(inner, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.residual else self.body(x)


class LastLayer(nn.Module):
    """MobileNetV2's last layer, which timm keeps with the classifier: the coarsest map to ``width``
    channels by 1x1."""

    def __init__(self, channels: Sequence[int], width: int) -> None:
        super().__init__()
        self.channels = (*channels[:-1], width)
        self.layer = ConvNormReLU6(channels[-1], width, 1)

    def forward(self, pyramid: list[Tensor]) -> list[Tensor]:
        return [*pyramid[:-1], self.layer(pyramid[-1])]


def plain_unet(
    channels: Sequence[int],
    strides: Sequence[int],
    num_classes: int,
    widths: Sequence[int] = WIDTHS,
) -> tuple[UNetDecoder, nn.Module]:
    """The decoder, two 3x3 convolutions per step up to full resolution, and its head."""
    if 2 ** len(widths) != strides[-1]:
        steps = strides[-1].bit_length() - 1
        raise InputError(
            f"widths is {list(widths)}; an encoder of stride {strides[-1]} takes {steps} of them."
        )
    skips = len(channels) - 1
    decoder = UNetDecoder(channels, NearestStage, widths[:skips], widths[skips:])
    return decoder, nn.Conv2d(decoder.channels, num_classes, 3, padding=1)


class MobileUNet(Segmenter):
    """MobileNetV2 under a plain U-Net decoder. Arguments as in `UNet`, and:

    Args:
        encoder: timm name.
        widths: of the decoder, coarse to fine, for each step from stride 32 to full resolution.
        last_width: channels of the encoder's last layer.
    """

    tiny: ClassVar[dict[str, Any]] = {
        "encoder": "mobilenetv2_035",
        "widths": [16, 16, 8, 8, 8],
        "last_width": 32,
    }

    def __init__(
        self,
        encoder: str | None = ENCODER,
        in_channels: int = 3,
        num_classes: int = 1,
        widths: Sequence[int] = WIDTHS,
        last_width: int = LAST_WIDTH,
        encoder_options: dict[str, Any] | None = None,
    ) -> None:
        body = TimmEncoder(encoder or ENCODER, in_channels, encoder_options)
        last = LastLayer(body.channels, last_width)
        decoder, head = plain_unet(last.channels, body.strides, num_classes, widths)
        super().__init__(body, decoder, num_classes, skip=last, head=head)
