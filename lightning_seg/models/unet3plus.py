"""UNet 3+: Huang et al., "UNet 3+: A Full-Scale Connected UNet for Medical Image Segmentation",
ICASSP 2020.

    d_l = conv3([conv3(down(e_k)) for k < l, conv3(e_l), conv3(up(d_k)) for k > l])
    d_D = e_D, the bottleneck

Differs from the paper: ``streams="unet_a"``, the default, is UNet-A's wiring: every level sees
*all* encoder maps, deeper ones upsampled, streams are 1x1 convolutions and a double convolution
joins them. ``streams="paper"`` is the published code with its 26,971,777 parameters. Any encoder.
The classification-guided module is a soft gate, see `ClassGate`.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_seg.models.frame.blocks import ConvNormAct, DoubleConv, resize_maps
from lightning_seg.models.frame.encoder import make_encoder
from lightning_seg.models.frame.skeleton import Output, pad_to_multiple
from lightning_seg.models.frame.skip import make_skip

ConvBlock = Callable[[int, int], nn.Module]  # (in_channels, out_channels) -> module


class FullScaleStage(nn.Module):
    """Maps of any scale, brought to one size, each reduced to ``width`` channels by its ``stream``,
    and joined."""

    def __init__(
        self,
        channels: Sequence[int],
        width: int,
        out_channels: int,
        stream: ConvBlock,
        join: ConvBlock,
    ) -> None:
        super().__init__()
        self.streams = nn.ModuleList(stream(i, width) for i in channels)
        self.join = join(len(channels) * width, out_channels)

    def forward(
        self,
        maps: Sequence[Tensor],
        size: torch.Size,
    ) -> Tensor:
        return self.join(
            torch.cat([s(_match(x, size)) for s, x in zip(self.streams, maps, strict=True)], 1)
        )


class FullScaleDecoder(nn.Module):
    """Every level sees the other levels: pyramid -> decoder maps, both fine to coarse.

    Args:
        channels: of the pyramid, fine to coarse, the bottleneck last.
        width: channels of a stream.
        stream, join: constructors of a stream, and of what joins the streams of a level.
        deeper: a level also sees the encoder maps below it, not only their decoder maps and the
            bottleneck.
    """

    def __init__(
        self,
        channels: Sequence[int],
        width: int,
        stream: ConvBlock,
        join: ConvBlock,
        deeper: bool,
    ) -> None:
        super().__init__()
        depth = len(channels) - 1
        self.depth = depth
        self.channels = len(channels) * width
        self.sources = [  # encoder maps, by level
            [k for k in range(depth + 1) if deeper or k <= level or k == depth]
            for level in range(depth)
        ]
        self.stages = nn.ModuleList()
        for level, sources in enumerate(self.sources):
            inputs = [*(channels[k] for k in sources), *[self.channels] * (depth - 1 - level)]
            self.stages.append(FullScaleStage(inputs, width, self.channels, stream, join))

    def forward(self, pyramid: list[Tensor]) -> list[Tensor]:
        decoded: list[Tensor] = []
        for level in reversed(range(self.depth)):
            maps = [*(pyramid[k] for k in self.sources[level]), *decoded]
            decoded.insert(0, self.stages[level](maps, pyramid[level].shape[-2:]))
        return decoded


def _match(x: Tensor, size: torch.Size) -> Tensor:
    """Finer maps are max-pooled, coarser ones upsampled, to ``size``."""
    factor = x.shape[-1] // size[-1]  # whole, as the image is padded
    return F.max_pool2d(x, factor) if factor > 1 else resize_maps(x, size)


class ClassGate(nn.Module):
    """Classification-guided module: the bottleneck tells whether there is anything to segment, ``p
    <- p * P(there is)``.

    The paper multiplies logits by the arg max of a two-way classifier that an image-level loss
    trains: a gate without a gradient. Here the gate is the probability itself, so the segmentation
    loss trains it; at 1 it changes nothing, at 0 it empties the mask.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scores = nn.Sequential(
            nn.Dropout(0.5), nn.Conv2d(channels, 2, 1), nn.AdaptiveMaxPool2d(1)
        )

    def forward(self, bottleneck: Tensor) -> Tensor:
        """The log-odds (B, 1, 1, 1) that there is something."""
        return self.scores(bottleneck).diff(dim=1)

    @staticmethod
    def apply_to(logits: Tensor, gate: Tensor) -> Tensor:
        """The logits of ``sigmoid(logits) * sigmoid(gate)``, without forming probabilities."""
        gate = gate.expand_as(logits)
        return -torch.stack([-logits, -gate, -logits - gate]).logsumexp(0)


class UNet3Plus(nn.Module):
    """UNet 3+ over any encoder. Further arguments as in `UNet`.

    Args:
        stream_width: channels of each stream.
        streams: the wiring, UNet-A's or the paper's.
        deep_supervision: further logits, of every coarser decoder map and of the bottleneck, in
            ``Output.deep``.
        cgm: the classification-guided module, on all logits.
    """

    tiny: ClassVar[dict[str, Any]] = {"widths": (4, 8, 16), "stream_width": 4}

    def __init__(
        self,
        encoder: str | None = None,
        in_channels: int = 3,
        num_classes: int = 1,
        widths: Sequence[int] | None = None,
        stream_width: int = 64,
        streams: Literal["unet_a", "paper"] = "unet_a",
        deep_supervision: bool = False,
        cgm: bool = False,
        skip: str | dict[str, Any] | None = None,
        encoder_options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        paper = streams == "paper"
        kernel = 3 if paper else 1
        stream = partial(ConvNormAct, kernel_size=kernel, bias=paper)
        join = partial(ConvNormAct, bias=True) if paper else DoubleConv
        self.encoder = make_encoder(
            encoder, in_channels, encoder_options, widths, partial(DoubleConv, bias=paper)
        )
        channels = self.encoder.channels
        self.skip = make_skip(skip, channels, self.encoder.strides)
        self.decoder = FullScaleDecoder(channels, stream_width, stream, join, deeper=not paper)
        inputs = [self.decoder.channels] * self.decoder.depth + [channels[-1]]
        inputs = inputs if deep_supervision else inputs[:1]
        self.heads = nn.ModuleList(
            nn.Conv2d(i, num_classes, kernel, padding=kernel // 2) for i in inputs
        )
        self.gate = ClassGate(channels[-1]) if cgm else None

    def forward(self, image: Tensor) -> Tensor | Output:
        height, width = image.shape[-2:]
        padded = pad_to_multiple(image, self.encoder.strides[-1])
        pyramid = self.skip(self.encoder(padded))
        maps = [*self.decoder(pyramid), pyramid[-1]]
        logits = [head(x) for head, x in zip(self.heads, maps, strict=False)]
        if self.gate is not None:
            gate = self.gate(pyramid[-1])
            logits = [self.gate.apply_to(x, gate) for x in logits]
        logits = [resize_maps(x, padded.shape[-2:])[..., :height, :width] for x in logits]
        return Output(logits[0], tuple(logits[1:])) if len(logits) > 1 else logits[0]
