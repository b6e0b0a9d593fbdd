"""Attention U-Net: Oktay et al., "Attention U-Net: Learning Where to Look for the Pancreas", MIDL 2018.

    a_l = sigmoid(psi(relu(W_g up(d_{l+1}) + W_x e_l)))        d_l = DoubleConv([up(d_{l+1}), a_l * e_l])

Differs from the paper: 2-D; the gate is the upsampled decoder map (the common 2-D form, and UNet-A's), every level is
gated, no deep supervision. Over ConvNeXt-T it has the 34,791,706 parameters of UNet-A's best model. `form:
leejunhyun` as in `unet`.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from lightning_seg.blocks import AttentionGate, DoubleConv
from lightning_seg.models._encoder import make_encoder
from lightning_seg.models._skeleton import Segmenter, UNetDecoder
from lightning_seg.models._skip import make_skip
from lightning_seg.models.unet import FORMS, Layer, transposed


class GatedStage(nn.Module):
    """A U-Net step whose skip passes an additive attention gate of half its width."""

    def __init__(
        self, in_channels: int, skip_channels: int, out_channels: int, block: Layer = DoubleConv, up: Layer = transposed
    ) -> None:
        super().__init__()
        self.up = up(in_channels, out_channels)
        self.gate = AttentionGate(out_channels, skip_channels, max(1, skip_channels // 2))
        self.block = block(out_channels + skip_channels, out_channels)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        x = self.up(x)
        return self.block(torch.cat([x, self.gate(x, skip)], 1))


class AttentionUNet(Segmenter):
    """Attention U-Net over any encoder. Arguments as in `UNet`; form ``leejunhyun`` has 34,878,573 parameters."""

    tiny: ClassVar[dict[str, Any]] = {"widths": (4, 8, 16)}

    def __init__(
        self,
        encoder: str | None = None,
        in_channels: int = 3,
        num_classes: int = 1,
        widths: Sequence[int] = (64, 128, 256, 512, 1024),
        form: Literal["unet_a", "leejunhyun"] = "unet_a",
        skip: str | dict[str, Any] | None = None,
        encoder_options: dict[str, Any] | None = None,
    ) -> None:
        block, up = FORMS[form]
        body = make_encoder(encoder, in_channels, encoder_options, widths, block)
        between = make_skip(skip, body.channels, body.strides)
        decoder = UNetDecoder(body.channels, partial(GatedStage, block=block, up=up))
        super().__init__(body, decoder, num_classes, between)
