"""SA-UNetv2: Guo et al., "SA-UNetv2: Rethinking Spatial Attention U-Net for Retinal Vessel
Segmentation", 2025.

    d_l = unit(unit([u, CSA(e_l, u)])),  u = up(d_{l+1})
    unit(x) = silu(groupnorm(dropblock(conv(x))))
    CSA(e, u) = e * sigmoid(conv7x7([mean_c e, mean_c u]))

Differs from the paper: nothing known. 260,521 parameters.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from lightning_seg.models.frame.blocks import AttentionMap, SpatialAttention
from lightning_seg.models.frame.channel_maps import channel_mean, weigh_pixels
from lightning_seg.models.frame.encoder import ConvEncoder
from lightning_seg.models.frame.skeleton import Segmenter, UNetDecoder
from lightning_seg.models.sa_unet import DoublingStage, DropUnits, group_silu, initialize


class CrossScaleAttention(nn.Module):
    """Cross-scale spatial attention: the skip, weighed by where it and the upsampled decoder map
    are strong."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 7, padding=3, bias=False)
        self.map = AttentionMap()

    def forward(self, skip: Tensor, x: Tensor) -> Tensor:
        summary = torch.cat([channel_mean(skip), channel_mean(x)], 1)
        return weigh_pixels(skip, self.map(self.conv(summary).sigmoid()))


class SAUNetV2(Segmenter):
    """SA-UNetv2. Further arguments as in `SAUNet`.

    Args:
        skip_attention: cross-scale spatial attention on every skip, or none.
    """

    tiny: ClassVar[dict[str, Any]] = {"widths": (8, 16), "drop_rate": 0.05}

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 1,
        widths: Sequence[int] = (16, 32, 48, 64),
        drop_rate: float = 0.15,
        skip_attention: Literal["csa", "none"] = "csa",
    ) -> None:
        block = partial(DropUnits, drop_rate=drop_rate, activate=group_silu)
        encoder = ConvEncoder(
            in_channels, widths, block, bottom=partial(block, between=SpatialAttention)
        )
        attend = CrossScaleAttention if skip_attention == "csa" else None
        decoder = UNetDecoder(encoder.channels, partial(DoublingStage, block=block, attend=attend))
        super().__init__(encoder, decoder, num_classes)
        initialize(self, he=(nn.Conv2d,))
