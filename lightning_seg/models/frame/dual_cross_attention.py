"""Dual Cross-Attention: Ates, Mohan, Celik, "Dual Cross-Attention for Medical Image Segmentation",
2023. A skip value, see `_skip`.

    T_i = scale(pool(E_i)) at P x P, T = [LN T_1, ..., LN T_n] over channels, C = sum C_i
    CCA:  T_i <- T_i + W ((softmax(Q_i' K / sqrt(C)) V')')
    Q_i from LN T_i, K and V from T: channels look at channels
    SCA:  T_i <- T_i + W softmax(Q K' / sqrt(C / h)) V_i
    Q and K from T, V_i from LN T_i: pixels look at pixels
    skip_i = relu(bn(E_i + conv1x1(up(T_i))))

Every Q, K, V, W and ``scale`` is a depthwise 1x1 convolution: one weight and one bias per channel.
Differs from the paper: as in the authors' code, the LayerNorm and GELU that its figure draws after
the block are left out (``post_norm`` puts them in); the pool grid follows the size of the image.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_seg.errors import InputError
from lightning_seg.models.frame.blocks import AttentionMap, lean_attention


class ChannelScale(nn.Module):
    """Tokens (B, N, C) times a weight plus a bias per channel, initialised as the depthwise 1x1
    convolution it is."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels))
        self.bias = nn.Parameter(torch.empty(channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.uniform_(self.weight, -1, 1)
        nn.init.uniform_(self.bias, -1, 1)

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens * self.weight + self.bias


class CrossAttention(nn.Module):
    """Heads of one scale's attention: tokens (B, N, C_i) of its own and (B, N, C) of all scales ->
    (B, N, C_i)."""

    def __init__(
        self,
        query: int,
        key: int,
        value: int,
        out: int,
        heads: int,
        marker: AttentionMap,
    ) -> None:
        super().__init__()
        self.query = ChannelScale(query)
        self.key = ChannelScale(key)
        self.value = ChannelScale(value)
        self.out = ChannelScale(out)
        self.heads = heads
        self.map = marker

    def _split(self, tokens: Tensor) -> Tensor:
        """(B, N, C) -> (B, heads, N, C / heads)."""
        return tokens.unflatten(2, (self.heads, -1)).transpose(1, 2)


class ChannelCrossAttention(CrossAttention):
    """CCA: each channel of one scale looks at the channels of all scales; the map is (B, heads, C_i
    / heads, C / heads)."""

    def __init__(self, channels: int, total: int, heads: int) -> None:
        super().__init__(channels, total, total, channels, heads, AttentionMap("channel_pairs"))

    def forward(self, own: Tensor, everything: Tensor) -> Tensor:
        maps = self.query(own), self.key(everything), self.value(everything)
        q, k, v = (self._split(m).transpose(2, 3) for m in maps)  # (B, heads, C / heads, N)
        # scaled by all channels, with several heads too, as in the authors' code
        out = lean_attention(q, k, v, everything.shape[-1] ** -0.5, self.map)
        return self.out(out.permute(0, 3, 1, 2).flatten(2))


class SpatialCrossAttention(CrossAttention):
    """SCA: each cell of the grid looks at all cells, by the channels of all scales; the map is (B,
    heads, N, N)."""

    def __init__(self, channels: int, total: int, heads: int) -> None:
        super().__init__(total, total, channels, channels, heads, AttentionMap("pixel_pairs"))

    def forward(self, own: Tensor, everything: Tensor) -> Tensor:
        maps = self.query(everything), self.key(everything), self.value(own)
        q, k, v = (self._split(m) for m in maps)
        out = lean_attention(q, k, v, q.shape[-1] ** -0.5, self.map)
        return self.out(out.transpose(1, 2).flatten(2))


class CrossScale(nn.Module):
    """One attention per scale, each added to its tokens: ``T_i + attention_i(LN T_i, [LN T_1, ...,
    LN T_n])``."""

    def __init__(
        self,
        attention: type[ChannelCrossAttention | SpatialCrossAttention],
        channels: Sequence[int],
        heads: int,
    ) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(c, eps=1e-6) for c in channels)
        self.attentions = nn.ModuleList(attention(c, sum(channels), heads) for c in channels)

    def forward(self, tokens: list[Tensor]) -> list[Tensor]:
        normed = [norm(t) for norm, t in zip(self.norms, tokens, strict=True)]
        everything = torch.cat(normed, 2)
        return [
            t + attend(own, everything)
            for t, own, attend in zip(tokens, normed, self.attentions, strict=True)
        ]


class DualCrossAttention(nn.Module):
    """Pyramid -> pyramid: the skips see each other; the coarsest map passes as it is.

    Args:
        channels, strides: of the pyramid, fine to coarse, with the coarsest map.
        patch_size: side in pixels of the image of a cell of the pool grid (default: the stride of
            the coarsest skip, which is the paper's 8 for four skips and 4 for three, from stride
            1).
        cca, sca: channel and spatial cross-attention.
        heads: of the spatial cross-attention.
        channel_heads: of the channel cross-attention.
        depth: blocks of CCA and SCA, one after the other.
        post_norm: what follows the blocks; ``ln_gelu`` is the paper's figure.
    """

    raw = True  # it takes maps before their norm and activation, because it ends in both

    def __init__(
        self,
        channels: Sequence[int],
        strides: Sequence[int],
        patch_size: int | None = None,
        cca: bool = True,
        sca: bool = True,
        heads: int = 4,
        channel_heads: int = 1,
        depth: int = 1,
        post_norm: Literal["none", "ln_gelu"] = "none",
    ) -> None:
        super().__init__()
        *widths, _ = channels
        if not widths:
            raise InputError(
                f"skip 'dca' needs a network of two levels or more; this one has channels {tuple(channels)}."
            )
        self.stride = strides[0]
        self.patch_size = strides[-2] if patch_size is None else patch_size
        if not (cca or sca):
            raise InputError(
                "skip 'dca' with neither cca nor sca attends to nothing; switch one on, or leave `skip` out."
            )
        heads, channel_heads = heads if sca else 1, channel_heads if cca else 1
        _check_numbers(
            widths,
            patch_size=self.patch_size,
            heads=heads,
            channel_heads=channel_heads,
            depth=depth,
        )
        self.embed = nn.ModuleList(ChannelScale(c) for c in widths)
        kinds = [(ChannelCrossAttention, channel_heads)] * cca + [
            (SpatialCrossAttention, heads)
        ] * sca
        self.blocks = nn.Sequential(
            *(CrossScale(kind, widths, h) for _ in range(depth) for kind, h in kinds)
        )
        self.post = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(c, eps=1e-6), nn.GELU())
            if post_norm == "ln_gelu"
            else nn.Identity()
            for c in widths
        )
        self.project = nn.ModuleList(nn.Conv2d(c, c, 1) for c in widths)
        self.finish = nn.ModuleList(
            nn.Sequential(nn.BatchNorm2d(c), nn.ReLU(inplace=True)) for c in widths
        )

    def forward(self, pyramid: list[Tensor]) -> list[Tensor]:
        *skips, bottom = pyramid
        sides = skips[0].shape[-2:]
        height, width = (max(1, side * self.stride // self.patch_size) for side in sides)
        grid = height, width
        # (B, N, C_i)
        pooled = [F.adaptive_avg_pool2d(x, grid).flatten(2).transpose(1, 2) for x in skips]
        tokens = self.blocks([embed(x) for embed, x in zip(self.embed, pooled, strict=True)])
        attended = []
        ends = zip(skips, tokens, self.post, self.project, self.finish, strict=True)
        for x, token, post, project, finish in ends:
            cells = post(token).transpose(1, 2).unflatten(2, grid)
            cells = F.interpolate(cells, x.shape[-2:], mode="bilinear", align_corners=True)
            attended.append(finish(x + project(cells)))
        return [*attended, bottom]


def _check_numbers(widths: Sequence[int], **numbers: int) -> None:
    """Numbers that make no network are input errors."""
    for name, number in numbers.items():
        if number < 1:
            raise InputError(f"{name} of skip 'dca' is {number}; it has to be 1 or more.")
        if name.endswith("heads") and any(c % number for c in widths):
            raise InputError(
                f"{name} of skip 'dca' is {number}, which does not divide all channels {tuple(widths)} of the skips; "
                "take a number that does."
            )
