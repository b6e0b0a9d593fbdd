"""DDANet: Tomar et al., "DDANet: Dual Decoder Attention Network for Automatic Polyp Segmentation",
ICPR 2020 workshops.

    a_l = Block([up(a_{l+1}), e_l])        s_l = Block([up(s_{l+1}), e_l]) * sigmoid(W a_l)
    logits = W' s_1        penalty = BCE(W'' a_1, grey image)

Differs from the paper: one loss term per output as its code intends (the code crashes): the
reconstruction's comes as the penalty. Its target is the luma of the image stretched to [0, 1] per
image, so that any normalization of the input will do.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_seg.errors import InputError
from lightning_seg.models.frame.blocks import (
    AttentionMap,
    ConvNormAct,
    SqueezeExcite,
    batch_mean,
)
from lightning_seg.models.frame.encoder import ConvEncoder
from lightning_seg.models.frame.skeleton import Output, pad_to_multiple
from lightning_seg.models.unet import UNetStage

LUMA = (0.299, 0.587, 0.114)


class SEResidualBlock(nn.Module):
    """``relu(bn(conv3(relu(bn(conv3(x))))) + SE(bn(W x)))``: the attention sits on the shortcut."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            ConvNormAct(in_channels, out_channels, bias=True),
            nn.Conv2d(out_channels, out_channels, 3, padding=1),
            nn.BatchNorm2d(out_channels),
        )
        self.shortcut = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 1),
            nn.BatchNorm2d(out_channels),
            SqueezeExcite(out_channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.shortcut(x))


class DoubleSEResidual(nn.Sequential):
    """Two residual blocks: what a level of the encoder or a decoder consists of."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(
            SEResidualBlock(in_channels, out_channels), SEResidualBlock(out_channels, out_channels)
        )


class DualStage(nn.Module):
    """One step of both decoders; the reconstruction's says where the segmentation's looks."""

    def __init__(self, in_channels: int, skip_channels: int, out_channels: int) -> None:
        super().__init__()
        up = partial(nn.ConvTranspose2d, kernel_size=4, stride=2, padding=1)
        self.segment = UNetStage(in_channels, skip_channels, out_channels, DoubleSEResidual, up)
        self.reconstruct = UNetStage(in_channels, skip_channels, out_channels, DoubleSEResidual, up)
        self.attention = nn.Sequential(nn.Conv2d(out_channels, 1, 1), nn.Sigmoid(), AttentionMap())

    def forward(
        self, segmented: Tensor, reconstructed: Tensor, skip: Tensor
    ) -> tuple[Tensor, Tensor]:
        reconstructed = self.reconstruct(reconstructed, skip)
        return self.segment(segmented, skip) * self.attention(reconstructed), reconstructed


class DDANet(nn.Module):
    """DDANet.

    Args:
        in_channels, num_classes: as in `UNet`.
        widths: channels of the encoder's levels, fine to coarse; the decoders have half of these.
        reconstruction: weight of the reconstruction's loss, which is the penalty (paper: 1); 0
            leaves it out.
    """

    tiny: ClassVar[dict[str, Any]] = {"widths": (8, 16, 32)}

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 1,
        widths: Sequence[int] = (32, 64, 128, 256),
        reconstruction: float = 1.0,
    ) -> None:
        super().__init__()
        if reconstruction < 0:
            raise InputError(
                f"reconstruction is {reconstruction}; give the weight of its loss, 0 or more."
            )
        self.reconstruction = reconstruction
        self.encoder = ConvEncoder(in_channels, widths, DoubleSEResidual)
        steps = zip((widths[-1], *(w // 2 for w in widths[:0:-1])), widths[::-1], strict=True)
        self.stages = nn.ModuleList(DualStage(below, skip, skip // 2) for below, skip in steps)
        self.head = nn.Conv2d(widths[0] // 2, num_classes, 1)
        self.grey_head = nn.Conv2d(widths[0] // 2, 1, 1) if reconstruction > 0 else None

    def forward(self, image: Tensor) -> Tensor | Output:
        height, width = image.shape[-2:]
        padded = pad_to_multiple(image, 2 * self.encoder.strides[-1])
        pyramid = self.encoder(padded)
        segmented = reconstructed = self.encoder.pool(pyramid[-1])
        for stage, skip in zip(self.stages, reversed(pyramid), strict=True):
            segmented, reconstructed = stage(segmented, reconstructed, skip)
        logits = self.head(segmented)[..., :height, :width]
        if self.grey_head is None:
            return logits
        error = F.binary_cross_entropy_with_logits(
            self.grey_head(reconstructed), grey(padded), reduction="none"
        )
        return Output(logits, penalty=self.reconstruction * batch_mean(error))


def grey(image: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, 1, H, W): luma of three channels, mean of any others, stretched to [0, 1]
    per image."""
    weights = LUMA if image.shape[1] == len(LUMA) else (1 / image.shape[1],) * image.shape[1]
    luma = (image.float() * torch.tensor(weights, device=image.device)[:, None, None]).sum(
        1, keepdim=True
    )
    low, high = luma.amin((2, 3), keepdim=True), luma.amax((2, 3), keepdim=True)
    return (luma - low) / (high - low).clamp_min(1e-6)
