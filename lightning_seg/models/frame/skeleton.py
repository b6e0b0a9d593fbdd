"""The shape all U-shaped networks share: ``logits = head(decoder(skip(encoder(image))))``.

A paper fills one or two of the four slots; nothing here knows which paper that is.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from lightning_seg.models.frame.blocks import resize_maps

# (in_channels, skip_channels, out_channels) -> module called as stage(x, skip), skip None where there is none
Stage = Callable[[int, int, int], nn.Module]


class Output(NamedTuple):
    """The output that a network may return instead of plain logits.

    logits: (B, K, H, W). deep: further logits of the same shape, for deep supervision. penalty: a
    scalar for the loss.
    """

    logits: Tensor
    deep: tuple[Tensor, ...] = ()
    penalty: Tensor | None = None


class UNetDecoder(nn.Module):
    """The U-Net loop, coarse to fine: each stage joins what comes from below with the skip of its
    level.

    Args:
        channels: of the pyramid, fine to coarse.
        stage: constructor of one step.
        widths: output channels per step, coarse to fine (default: those of the skip).
        tail: output channels of further steps, without a skip, beyond the finest level.
    """

    def __init__(
        self,
        channels: Sequence[int],
        stage: Stage,
        widths: Sequence[int] | None = None,
        tail: Sequence[int] = (),
    ) -> None:
        super().__init__()
        *skips, width = channels
        skips = skips[::-1]
        outs = [*(widths or skips), *tail]
        self.stages = nn.ModuleList()
        for skip, out in zip([*skips, *[0] * len(tail)], outs, strict=True):
            self.stages.append(stage(width, skip, out))
            width = out
        self.channels = width

    def forward(self, pyramid: list[Tensor]) -> Tensor:
        *skips, x = pyramid
        for level, stage in enumerate(self.stages, start=1):
            x = stage(x, skips[-level] if level <= len(skips) else None)
        return x


class Segmenter(nn.Module):
    """``head(decoder(skip(encoder(image))))``: image (B, C, H, W) of any size -> logits (B, K, H,
    W).

    Args:
        encoder: image -> pyramid, with ``channels`` and ``strides``.
        decoder: pyramid -> one map with ``decoder.channels`` channels, or that map and a penalty as
            in `Output`.
        skip: pyramid -> pyramid of the same shapes (default: as it is).
        head: map -> logits (default: a 1x1 convolution); they are resampled to the size of the
            image.
    """

    def __init__(
        self,
        encoder: Any,
        decoder: Any,
        num_classes: int,
        skip: nn.Module | None = None,
        head: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.encoder: Any = encoder
        self.skip = skip or nn.Identity()
        self.decoder: Any = decoder
        self.head = head or nn.Conv2d(decoder.channels, num_classes, 1)

    def forward(self, image: Tensor) -> Tensor | Output:
        height, width = image.shape[-2:]
        padded = pad_to_multiple(image, self.encoder.strides[-1])
        decoded = self.decoder(self.skip(self.encoder(padded)))
        x, penalty = decoded if isinstance(decoded, tuple) else (decoded, None)
        logits = resize_maps(self.head(x), padded.shape[-2:])[..., :height, :width]
        return logits if penalty is None else Output(logits, penalty=penalty)


def pad_to_multiple(image: Tensor, multiple: int) -> Tensor:
    """Repeat the last row and column until height and width are multiples of ``multiple``: every
    level then halves exactly."""
    height, width = image.shape[-2:]
    bottom, right = -height % multiple, -width % multiple
    return F.pad(image, (0, right, 0, bottom), mode="replicate") if bottom or right else image
