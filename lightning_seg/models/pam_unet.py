"""PAM-UNet: Das et al., "PAM-UNet: Shifting Attention on Region of Interest in Medical Images", 2024.

    A = softmax(Q K' / sqrt(d)), Q = W_q e_l, K = W_k u_l, V = W_v u_l, over all pixels   (progressive Luong attention)
    d_l = IR([e_l + A V, u_l]), u_l = up(IR(d_{l+1}))        penalty = lambda * mean (A - mean A)^2

Differs from the paper: its text contradicts itself on the nonlinearity (a softmax, one sigmoid, two); softmax is the
default because a bare sigmoid sums over thousands of pixels. The structure is that of its Figure 2, which gives its
0.72 and 1.32 G multiply-adds at 128 x 128. Its self, cross and additive attention are not defined; here: the skip
attends to itself, the decoder to the skip (the roles of the released code), an additive gate. R(A) is the variance
per image and level. `variant: repo` is the released code, repaired.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_seg.blocks import AttentionGate, AttentionMap
from lightning_seg.errors import InputError
from lightning_seg.models._encoder import TimmEncoder
from lightning_seg.models._skeleton import Segmenter
from lightning_seg.models.mobile_unet import ENCODER, ConvNormReLU6, LastLayer, plain_unet

Nonlinearity = Literal["softmax", "sigmoid", "double_sigmoid"]
_NONLINEARITIES: dict[str, Callable[[Tensor], Tensor]] = {
    "softmax": lambda scores: scores.softmax(-1),
    "sigmoid": lambda scores: scores.sigmoid() / scores.shape[-1],
    "double_sigmoid": lambda scores: scores.sigmoid().sigmoid(),
}
_QUERY_AND_KEYS = {"self": ("skip", "skip"), "cross": ("up", "skip"), "pla": ("skip", "up")}
Attend = Callable[[int, int, int], nn.Module]  # (query_channels, key_channels, channels)


class InvertedResidual(nn.Module):
    """MobileNetV2's: 1x1 to ``expansion`` times the channels, 3x3 depthwise, 1x1 linear; a residual if shapes agree."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, expansion: int = 6) -> None:
        super().__init__()
        inner = expansion * in_channels
        self.residual = stride == 1 and in_channels == out_channels
        self.body = nn.Sequential(
            ConvNormReLU6(in_channels, inner, 1),
            ConvNormReLU6(inner, inner, 3, stride, groups=inner),
            nn.Conv2d(inner, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.residual else self.body(x)


class LuongAttention(nn.Module):
    """``A V`` with one head over all pixels of a level, and the variance of ``A`` where ``regularized``, else None.

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
        self.map = AttentionMap()  # (B, H*W, H*W)

    def forward(self, queries: Tensor, keys: Tensor) -> tuple[Tensor, Tensor | None]:
        maps = self.query(queries), self.key(keys), self.value(keys)
        # (B, H*W, C), contiguous: the kernels that never hold A refuse anything else, silently
        q, k, v = (m.flatten(2).transpose(1, 2).contiguous() for m in maps)
        if self.nonlinearity == "softmax" and not (self.regularized or self.map.wanted):
            out = F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None], scale=self.scale)[:, 0]
            return out.transpose(1, 2).reshape(maps[0].shape), None
        weights = self.map(_NONLINEARITIES[self.nonlinearity](q @ k.transpose(1, 2) * self.scale))
        out = (weights @ v).transpose(1, 2).reshape(maps[0].shape)
        return out, self.variance(weights) if self.regularized else None

    def variance(self, weights: Tensor) -> Tensor:
        """R(A): of all entries of an image's map, mean over the images."""
        pixels = weights.shape[-1] if self.scale_free else 1
        return (weights.float() * pixels).var((1, 2), correction=0).mean()


class AttendedSkip(nn.Module):
    """``skip + A V``: called with the skip and the upsampled decoder map, which have the same shape."""

    def __init__(self, channels: int, attention: str, attend: Attend) -> None:
        super().__init__()
        self.roles = _QUERY_AND_KEYS[attention]
        self.attention = attend(channels, channels, channels)

    def forward(self, skip: Tensor, up: Tensor) -> tuple[Tensor, Tensor | None]:
        maps = {"skip": skip, "up": up}
        out, variance = self.attention(*(maps[role] for role in self.roles))
        return skip + out, variance


class ReleasedSkip(nn.Module):
    """``up + gamma * A V`` with gamma zero at first; queries from the decoder, keys and values from the encoder."""

    def __init__(self, skip_channels: int, channels: int, attend: Attend) -> None:
        super().__init__()
        self.attention = attend(channels, skip_channels, channels)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, skip: Tensor, up: Tensor) -> tuple[Tensor, Tensor | None]:
        out, variance = self.attention(up, skip)
        return up + self.gamma * out, variance


class GatedSkip(nn.Module):
    """The skip through an additive attention gate."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gate = AttentionGate(channels, channels, max(1, channels // 2))

    def forward(self, skip: Tensor, up: Tensor) -> tuple[Tensor, None]:
        return self.gate(up, skip), None


class PlainSkip(nn.Module):
    """The skip as it is."""

    def forward(self, skip: Tensor, up: Tensor) -> tuple[Tensor, None]:
        return skip, None


class PAMStage(nn.Module):
    """Upsampling, attention, concatenation, inverted residual; beside the map, the variance of its attention."""

    def __init__(self, up: nn.Module, attention: nn.Module, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.up = up
        self.attention = attention
        self.block = InvertedResidual(2 * channels, channels)

    def forward(self, x: Tensor, skip: Tensor) -> tuple[Tensor, Tensor | None]:
        x = self.up(x)
        attended, variance = self.attention(skip, x)
        return self.block(torch.cat([attended, x], 1)), variance


class PAMDecoder(nn.Module):
    """Stages from coarse to fine -> their map and, if regularized, ``regularizer`` times their mean variance."""

    def __init__(self, bottleneck: nn.Module, stages: Sequence[PAMStage], regularizer: float) -> None:
        super().__init__()
        self.bottleneck = bottleneck
        self.stages = nn.ModuleList(stages)
        self.channels = stages[-1].channels
        self.regularizer = regularizer

    def forward(self, pyramid: list[Tensor]) -> Tensor | tuple[Tensor, Tensor]:
        *skips, x = pyramid
        x = self.bottleneck(x)
        variances = []
        for stage, skip in zip(self.stages, reversed(skips), strict=True):
            x, variance = stage(x, skip)
            variances.append(variance)
        return x if variances[0] is None else (x, self.regularizer * torch.stack(variances).mean())


class ReleasedEncoder(nn.Module):
    """Four inverted residuals of stride 2 on the bare image, which is the finest level of the pyramid."""

    def __init__(self, in_channels: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.channels = (in_channels, *widths)
        self.strides = tuple(2**level for level in range(len(self.channels)))
        self.levels = nn.ModuleList(
            InvertedResidual(i, o, stride=2) for i, o in zip(self.channels, widths, strict=False)
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        pyramid = [image]
        for level in self.levels:
            pyramid.append(level(pyramid[-1]))
        return pyramid


class PAMUNet(Segmenter):
    """PAM-UNet. Arguments as in `UNet`, and:

    Args:
        encoder: timm name; the paper's is MobileNetV2.
        variant: ``paper`` (Figure 2) or ``repo`` (the released code, repaired: keys and values of its attention at full
            resolution come from the image, and pixels are kept apart from channels). ``encoder``, ``attention`` and
            ``last_width`` belong to ``paper``.
        attention: what a skip passes on its way to the decoder (Table II).
        encoder_only: Table II's first row, the encoder under the plain decoder of `MobileUNet`; it has no attention.
        nonlinearity: ``sigmoid`` is divided by the number of pixels; ``double_sigmoid`` is the text to the letter and
            sums over all pixels.
        regularizer: lambda (paper: 0.01) of the penalty on the attention maps; above 0 these are held in memory,
            (H*W/4)^2 numbers an image at the finest level.
        scale_free: penalise the variance of A times its number of pixels; that of A is tiny under a softmax over many.
        last_width: channels of the encoder's last layer and of the bottleneck.
    """

    tiny: ClassVar[dict[str, Any]] = {"encoder": "mobilenetv2_035", "last_width": 32}

    def __init__(
        self,
        encoder: str | None = ENCODER,
        in_channels: int = 3,
        num_classes: int = 1,
        variant: Literal["paper", "repo"] = "paper",
        attention: Literal["none", "self", "cross", "additive", "pla"] = "pla",
        encoder_only: bool = False,
        nonlinearity: Nonlinearity = "softmax",
        regularizer: float = 0.0,
        scale_free: bool = False,
        last_width: int = 1280,
        encoder_options: dict[str, Any] | None = None,
    ) -> None:
        regularized = regularizer > 0
        has_map = variant == "repo" or (attention in _QUERY_AND_KEYS and not encoder_only)
        if regularizer < 0 or (regularized and not has_map):
            raise InputError(
                f"regularizer is {regularizer}; give 0, or a value above 0 with attention pla, cross or self, "
                "the ones with a map to penalise."
            )
        attend = partial(LuongAttention, nonlinearity=nonlinearity, regularized=regularized, scale_free=scale_free)
        if variant == "repo":
            if encoder_only or encoder not in (None, ENCODER) or encoder_options:
                raise InputError(
                    "variant 'repo' has its own encoder; leave encoder, encoder_options and encoder_only out."
                )
            released = ReleasedEncoder(in_channels, (64, 128, 256, 512))
            stages = _released_stages(released.channels, partial(attend, scaled=False))
            super().__init__(released, PAMDecoder(nn.Identity(), stages, regularizer), num_classes)
            return
        body = TimmEncoder(encoder or ENCODER, in_channels, encoder_options)
        last = LastLayer(body.channels, last_width)
        if encoder_only:
            plain, head = plain_unet(last.channels, body.strides, num_classes)
            super().__init__(body, plain, num_classes, skip=last, head=head)
            return
        bottleneck = InvertedResidual(last_width, last_width)
        decoder = PAMDecoder(bottleneck, _stages(last.channels, attention, attend), regularizer)
        head = nn.ConvTranspose2d(decoder.channels, num_classes, 4, 2, 1)
        super().__init__(body, decoder, num_classes, skip=last, head=head)


def _stages(channels: Sequence[int], attention: str, attend: Attend) -> list[PAMStage]:
    """Figure 2: each step has the width of its skip."""
    stages = []
    for width, skip in zip(channels[:0:-1], channels[-2::-1], strict=True):
        up = nn.Sequential(InvertedResidual(width, skip), nn.ConvTranspose2d(skip, skip, 4, 2, 1))
        stages.append(PAMStage(up, _skip(attention, skip, attend), skip))
    return stages


def _skip(attention: str, channels: int, attend: Attend) -> nn.Module:
    if attention == "none":
        return PlainSkip()
    return GatedSkip(channels) if attention == "additive" else AttendedSkip(channels, attention, attend)


def _released_stages(channels: Sequence[int], attend: Attend) -> list[PAMStage]:
    """Four steps that halve the channels; the last one's skip is the image."""
    widths = [channels[-1] // 2**step for step in range(1, len(channels))]
    return [
        PAMStage(nn.ConvTranspose2d(2 * width, width, 2, 2), ReleasedSkip(skip, width, attend), width)
        for width, skip in zip(widths, channels[-2::-1], strict=True)
    ]
