"""The released code of PAM-UNet, repaired, behind `PAMUNet`'s ``variant="repo"``.

    d_l = IR([u_l + gamma * A V, u_l]), u_l = up(d_{l+1}), A = softmax(Q K')
    Q from u_l, K and V from e_l

Repaired: keys and values at full resolution come from the image, and pixels are kept apart from
channels.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lightning_seg.models._pam import Attend, PAMStage
from lightning_seg.models.mobile_unet import InvertedResidual


class ReleasedEncoder(nn.Module):
    """Four inverted residuals of stride 2 on the bare image, which is the finest level of the
    pyramid."""

    def __init__(self, in_channels: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.channels = (in_channels, *widths)
        self.strides = tuple(2**level for level in range(len(self.channels)))
        self.levels = nn.ModuleList(
            InvertedResidual(i, o, stride=2) for i, o in zip(self.channels, widths, strict=False)
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        pyramid = [image]
        for level in self.levels:
            pyramid.append(level(pyramid[-1]))
        return pyramid


class ReleasedSkip(nn.Module):
    """``up + gamma * A V`` with gamma zero at first; queries from the decoder, keys and values from
    the encoder."""

    def __init__(self, skip_channels: int, channels: int, attend: Attend) -> None:
        super().__init__()
        self.attention = attend(channels, skip_channels, channels)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(
        self,
        skip: Tensor,
        up: Tensor,
    ) -> tuple[Tensor, Tensor | None]:
        out, variance = self.attention(up, skip)
        return up + self.gamma * out, variance


def released_stages(channels: Sequence[int], attend: Attend) -> list[PAMStage]:
    """Four steps that halve the channels; the last one's skip is the image."""
    widths = [channels[-1] // 2**step for step in range(1, len(channels))]
    return [
        PAMStage(
            nn.ConvTranspose2d(2 * width, width, 2, 2), ReleasedSkip(skip, width, attend), width
        )
        for width, skip in zip(widths, channels[-2::-1], strict=True)
    ]
