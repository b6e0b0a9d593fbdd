"""Deep Residual U-Net: Zhang, Liu, Wang, "Road Extraction by Deep Residual U-Net", IEEE GRSL 2018.

    e_l = Res(e_{l-1}), stride 2        d_l = Res([nearest(d_{l+1}), e_l])
    Res(x) = conv(relu(bn(conv(relu(bn(x)))))) + bn(W x)

Differs from the paper: the common Keras form (Tomar's): five levels of 16 to 256 channels instead
of four of 64 to 512, a bridge of two more convolutions; logits, Dice or cross-entropy instead of a
squared error. Strided convolutions are centred as in torch. `resunet` is UNet-A's form of the same
paper over any encoder.
"""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Any, ClassVar

from torch import Tensor, nn

from lightning_seg.models.frame.blocks import (
    NearestStage,
    ResidualBlock,
    norm_act_conv,
    use_keras_norms,
)
from lightning_seg.models.frame.skeleton import Segmenter, UNetDecoder


class Stem(nn.Module):
    """The first residual block: the image passes one convolution before it meets a norm."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 3, padding=1),
            *norm_act_conv(out_channels, out_channels),
        )
        self.shortcut = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 1), nn.BatchNorm2d(out_channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) + self.shortcut(x)


class ResidualEncoder(nn.Module):
    """Residual blocks of stride 2 after the stem; the coarsest map passes the bridge."""

    def __init__(self, in_channels: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.channels = tuple(widths)
        self.strides = tuple(2**level for level in range(len(widths)))
        self.stem = Stem(in_channels, widths[0])
        self.levels = nn.ModuleList(ResidualBlock(i, o, 2, bias=True) for i, o in pairwise(widths))
        self.bridge = nn.Sequential(
            *(layer for _ in range(2) for layer in norm_act_conv(widths[-1], widths[-1]))
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        pyramid = [self.stem(image)]
        for level in self.levels:
            pyramid.append(level(pyramid[-1]))
        return [*pyramid[:-1], self.bridge(pyramid[-1])]


class DeepResidualUNet(Segmenter):
    """ResUNet of its own paper. Arguments as in `UNet`; the output width of a step is that of the
    level below."""

    tiny: ClassVar[dict[str, Any]] = {"widths": (4, 8, 16)}

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 1,
        widths: Sequence[int] = (16, 32, 64, 128, 256),
    ) -> None:
        body = ResidualEncoder(in_channels, widths)
        stage = partial(NearestStage, block=partial(ResidualBlock, bias=True))
        super().__init__(body, UNetDecoder(body.channels, stage, widths[:0:-1]), num_classes)
        use_keras_norms(self)
