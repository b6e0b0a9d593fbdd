"""NanoNet: Jha et al., "NanoNet: Real-Time Polyp Segmentation in Video Capsule Endoscopy and
Colonoscopy", CBMS 2021.

    d_l = Res([bilinear(d_{l+1}), relu(bn(W e_l))])
    Res(x) = SE(relu(y + shortcut)), y = bn(conv3(relu(bn(conv3(relu(bn(W x)))))))

``e_l`` are the expansions of MobileNetV2's blocks 1, 3 and 6 and, at full resolution, the image.

Differs from the paper: nothing by default: the released code's shortcut is bn(y), a slip that the
published sizes and scores contain; ``shortcut: fixed`` is the paper's figure, bn(W x). Padding and
norms are Keras', which matters a little to timm's ImageNet weights (made with torch's) until they
are tuned.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_seg.models.frame.blocks import (
    KERAS_EPSILON,
    KERAS_MOMENTUM,
    ConvNormAct,
    SqueezeExcite,
    use_keras_norms,
)
from lightning_seg.models.frame.encoder import TimmEncoder
from lightning_seg.models.frame.skeleton import Segmenter, UNetDecoder

# (encoder, width at the bottom, widths of the steps from coarse to fine)
VARIANTS = {
    "a": ("mobilenetv2_050", 192, (128, 64, 32)),
    "b": ("mobilenetv2_035", 128, (96, 64, 32)),
    "c": ("mobilenetv2_035", 48, (32, 24, 16)),
}


class ExpansionEncoder(TimmEncoder):
    """MobileNetV2 up to the expansion of block 6; its pyramid: the image, the expansions of blocks
    1, 3 and 6."""

    def __init__(self, name: str, in_channels: int) -> None:
        super().__init__(
            name,
            in_channels,
            {"pad_type": "same", "bn_eps": KERAS_EPSILON, "bn_momentum": KERAS_MOMENTUM},
        )
        whole: Any = self.body
        layers: list[nn.Module] = [whole.conv_stem, whole.bn1, whole.blocks[0]]
        parts = []
        for stage in whole.blocks[1:4]:
            first, *rest = stage
            parts.append(nn.Sequential(*layers, first.conv_pw, first.bn1))
            layers = [first.conv_dw, first.bn2, first.conv_pwl, first.bn3, *rest]
        self.body = nn.ModuleList(parts)
        self.channels = (in_channels, *(part[-1].num_features for part in parts))
        self.strides = (1, 2, 4, 8)

    def load_weights(self) -> dict[str, str]:
        """Load weights as `TimmEncoder.load_weights` does."""
        whole = TimmEncoder(self.name, self.in_channels, self.options)
        origin = whole.load_weights()
        # the same layers in the same order, to where this network stops
        self.body.load_state_dict(
            dict(zip(self.body.state_dict(), whole.body.state_dict().values(), strict=False))
        )
        return origin

    def forward(self, image: Tensor) -> list[Tensor]:
        pyramid = [image]
        for part in self.body.children():
            pyramid.append(part(pyramid[-1]))
        return pyramid


class NanoBlock(nn.Module):
    """The modified residual block: a bottleneck of a quarter of the channels, then squeeze and
    excitation."""

    def __init__(self, in_channels: int, out_channels: int, shortcut: str) -> None:
        super().__init__()
        inner = out_channels // 4
        self.body = nn.Sequential(
            ConvNormAct(in_channels, inner, 1, bias=True),
            ConvNormAct(inner, inner, bias=True),
            nn.Conv2d(inner, out_channels, 3, padding=1),
            nn.BatchNorm2d(out_channels),
        )
        self.project = nn.Conv2d(in_channels, out_channels, 1) if shortcut == "fixed" else None
        self.norm = nn.BatchNorm2d(out_channels)
        self.attention = SqueezeExcite(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)
        shortcut = self.norm(y if self.project is None else self.project(x))
        return self.attention(F.relu(y + shortcut))


class NanoStage(nn.Module):
    """Bilinear upsampling x2, concatenation with the skip after a 1x1 convolution of its own, a
    residual block."""

    def __init__(
        self, in_channels: int, skip_channels: int, out_channels: int, shortcut: str
    ) -> None:
        super().__init__()
        self.skip = ConvNormAct(skip_channels, out_channels, 1, bias=True)
        self.block = NanoBlock(in_channels + out_channels, out_channels, shortcut)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        return self.block(torch.cat([x, self.skip(skip)], 1))


class NanoDecoder(nn.Module):
    """A residual block at the bottom, then the U-Net loop."""

    def __init__(
        self,
        channels: Sequence[int],
        bottom: int,
        widths: Sequence[int],
        shortcut: str,
    ) -> None:
        super().__init__()
        self.bottom = NanoBlock(channels[-1], bottom, shortcut)
        self.loop = UNetDecoder(
            [*channels[:-1], bottom], partial(NanoStage, shortcut=shortcut), widths
        )
        self.channels = widths[-1]
        use_keras_norms(self)

    def forward(self, pyramid: list[Tensor]) -> Tensor:
        return self.loop([*pyramid[:-1], self.bottom(pyramid[-1])])


class NanoNet(Segmenter):
    """NanoNet-A, B or C.

    Args:
        in_channels, num_classes: as in `UNet`.
        variant: the paper's A (235,425 parameters), B (132,049) or C (36,561), batch norm's
            statistics included.
        shortcut: of the residual blocks: as released and ``published``, or ``fixed``.
    """

    tiny: ClassVar[dict[str, Any]] = {"variant": "c"}

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 1,
        variant: Literal["a", "b", "c"] = "a",
        shortcut: Literal["published", "fixed"] = "published",
    ) -> None:
        encoder, bottom, widths = VARIANTS[variant]
        body = ExpansionEncoder(encoder, in_channels)
        super().__init__(body, NanoDecoder(body.channels, bottom, widths, shortcut), num_classes)
