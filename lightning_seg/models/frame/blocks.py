"""Layers that more than one network uses. Tensors are ``(B, C, H, W)``."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# of batch norm by Keras' defaults, whose momentum .99 is what torch calls 0.01
KERAS_EPSILON = 1e-3
KERAS_MOMENTUM = 0.01


def keras_norm(channels: int) -> nn.BatchNorm2d:
    """Batch norm with Keras' defaults, for networks whose published code is Keras."""
    return nn.BatchNorm2d(channels, KERAS_EPSILON, KERAS_MOMENTUM)


def use_keras_norms(net: nn.Module) -> None:
    """Give every batch norm in ``net`` Keras' defaults, as `keras_norm` has them."""
    for norm in net.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.eps, norm.momentum = KERAS_EPSILON, KERAS_MOMENTUM


class ConvNormAct(nn.Sequential):
    """``k x k`` convolution, batch norm, ReLU; the size stays the same at stride 1.

    ``bias`` is for parameter counts of published code only: the norm takes it out again.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        stride: int = 1,
        bias: bool = False,
    ) -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, kernel_size, stride, kernel_size // 2, bias=bias),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )


class DoubleConv(nn.Sequential):
    """The U-Net block: (3x3 convolution, batch norm, ReLU) twice. Ronneberger et al. 2015, with
    Ioffe's norm."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        bias: bool = False,
    ) -> None:
        super().__init__(
            ConvNormAct(in_channels, out_channels, bias=bias),
            ConvNormAct(out_channels, out_channels, bias=bias),
        )


def norm_act_conv(
    in_channels: int,
    out_channels: int,
    kernel_size: int = 3,
) -> nn.Sequential:
    """Batch norm, ReLU, convolution with a bias: one half of a pre-activation residual block."""
    convolution = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2)
    return nn.Sequential(nn.BatchNorm2d(in_channels), nn.ReLU(inplace=True), convolution)


class ResidualBlock(nn.Module):
    """Pre-activation residual block: ``(BN, ReLU, conv3x3) x 2 + BN(conv1x1)``. Zhang et al. 2018
    (ResUNet)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        bias: bool = False,
        shortcut_norm: bool = True,
    ) -> None:
        super().__init__()
        self.stride = stride
        self.body = nn.Sequential(
            nn.BatchNorm2d(in_channels),
            nn.ReLU(),
            nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=bias),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=bias),
        )
        self.shortcut = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 1, bias=bias),
            nn.BatchNorm2d(out_channels) if shortcut_norm else nn.Identity(),
        )

    def forward(self, x: Tensor) -> Tensor:
        # sliced: with a stride in the convolution torch 2.15 writes beyond its buffers on the CPU
        # (float32, channels_last, under 16 channels, backward)
        return self.body(x) + self.shortcut(x[..., :: self.stride, :: self.stride])


class AttentionMap(nn.Identity):
    """Marks an attention map on its way through a network, so that a forward hook can hand it out
    for overlays.

    ``over`` says what it weighs: ``pixels`` (B, C, H, W), or pairs (B, [heads,] N, M), rows looking
    at columns.
    """

    def __init__(
        self,
        over: Literal["pixels", "pixel_pairs", "channel_pairs"] = "pixels",
    ) -> None:
        super().__init__()
        self.over = over

    @property
    def wanted(self) -> bool:
        """Tell whether a hook listens: a map that is costly to hold need not be formed
        otherwise."""
        return bool(self._forward_hooks)


def is_empty(x: Tensor) -> bool:
    """Tell whether ``x`` holds no image; never in a graph that is traced, where their number is
    open."""
    return not torch.compiler.is_compiling() and len(x) == 0


def batch_mean(x: Tensor) -> Tensor:
    """The mean of all numbers, 0 where there is none."""
    return x.sum() if is_empty(x) else x.mean()


def lean_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    scale: float,
    marker: AttentionMap,
) -> Tensor:
    """``softmax(scale q k') v`` over the last two axes, contiguous; the map is formed only where
    ``marker`` wants it."""
    if marker.wanted:
        return marker((q * scale @ k.transpose(-2, -1)).softmax(-1)) @ v
    width = v.shape[-1]
    missing = q.shape[-1] - width
    # the CPU's kernel that never holds the map wants values as wide as queries ...
    if missing > 0 and v.device.type == "cpu":
        v = F.pad(v, (0, missing))
    # ... and, as all of them, four axes
    q4, k4, v4 = (t if t.dim() == 4 else t.unsqueeze(1) for t in (q, k, v))
    out = F.scaled_dot_product_attention(q4, k4, v4, scale=scale)[..., :width]
    return out.reshape(*q.shape[:-1], width)


class AttentionGate(nn.Module):
    """Additive attention gate, the common 2-D form: ``x * sigmoid(psi(relu(W_g g + W_x x)))``.
    Oktay et al. 2018.

    ``gate`` and ``skip`` have the same size; the map has one channel.
    """

    def __init__(self, gate_channels: int, skip_channels: int, inner_channels: int) -> None:
        super().__init__()
        self.gate = nn.Sequential(
            nn.Conv2d(gate_channels, inner_channels, 1), nn.BatchNorm2d(inner_channels)
        )
        self.skip = nn.Sequential(
            nn.Conv2d(skip_channels, inner_channels, 1), nn.BatchNorm2d(inner_channels)
        )
        self.psi = nn.Sequential(nn.Conv2d(inner_channels, 1, 1), nn.BatchNorm2d(1), nn.Sigmoid())
        self.map = AttentionMap()

    def forward(self, gate: Tensor, skip: Tensor) -> Tensor:
        return skip * self.map(self.psi(F.relu(self.gate(gate) + self.skip(skip))))


def resize_maps(
    x: Tensor,
    size: torch.Size | tuple[int, int],
) -> Tensor:
    """Bilinear resampling to ``size`` (H, W), corners not aligned; ``x`` itself where it has that
    size already."""
    if _same_size(x.shape[-2:], size):
        return x
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)


def _same_size(
    size: torch.Size,
    other: torch.Size | tuple[int, int],
) -> bool:
    if not torch.compiler.is_exporting():
        return size == tuple(other)
    from torch.fx.experimental.symbolic_shapes import statically_known_true

    # sizes may be symbols, whose comparison would narrow the program to those of the example
    return all(statically_known_true(one == two) for one, two in zip(size, other, strict=True))


class SqueezeExcite(nn.Module):
    """Channel attention ``x * sigmoid(W_2 relu(W_1 mean(x)))``, without biases. Hu et al. 2018."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        inner = max(1, channels // reduction)
        self.weights = nn.Sequential(
            nn.Linear(channels, inner, bias=False),
            nn.ReLU(inplace=True),
            nn.Linear(inner, channels, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weights(x.mean((2, 3)))[..., None, None]


class NearestStage(nn.Module):
    """A U-Net step with no weights on the way up: nearest upsampling x2, concatenation, ``block(in,
    out)``."""

    def __init__(
        self,
        in_channels: int,
        skip_channels: int,
        out_channels: int,
        block: Callable[[int, int], nn.Module] = DoubleConv,
    ) -> None:
        super().__init__()
        self.block = block(in_channels + skip_channels, out_channels)

    def forward(self, x: Tensor, skip: Tensor | None) -> Tensor:
        x = F.interpolate(x, scale_factor=2, mode="nearest")
        return self.block(x if skip is None else torch.cat([x, skip], 1))


class SpatialAttention(nn.Module):
    """``x * sigmoid(conv7x7([mean_c x, max_c x]))``. Woo et al. 2018 (CBAM's spatial half)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 7, padding=3, bias=False)
        self.map = AttentionMap()

    def forward(self, x: Tensor) -> Tensor:
        summary = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
        return x * self.map(self.conv(summary).sigmoid())


class DoublingConv(nn.ConvTranspose2d):
    """3x3 transposed convolution of stride 2 to exactly twice the size, aligned as Keras'
    ``padding="same"``."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 3, 2)

    def forward(
        self,
        x: Tensor,
        output_size: list[int] | None = None,
    ) -> Tensor:
        return super().forward(x, output_size)[..., :-1, :-1]
