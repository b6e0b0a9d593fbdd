"""TransUNet: Chen et al., "TransUNet: Transformers Make Strong Encoders for Medical Image
Segmentation", 2021.

    z = Transformer(W e_N + positions)        e_N <- W' z        then the U-Net decoder

Differs from the paper: UNet-A's form: 6 layers of width 512 on the coarsest map of any encoder;
positions are learned for ``image_size`` and interpolated at other sizes.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lightning_seg.models.frame.blocks import resize_maps
from lightning_seg.models.frame.encoder import make_encoder
from lightning_seg.models.frame.skeleton import Segmenter, UNetDecoder
from lightning_seg.models.frame.skip import make_skip
from lightning_seg.models.unet import UNetStage


class TransformerBottleneck(nn.Module):
    """Self-attention over the cells of the coarsest map; the other levels pass as they are."""

    def __init__(
        self,
        channels: int,
        grid: int,
        width: int,
        depth: int,
        heads: int,
    ) -> None:
        super().__init__()
        self.inner = nn.Conv2d(channels, width, 1)
        self.position = nn.Parameter(torch.zeros(1, width, grid, grid))
        if self.position.device.type != "meta":
            nn.init.trunc_normal_(self.position, std=0.02)
        layer = nn.TransformerEncoderLayer(
            width, heads, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(
            layer, depth, nn.LayerNorm(width), enable_nested_tensor=False
        )
        self.outer = nn.Conv2d(width, channels, 1)

    def forward(self, pyramid: list[Tensor]) -> list[Tensor]:
        *finer, x = pyramid
        x = self.inner(x)
        x = x + resize_maps(self.position, x.shape[-2:])
        tokens = self.layers(x.flatten(2).transpose(1, 2))  # (B, H*W, width)
        return [*finer, self.outer(tokens.transpose(1, 2).reshape(x.shape))]


class TransUNet(Segmenter):
    """U-Net with a transformer at the bottom, over any encoder. Further arguments as in `UNet`.

    Args:
        image_size: side in pixels for which positions are learned.
        width, depth, heads: of the transformer.
    """

    tiny: ClassVar[dict[str, Any]] = {
        "widths": (4, 8, 16),
        "image_size": 64,
        "width": 16,
        "depth": 1,
        "heads": 2,
    }

    def __init__(
        self,
        encoder: str | None = None,
        in_channels: int = 3,
        num_classes: int = 1,
        widths: Sequence[int] | None = None,
        image_size: int = 256,
        width: int = 512,
        depth: int = 6,
        heads: int = 8,
        skip: str | dict[str, Any] | None = None,
        encoder_options: dict[str, Any] | None = None,
    ) -> None:
        body = make_encoder(encoder, in_channels, encoder_options, widths)
        grid = max(1, image_size // body.strides[-1])
        between = make_skip(skip, body.channels, body.strides)
        bottleneck = TransformerBottleneck(body.channels[-1], grid, width, depth, heads)
        super().__init__(
            body,
            UNetDecoder(body.channels, UNetStage),
            num_classes,
            nn.Sequential(between, bottleneck),
        )
