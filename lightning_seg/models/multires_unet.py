"""MultiResUNet: Ibtehaz, Rahman, "MultiResUNet: Rethinking the U-Net Architecture for Multimodal
Biomedical Image Segmentation", 2020.

    MultiRes(x) = relu(bn([c_1, c_2, c_3]) + bn(W x)), c_1 = f_1(x), c_2 = f_2(c_1), c_3 = f_3(c_2)
    f_i = relu(bn(conv(.)))
    ResPath: n times x <- relu(bn(conv(x) + W x)), on each skip
    d_l = MultiRes([relu(bn(up(d_{l+1}))), path_l(e_l)])

The three chained convolutions have 1/6, 1/3 and 1/2 of 1.67 w filters.
Differs from the paper: the form of the Dual Cross-Attention paper: no norm on the shortcuts of a
path nor after the block's sum, norm after the transposed convolution. With a skip module that takes
raw maps, each path's last norm is dead (``unused``).
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_seg.models.frame.blocks import ConvNormAct
from lightning_seg.models.frame.encoder import ConvEncoder
from lightning_seg.models.frame.skeleton import Segmenter, UNetDecoder
from lightning_seg.models.frame.skip import make_skip

SHARES = (0.167, 0.333, 0.5)


def filters(width: int) -> list[int]:
    """The filters of the three convolutions of a block of nominal ``width``; their sum is what it
    gives out."""
    return [int(width * 1.67 * share) for share in SHARES]


class MultiResBlock(nn.Module):
    """Three chained 3x3 convolutions side by side, plus a 1x1 shortcut: 3x3, 5x5 and 7x7 fields at
    the cost of 3x3."""

    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__()
        outs = filters(width)
        sizes = zip((in_channels, *outs), outs, strict=False)
        self.chain = nn.ModuleList(ConvNormAct(i, o, bias=True) for i, o in sizes)
        self.norm = nn.BatchNorm2d(sum(outs))
        self.shortcut = nn.Sequential(
            nn.Conv2d(in_channels, sum(outs), 1), nn.BatchNorm2d(sum(outs))
        )

    def forward(self, x: Tensor) -> Tensor:
        shortcut, maps = self.shortcut(x), []
        for convolution in self.chain:
            x = convolution(x)
            maps.append(x)
        return F.relu(self.norm(torch.cat(maps, 1)) + shortcut)


class ResPath(nn.Module):
    """``length`` residual convolutions, each with norm and ReLU after its sum; ``raw`` gives the
    last sum."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        length: int,
        raw: bool,
    ) -> None:
        super().__init__()
        inputs = [in_channels] + [out_channels] * (length - 1)
        self.bodies = nn.ModuleList(nn.Conv2d(i, out_channels, 3, padding=1) for i in inputs)
        self.shortcuts = nn.ModuleList(nn.Conv2d(i, out_channels, 1) for i in inputs)
        self.norms = nn.ModuleList(nn.BatchNorm2d(out_channels) for _ in inputs)
        self.raw = raw

    def forward(self, x: Tensor) -> Tensor:
        total = x
        for body, shortcut, norm in zip(self.bodies, self.shortcuts, self.norms, strict=True):
            total = body(x) + shortcut(x)
            x = F.relu(norm(total))
        return total if self.raw else x


class ResPaths(nn.Module):
    """A `ResPath` on each skip, the longer the finer; the coarsest map passes as it is."""

    def __init__(
        self,
        channels: Sequence[int],
        widths: Sequence[int],
        raw: bool,
    ) -> None:
        super().__init__()
        sizes = zip(channels, widths[:-1], range(len(widths) - 1, 0, -1), strict=False)
        self.paths = nn.ModuleList(ResPath(i, o, length, raw) for i, o, length in sizes)

    def forward(self, pyramid: list[Tensor]) -> list[Tensor]:
        *skips, bottom = pyramid
        return [*(path(x) for path, x in zip(self.paths, skips, strict=True)), bottom]


class MultiResStage(nn.Module):
    """Transposed convolution, norm, ReLU to the width of the skip, concatenation, `MultiResBlock`
    of that nominal width."""

    def __init__(self, in_channels: int, skip_channels: int) -> None:
        super().__init__()
        self.up = nn.Sequential(
            nn.ConvTranspose2d(in_channels, skip_channels, 2, 2),
            nn.BatchNorm2d(skip_channels),
            nn.ReLU(inplace=True),
        )
        self.block = MultiResBlock(2 * skip_channels, skip_channels)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return self.block(torch.cat([self.up(x), skip], 1))


class MultiResUNet(Segmenter):
    """MultiResUNet.

    Args:
        in_channels, num_classes: as in `UNet`.
        widths: nominal widths of the levels, fine to coarse; a block gives out about 1.67 / 1.05
            times as many channels.
        skip: see `make_skip`; it follows the paths.
    """

    tiny: ClassVar[dict[str, Any]] = {"widths": (8, 16, 32)}

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 1,
        widths: Sequence[int] = (32, 64, 128, 256, 512),
        skip: str | dict[str, Any] | None = None,
    ) -> None:
        channels = [sum(filters(width)) for width in widths]
        nominal = iter(widths)  # one per level, fine to coarse
        encoder = ConvEncoder(in_channels, channels, lambda i, _: MultiResBlock(i, next(nominal)))
        joined = (*widths[:-1], channels[-1])
        between = make_skip(skip, joined)
        decoder = UNetDecoder(joined, lambda i, s, _: MultiResStage(i, s), channels[-2::-1])
        paths = ResPaths(channels, widths, between.raw)
        super().__init__(encoder, decoder, num_classes, nn.Sequential(paths, between))
        steps = range(len(widths) - 1, 0, -1)  # of each path
        self.unused = (
            tuple(f"skip.0.paths.{i}.norms.{n - 1}." for i, n in enumerate(steps))
            if between.raw
            else ()
        )
