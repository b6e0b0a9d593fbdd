"""What both variants of `PAMUNet` consist of: its attention over all pixels of a level, its step
and its decoder."""

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lightning_seg.models.frame.blocks import AttentionMap, batch_mean, lean_attention
from lightning_seg.models.mobile_unet import InvertedResidual

# of the attention maps of a batch that are held at once where no gradient needs the whole
ENTRIES = 2**22

Nonlinearity = Literal["softmax", "sigmoid", "double_sigmoid"]
_NONLINEARITIES: dict[str, Callable[[Tensor], Tensor]] = {
    "softmax": lambda scores: scores.softmax(-1),
    "sigmoid": lambda scores: scores.sigmoid() / scores.shape[-1],
    "double_sigmoid": lambda scores: scores.sigmoid().sigmoid(),
}
Attend = Callable[[int, int, int], nn.Module]  # (query_channels, key_channels, channels)


class LuongAttention(nn.Module):
    """``A V`` with one head over all pixels of a level, and the variance of ``A`` where
    ``regularized``, else None.

    Args:
        query_channels, key_channels: of the two maps it is called with; ``channels`` of its output.
        scaled: divide the scores by the root of ``channels``.
        scale_free: take the variance of ``A`` times its number of pixels.
    """

    def __init__(
        self,
        query_channels: int,
        key_channels: int,
        channels: int,
        nonlinearity: str = "softmax",
        regularized: bool = False,
        scaled: bool = True,
        scale_free: bool = False,
    ) -> None:
        super().__init__()
        self.query = nn.Conv2d(query_channels, channels, 1)
        self.key = nn.Conv2d(key_channels, channels, 1)
        self.value = nn.Conv2d(key_channels, channels, 1)
        self.scale = channels**-0.5 if scaled else 1.0
        self.nonlinearity = nonlinearity
        self.regularized = regularized
        self.scale_free = scale_free
        self.map = AttentionMap("pixel_pairs")  # (B, H*W, H*W)

    def forward(
        self,
        queries: Tensor,
        keys: Tensor,
    ) -> tuple[Tensor, Tensor | None]:
        maps = self.query(queries), self.key(keys), self.value(keys)
        # (B, H*W, C), contiguous: the kernels that never hold A refuse anything else, silently
        q, k, v = (m.flatten(2).transpose(1, 2).contiguous() for m in maps)
        # nobody asks an exported network for its penalty
        penalized = self.regularized and not torch.compiler.is_exporting()
        if self.nonlinearity == "softmax" and not penalized:
            out, variance = lean_attention(q, k, v, self.scale, self.map), None
        else:
            out, variance = self._by_rows(q, k, v)
        return out.transpose(1, 2).reshape(maps[0].shape), variance

    def _by_rows(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
    ) -> tuple[Tensor, Tensor | None]:
        """``A V`` and R(A), some rows of ``A`` at a time where nobody wants to see it; its gradient
        computes them again."""
        number = 1 if self.map.wanted else equal_pieces(*q.shape[:2])
        pieces = q.chunk(number, 1)
        if q.requires_grad and not self.map.wanted and not torch.compiler.is_exporting():
            parts = [
                checkpoint(self._rows, rows, k, v, use_reentrant=False, preserve_rng_state=False)
                for rows in pieces
            ]
        else:
            parts = [self._rows(rows, k, v) for rows in pieces]
        outs, moments = zip(*parts, strict=True)
        out = torch.cat(outs, 1)
        if not self.regularized:
            return out, None
        return out, self._variance(torch.stack(moments), q.shape[1])

    def _rows(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Some rows of ``A V``, and the first two moments (2, B) of these rows of ``A`` about ``1 /
        pixels``."""
        weights = self.map(_NONLINEARITIES[self.nonlinearity](q * self.scale @ k.transpose(1, 2)))
        if not self.regularized:
            return weights @ v, weights.new_zeros(2, len(q))
        # about the mean of a softmax's rows: no digits are lost
        centred = weights.float() - 1 / k.shape[1]
        moments = [centred.mean((1, 2)), centred.square().mean((1, 2))]
        return weights @ v, torch.stack(moments)

    def _variance(self, moments: Tensor, pixels: int) -> Tensor:
        """R(A): of all entries of an image's map, mean over the images; ``moments`` (pieces, 2, B)
        of equally large pieces."""
        mean, square = moments.mean(0)
        variance = batch_mean(square - mean.square())
        return variance * pixels**2 if self.scale_free else variance


def equal_pieces(batch: int, pixels: int) -> int:
    """The least number of equal pieces that holds each to `ENTRIES`, or to one row."""
    pieces = min(pixels, max(1, math.ceil(batch * pixels**2 / ENTRIES)))
    while pixels % pieces:
        pieces += 1
    return pieces


class PAMStage(nn.Module):
    """Upsampling, attention, concatenation, inverted residual; beside the map, the variance of its
    attention."""

    def __init__(
        self,
        up: nn.Module,
        attention: nn.Module,
        channels: int,
    ) -> None:
        super().__init__()
        self.channels = channels
        self.up = up
        self.attention = attention
        self.block = InvertedResidual(2 * channels, channels)

    def forward(
        self,
        x: Tensor,
        skip: Tensor,
    ) -> tuple[Tensor, Tensor | None]:
        x = self.up(x)
        attended, variance = self.attention(skip, x)
        return self.block(torch.cat([attended, x], 1)), variance


class PAMDecoder(nn.Module):
    """Stages from coarse to fine -> their map and, if regularized, ``regularizer`` times their mean
    variance."""

    def __init__(
        self, bottleneck: nn.Module, stages: Sequence[PAMStage], regularizer: float
    ) -> None:
        super().__init__()
        self.bottleneck = bottleneck
        self.stages = nn.ModuleList(stages)
        self.channels = stages[-1].channels
        self.regularizer = regularizer

    def forward(
        self,
        pyramid: list[Tensor],
    ) -> Tensor | tuple[Tensor, Tensor]:
        *skips, x = pyramid
        x = self.bottleneck(x)
        variances = []
        for stage, skip in zip(self.stages, reversed(skips), strict=True):
            x, variance = stage(x, skip)
            variances.append(variance)
        return x if variances[0] is None else (x, self.regularizer * torch.stack(variances).mean())
