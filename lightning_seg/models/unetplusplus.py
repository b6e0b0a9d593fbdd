"""UNet++: Zhou et al., "UNet++: A Nested U-Net Architecture for Medical Image Segmentation", DLMIA
2018.

    x[i][j] = DoubleConv([x[i][0], ..., x[i][j-1], up(x[i+1][j-1])])
    j > 0; x[i][0] is the encoder

Differs from the paper: any encoder; bilinear upsampling; no deep supervision (UNet-A's form).
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lightning_seg.models.frame.blocks import DoubleConv, resize_maps
from lightning_seg.models.frame.encoder import make_encoder
from lightning_seg.models.frame.skeleton import Segmenter
from lightning_seg.models.frame.skip import make_skip


class NestedDecoder(nn.Module):
    """The triangle of nodes ``x[i][j]``; ``nodes[j - 1][i]`` is the block of column j at level
    i."""

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        depth = len(channels) - 1
        self.nodes = nn.ModuleList(
            nn.ModuleList(
                DoubleConv(j * channels[i] + channels[i + 1], channels[i])
                for i in range(depth - j + 1)
            )
            for j in range(1, depth + 1)
        )
        self.channels = channels[0]

    def forward(self, pyramid: list[Tensor]) -> Tensor:
        rows = [[level] for level in pyramid]
        for column in self.nodes:
            for i, node in enumerate(column.children()):
                below = resize_maps(rows[i + 1][len(rows[i]) - 1], rows[i][0].shape[-2:])
                rows[i].append(node(torch.cat([*rows[i], below], 1)))
        return rows[0][-1]


class UNetPlusPlus(Segmenter):
    """UNet++ over any encoder. Arguments as in `UNet`."""

    tiny: ClassVar[dict[str, Any]] = {"widths": (4, 8, 16)}

    def __init__(
        self,
        encoder: str | None = None,
        in_channels: int = 3,
        num_classes: int = 1,
        widths: Sequence[int] | None = None,
        skip: str | dict[str, Any] | None = None,
        encoder_options: dict[str, Any] | None = None,
    ) -> None:
        body = make_encoder(encoder, in_channels, encoder_options, widths)
        super().__init__(
            body,
            NestedDecoder(body.channels),
            num_classes,
            make_skip(skip, body.channels, body.strides),
        )
