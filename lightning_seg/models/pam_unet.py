"""PAM-UNet: Das et al., "PAM-UNet: Shifting Attention on Region of Interest in Medical Images",
2024.

    A = softmax(Q K' / sqrt(d)), Q = W_q e_l, K = W_k u_l, V = W_v u_l, over all pixels
    (progressive Luong attention)
    d_l = IR([e_l + A V, u_l]), u_l = up(IR(d_{l+1}))        penalty = lambda * mean (A - mean A)^2

Differs from the paper: its text contradicts itself on the nonlinearity (a softmax, one sigmoid,
two); softmax is the default because a bare sigmoid sums over thousands of pixels. The structure is
that of its Figure 2, which gives its 0.72 and 1.32 G multiply-adds at 128 x 128. Its self, cross
and additive attention are not defined; here: the skip attends to itself, the decoder to the skip
(the roles of the released code), an additive gate. R(A) is the variance per image and level.
`variant: repo` is the released code, repaired.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from lightning_seg.errors import InputError
from lightning_seg.models._pam import Attend, LuongAttention, Nonlinearity, PAMDecoder, PAMStage
from lightning_seg.models._pam_released import ReleasedEncoder, released_stages
from lightning_seg.models.frame.blocks import AttentionGate
from lightning_seg.models.frame.encoder import TimmEncoder
from lightning_seg.models.frame.options import refuse
from lightning_seg.models.frame.skeleton import Segmenter
from lightning_seg.models.mobile_unet import (
    ENCODER,
    LAST_WIDTH,
    InvertedResidual,
    LastLayer,
    plain_unet,
)

_QUERY_AND_KEYS = {"self": ("skip", "skip"), "cross": ("up", "skip"), "pla": ("skip", "up")}


class AttendedSkip(nn.Module):
    """``skip + A V``: called with the skip and the upsampled decoder map, which have the same
    shape."""

    def __init__(self, channels: int, attention: str, attend: Attend) -> None:
        super().__init__()
        self.roles = _QUERY_AND_KEYS[attention]
        self.attention = attend(channels, channels, channels)

    def forward(
        self,
        skip: Tensor,
        up: Tensor,
    ) -> tuple[Tensor, Tensor | None]:
        maps = {"skip": skip, "up": up}
        out, variance = self.attention(*(maps[role] for role in self.roles))
        return skip + out, variance


class GatedSkip(nn.Module):
    """The skip through an additive attention gate."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gate = AttentionGate(channels, channels, max(1, channels // 2))

    def forward(
        self,
        skip: Tensor,
        up: Tensor,
    ) -> tuple[Tensor, None]:
        return self.gate(up, skip), None


class UnattendedSkip(nn.Module):
    """The skip as it is."""

    def forward(
        self,
        skip: Tensor,
        up: Tensor,
    ) -> tuple[Tensor, None]:
        return skip, None


class PAMUNet(Segmenter):
    """PAM-UNet. Arguments as in `UNet`, and:

    Args:
        encoder: timm name; the paper's is MobileNetV2.
        variant: ``paper`` (Figure 2) or ``repo`` (the released code, repaired), which takes no
            ``encoder``, ``attention`` and ``last_width``.
        attention: what a skip passes on its way to the decoder (Table II; default: ``pla``).
        encoder_only: Table II's first row, the encoder under the plain decoder of `MobileUNet`; it
            has no attention.
        nonlinearity: of attention with a map, pla, self and cross (default: ``softmax``).
            ``sigmoid`` is divided by the number of pixels; ``double_sigmoid`` is the text to the
            letter and sums over all pixels.
        regularizer: lambda (paper: 0.01) of the penalty on the attention maps. As printed it has
            no effect: a softmax over N pixels has entries of about 1 / N, so at the start and 128
            pixels the penalty is 1.5e-8 beside a loss of 0.7. The maps are (H*W/4)^2 numbers an
            image at the finest level: they are formed some rows at a time, in training once more
            for the gradient.
        scale_free: the form that acts: penalise the variance of A times its number of pixels, which
            does not shrink with them. Its gradient is 9.5e-3 of the whole, that of the printed
            form 2e-6.
        last_width: channels of the encoder's last layer and of the bottleneck (default: 1280).
    """

    tiny: ClassVar[dict[str, Any]] = {"encoder": "mobilenetv2_035", "last_width": 32}

    def __init__(
        self,
        encoder: str | None = ENCODER,
        in_channels: int = 3,
        num_classes: int = 1,
        variant: Literal["paper", "repo"] = "paper",
        attention: Literal["none", "self", "cross", "additive", "pla"] | None = None,
        encoder_only: bool = False,
        nonlinearity: Nonlinearity | None = None,
        regularizer: float = 0.0,
        scale_free: bool = False,
        last_width: int | None = None,
        encoder_options: dict[str, Any] | None = None,
    ) -> None:
        if regularizer < 0:
            raise InputError(
                f"regularizer is {regularizer}; give 0 for none, or a value above 0 such as 0.01."
            )
        if regularizer == 0:
            refuse("pam_unet without a regularizer", scale_free=scale_free)
        if encoder_only or attention in ("none", "additive"):
            which = "encoder_only" if encoder_only else f"attention {attention!r}"
            refuse(
                f"pam_unet with {which}, which has no map,",
                nonlinearity=nonlinearity,
                regularizer=regularizer,
            )
        attend = partial(
            LuongAttention,
            nonlinearity=nonlinearity or "softmax",
            regularized=regularizer > 0,
            scale_free=scale_free,
        )
        if variant == "repo":
            own = None if encoder == ENCODER else encoder
            refuse(
                "pam_unet with variant 'repo'",
                encoder=own,
                attention=attention,
                encoder_only=encoder_only,
            )
            refuse(
                "pam_unet with variant 'repo'",
                last_width=last_width,
                encoder_options=encoder_options,
            )
            released = ReleasedEncoder(in_channels, (64, 128, 256, 512))
            stages = released_stages(released.channels, partial(attend, scaled=False))
            super().__init__(released, PAMDecoder(nn.Identity(), stages, regularizer), num_classes)
            return
        body = TimmEncoder(encoder or ENCODER, in_channels, encoder_options)
        last_width = last_width or LAST_WIDTH
        last = LastLayer(body.channels, last_width)
        if encoder_only:
            refuse("pam_unet with encoder_only", attention=attention)
            plain, head = plain_unet(last.channels, body.strides, num_classes)
            super().__init__(body, plain, num_classes, skip=last, head=head)
            return
        bottleneck = InvertedResidual(last_width, last_width)
        decoder = PAMDecoder(
            bottleneck, _stages(last.channels, attention or "pla", attend), regularizer
        )
        head = nn.ConvTranspose2d(decoder.channels, num_classes, 4, 2, 1)
        super().__init__(body, decoder, num_classes, skip=last, head=head)


def _stages(
    channels: Sequence[int],
    attention: str,
    attend: Attend,
) -> list[PAMStage]:
    """Figure 2: each step has the width of its skip."""
    stages = []
    for width, skip in zip(channels[:0:-1], channels[-2::-1], strict=True):
        up = nn.Sequential(InvertedResidual(width, skip), nn.ConvTranspose2d(skip, skip, 4, 2, 1))
        stages.append(PAMStage(up, _skip(attention, skip, attend), skip))
    return stages


def _skip(attention: str, channels: int, attend: Attend) -> nn.Module:
    if attention == "none":
        return UnattendedSkip()
    return (
        GatedSkip(channels)
        if attention == "additive"
        else AttendedSkip(channels, attention, attend)
    )
