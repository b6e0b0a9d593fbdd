"""Attention U-Net: Oktay et al., "Attention U-Net: Learning Where to Look for the Pancreas", MIDL
2018.

    a_l = sigmoid(psi(relu(W_g up(d_{l+1}) + W_x e_l)))
    d_l = DoubleConv([up(d_{l+1}), a_l * e_l])

Differs from the paper: 2-D; the gate is the upsampled decoder map (the common 2-D form, and
UNet-A's), every level is gated, no deep supervision. Over ConvNeXt-T it has the 34,791,706
parameters of UNet-A's best model. `form: leejunhyun` as in `unet`. `gate: oktay_grid` is the gate
of the authors' code: the coarser map itself, a strided W_x, a convolution after it, none at the
finest level; without that code's extra convolutions on the bottleneck's gate and after each gate.
"""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_seg.models.frame.blocks import AttentionGate, AttentionMap, DoubleConv, resize_maps
from lightning_seg.models.frame.encoder import make_encoder
from lightning_seg.models.frame.skeleton import Segmenter
from lightning_seg.models.unet import FORMS, Layer, UNetStage, transposed, unet_slots


class GatedStage(nn.Module):
    """A U-Net step whose skip passes an additive attention gate of half its width."""

    def __init__(
        self,
        in_channels: int,
        skip_channels: int,
        out_channels: int,
        block: Layer = DoubleConv,
        up: Layer = transposed,
    ) -> None:
        super().__init__()
        self.up = up(in_channels, out_channels)
        self.gate = AttentionGate(out_channels, skip_channels, max(1, skip_channels // 2))
        self.block = block(out_channels + skip_channels, out_channels)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        x = self.up(x)
        return self.block(torch.cat([x, self.gate(x, skip)], 1))


class GridGate(nn.Module):
    """The gate of the authors' code: ``W(x * up(sigmoid(psi(relu(theta(x) + phi(g))))))`` with a
    coarser ``g``.

    ``theta`` halves the size, ``W`` ends in batch norm.
    """

    def __init__(self, gate_channels: int, skip_channels: int) -> None:
        super().__init__()
        self.theta = nn.Conv2d(skip_channels, skip_channels, 2, 2, bias=False)
        self.phi = nn.Conv2d(gate_channels, skip_channels, 1)
        self.psi = nn.Conv2d(skip_channels, 1, 1)
        self.map = AttentionMap()
        self.out = nn.Sequential(
            nn.Conv2d(skip_channels, skip_channels, 1), nn.BatchNorm2d(skip_channels)
        )

    def forward(self, gate: Tensor, skip: Tensor) -> Tensor:
        theta = self.theta(skip)
        weights = self.psi(F.relu(theta + resize_maps(self.phi(gate), theta.shape[-2:]))).sigmoid()
        return self.out(skip * self.map(resize_maps(weights, skip.shape[-2:])))


class GridGatedStage(UNetStage):
    """A U-Net step whose skip passes a `GridGate`; what comes from below is the gate before it is
    upsampled."""

    def __init__(
        self,
        in_channels: int,
        skip_channels: int,
        out_channels: int,
        block: Layer,
        up: Layer,
    ) -> None:
        super().__init__(in_channels, skip_channels, out_channels, block, up)
        self.gate = GridGate(in_channels, skip_channels)

    def forward(self, x: Tensor, skip: Tensor | None) -> Tensor:
        return super().forward(x, None if skip is None else self.gate(x, skip))


class AttentionUNet(Segmenter):
    """Attention U-Net over any encoder. Arguments as in `UNet`; form ``leejunhyun`` has 34,878,573
    parameters.

    Args:
        gate: ``common``, or ``oktay_grid``, that of the authors' code.
    """

    tiny: ClassVar[dict[str, Any]] = {"widths": (4, 8, 16)}

    def __init__(
        self,
        encoder: str | None = None,
        in_channels: int = 3,
        num_classes: int = 1,
        widths: Sequence[int] | None = None,
        form: Literal["unet_a", "leejunhyun"] = "unet_a",
        gate: Literal["common", "oktay_grid"] = "common",
        skip: str | dict[str, Any] | None = None,
        encoder_options: dict[str, Any] | None = None,
    ) -> None:
        block, up = FORMS[form]
        body = make_encoder(encoder, in_channels, encoder_options, widths, block)
        skips = len(body.channels) - 1
        kinds = (
            [GatedStage] * skips
            if gate == "common"
            else [*[GridGatedStage] * (skips - 1), UNetStage]
        )
        remaining = iter(kinds)  # one per stage, coarse to fine

        def stage(below: int, skip: int, out: int) -> nn.Module:
            return next(remaining)(below, skip, out, block, up)

        super().__init__(num_classes=num_classes, **unet_slots(body, stage, skip))
