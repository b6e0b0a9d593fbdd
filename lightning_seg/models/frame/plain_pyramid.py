"""A pyramid of the maps of a plain vision transformer, which all have one stride.

Taps after each quarter of the blocks, as Ranftl et al. 2021, "Vision Transformers for Dense
Prediction", https://arxiv.org/abs/2103.13413, have them; the steps up and down are those of the
simple feature pyramid of Li et al. 2022, "Exploring Plain Vision Transformer Backbones for Object
Detection", https://arxiv.org/abs/2203.16527.
"""

import math
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from lightning_seg.models.frame.skeleton import pad_to_multiple

PYRAMID_STRIDES = (4, 8, 16, 32)
TAPS = len(PYRAMID_STRIDES)


def quarter_taps(blocks: int) -> list[int]:
    """The last block of each quarter of them, from 0: 2, 5, 8 and 11 of 12."""
    return [math.ceil(blocks * part / TAPS) - 1 for part in range(1, TAPS + 1)]


class PlainPyramid(nn.Module):
    """Maps of one stride, early to late -> maps of strides 4, 8, 16 and 32, of an eighth, a
    quarter, half and all of their channels.

    A transposed convolution doubles a map, a max-pooling halves it; each ends in a 1x1 and a 3x3
    convolution with norms.

    Args:
        widths: channels of the four taps.
        patch: side in pixels of the transformer's patches. A patch covers the power of two from
            there on (14 -> 16): pictures are scaled to that end.
    """

    def __init__(self, widths: Sequence[int], patch: int) -> None:
        super().__init__()
        self.strides, self.patch = PYRAMID_STRIDES, patch
        self.stride = 2 ** math.ceil(math.log2(patch))
        self.channels = tuple(
            max(8, width // part) for width, part in zip(widths, (8, 4, 2, 1), strict=True)
        )
        sizes = zip(widths, self.channels, self.strides, strict=True)
        self.levels = nn.ModuleList(
            _level(width, out, int(math.log2(self.stride / stride))) for width, out, stride in sizes
        )

    def fitted(self, image: Tensor) -> Tensor:
        """An image (B, C, H, W) as the transformer takes it: padded to the multiple of the coarsest
        stride, and scaled so that a patch covers a power of two."""
        image = pad_to_multiple(image, max(self.strides[-1], self.stride))
        if self.patch == self.stride:
            return image
        height, width = (side // self.stride * self.patch for side in image.shape[-2:])
        return F.interpolate(
            image, (height, width), mode="bilinear", align_corners=False, antialias=False
        )

    def forward(self, taps: Sequence[Tensor], height: int, width: int) -> list[Tensor]:
        """The pyramid of an image of this height and width, without what `fitted` padded."""
        pyramid = [level(tap) for level, tap in zip(self.levels, taps, strict=True)]
        return [
            one[..., : -(-height // stride), : -(-width // stride)]
            for one, stride in zip(pyramid, self.strides, strict=True)
        ]


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of (B, C, H, W), pixel by pixel."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2).contiguous()


def _level(width: int, out: int, doublings: int) -> nn.Sequential:
    """One level; negative doublings are halvings."""
    steps: list[nn.Module] = []
    for _ in range(doublings):
        half = max(out, width // 2)
        steps += [nn.ConvTranspose2d(width, half, 2, 2), ChannelNorm(half), nn.GELU()]
        width = half
    steps += [nn.MaxPool2d(2) for _ in range(-doublings)]
    steps += [nn.Conv2d(width, out, 1, bias=False), ChannelNorm(out)]
    steps += [nn.Conv2d(out, out, 3, padding=1, bias=False), ChannelNorm(out)]
    return nn.Sequential(*steps)
