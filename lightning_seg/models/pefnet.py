"""PEFNet: Nguyen-Mau et al., "Multi Kernel Positional Embedding ConvNeXt for Polyp Segmentation",
RIVF 2022.

    d_l = MK(MK(swish(bn(up(d_{l+1}))) + e_l)) + P_l
    MK(x) = sum over k = 1, 3, 5 of swish(bn(conv_k(x)))

Differs from the paper: as in the authors' code, the multi-kernel block and the embedding come after
the sum of skip and decoder (``mpe_place="skip"``: on the skip, before a concatenation, as the text
says), each kernel has its own norm and swish (``kernel_norm="sum"``: one norm on the bare sum, as
printed), and positions P_l are learned. The code stops at half resolution over a ConvNeXt; here a
second step of the same width leads to the full one. Only this form has the paper's 52, 74 and 129 M
parameters. Differs from the code: skips are the last maps of the encoder's stages (``tap="repo"``:
in ConvNeXt-S and B the code took the 9th of 27 blocks).
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from lightning_seg.errors import InputError
from lightning_seg.models.frame.blocks import keras_norm, resize_maps
from lightning_seg.models.frame.encoder import TimmEncoder
from lightning_seg.models.frame.options import refuse
from lightning_seg.models.frame.skeleton import Segmenter, UNetDecoder

PAPER_ENCODER = "convnext_tiny.fb_in22k_ft_in1k"
BASE = 10000.0
TAP = 9  # the block of 27 that the code takes in ConvNeXt-S and B


def norm_swish(channels: int) -> nn.Sequential:
    return nn.Sequential(keras_norm(channels), nn.SiLU(inplace=True))


class MultiKernel(nn.Module):
    """The sum of convolutions of 1, 3 and 5 pixels, each with its own norm and swish, or bare under
    one norm."""

    def __init__(
        self,
        channels: int,
        kernel_norm: Literal["branch", "sum"] = "branch",
    ) -> None:
        super().__init__()
        each = kernel_norm == "branch"
        after = norm_swish if each else nn.Identity
        self.branches = nn.ModuleList(
            nn.Sequential(nn.Conv2d(channels, channels, k, padding=k // 2), after(channels))
            for k in (1, 3, 5)
        )
        self.norm = nn.Identity() if each else keras_norm(channels)

    def forward(self, x: Tensor) -> Tensor:
        first, *others = (branch(x) for branch in self.branches)
        return self.norm(sum(others, first))


class LearnedPositions(nn.Module):
    """Adds a learned map made for a square of ``grid`` cells, interpolated at other sizes."""

    def __init__(self, channels: int, grid: int) -> None:
        super().__init__()
        self.map = nn.Parameter(torch.empty(1, channels, grid, grid))
        if not self.map.is_meta:
            nn.init.trunc_normal_(self.map, std=0.2)

    def forward(self, x: Tensor) -> Tensor:
        return x + resize_maps(self.map, x.shape[-2:])


class SinePositions(nn.Module):
    """Adds ``sin(p / base^(2i / C))``, p the cell in raster order, to channel i; in ``pairs`` sine
    and cosine to 2i and 2i + 1."""

    def __init__(self, channels: int, base: float, pairs: bool) -> None:
        super().__init__()
        self.channels, self.base, self.pairs = channels, base, pairs

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        channel = torch.arange(self.channels, device=x.device)
        step = channel // 2 * 2 if self.pairs else 2 * channel
        cells = torch.arange(height * width, device=x.device)
        angle = cells / self.base ** (step / self.channels)[:, None]
        if self.pairs:
            angle = angle + (channel % 2)[:, None] * (math.pi / 2)
        return x + angle.sin().reshape(1, self.channels, height, width).to(x.dtype)


class EarlyTapEncoder(TimmEncoder):
    """A ConvNeXt whose map at stride 16 is that after block 9 of its stage; the coarsest map still
    sees all of them."""

    def __init__(
        self,
        name: str,
        in_channels: int,
        options: dict[str, Any] | None,
    ) -> None:
        super().__init__(name, in_channels, options)
        stage: Any = getattr(self.body, "stages_2", None)
        if "convnext" not in name or len(stage.blocks) < TAP:
            raise InputError(
                f"tap 'repo' takes block {TAP} of the third stage of a ConvNeXt and encoder {name!r} has none; "
                "take 'convnext_small' or 'convnext_base', or tap 'last'."
            )

    def forward(self, image: Tensor) -> list[Tensor]:
        pyramid, x = [], image
        for name, layer in self.body.named_children():
            if name == "stages_2":
                x = layer.get_submodule("downsample")(x)
                for number, block in enumerate(layer.get_submodule("blocks").children(), start=1):
                    x = block(x)
                    if number == TAP:
                        pyramid.append(x)
                continue
            x = layer(x)
            if name.startswith("stages"):
                pyramid.append(x)
        return pyramid


class AddStage(nn.Module):
    """Transposed convolution x2, sum with the skip and a ``mix``, where there is one, a ``mix``,
    then ``positions``."""

    def __init__(
        self,
        in_channels: int,
        skip_channels: int,
        out_channels: int,
        mix: Callable[[int], nn.Module],
        positions: Callable[[int], nn.Module],
    ) -> None:
        super().__init__()
        self.up = _doubling(in_channels, out_channels)
        self.merge = mix(out_channels) if skip_channels else None
        self.mix = mix(out_channels)
        self.positions = positions(out_channels)

    def forward(self, x: Tensor, skip: Tensor | None) -> Tensor:
        x = self.up(x)
        if self.merge is not None and skip is not None:
            x = self.merge(x + skip)
        return self.positions(self.mix(x))


class ConcatStage(nn.Module):
    """Transposed convolution x2, concatenation with the skip behind ``mix`` and ``positions``, 3x3.

    ``swish(bn(conv3([up(d), MK(e) + P])))``; the text leaves open what follows the concatenation.
    """

    def __init__(
        self,
        in_channels: int,
        skip_channels: int,
        out_channels: int,
        mix: Callable[[int], nn.Module],
        positions: Callable[[int], nn.Module],
    ) -> None:
        super().__init__()
        self.up = _doubling(in_channels, out_channels)
        self.skip = None
        if skip_channels:
            self.skip = nn.Sequential(mix(skip_channels), positions(skip_channels))
        self.join = _conv_swish(out_channels + skip_channels, out_channels)

    def forward(self, x: Tensor, skip: Tensor | None) -> Tensor:
        x = self.up(x)
        if self.skip is not None and skip is not None:
            x = torch.cat([x, self.skip(skip)], 1)
        return self.join(x)


class Widen(nn.Module):
    """A 1x1 convolution, norm and swish on the coarsest map; the other levels pass as they are."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 1, bias=False), norm_swish(out_channels)
        )

    def forward(self, pyramid: list[Tensor]) -> list[Tensor]:
        return [*pyramid[:-1], self.conv(pyramid[-1])]


class PEFNet(Segmenter):
    """PEFNet over a timm encoder.

    Args:
        encoder: timm name; None is the paper's ConvNeXt-T. The authors' others are ConvNeXt-S and B
            with the same tag, and ``tf_efficientnetv2_b0`` with ``coarsest_width=1280``.
        in_channels: of the image.
        num_classes: output channels.
        image_size: side in pixels for which positions are learned.
        tap: the last map of each stage as the skip, or ``repo``, block 9 in the third stage of a
            ConvNeXt.
        mpe: multi-kernel blocks and positions; without them plain 3x3 convolutions, the baseline of
            the paper's Table IV.
        mpe_place: of these: after the ``sum`` of skip and decoder (the code; default), or on the
            ``skip`` before a concatenation (the text).
        positions: learned (default); ``sincos`` in pairs; ``sine`` only, as the paper prints it; or
            none.
        position_base: of the sines (default: 10000); the paper prints 1000.
        kernel_norm: of the multi-kernel block: one norm per branch (the code; default) or one on
            the sum (the text).
        coarsest_width: a 1x1 convolution widens the coarsest map to it; timm's pyramids of
            EfficientNets end before theirs.
        encoder_options: further arguments of the timm encoder; the code has ``{drop_path_rate:
            0.1}``.
    """

    tiny: ClassVar[dict[str, Any]] = {"encoder": "test_convnext", "image_size": 64}

    def __init__(
        self,
        encoder: str | None = PAPER_ENCODER,
        in_channels: int = 3,
        num_classes: int = 1,
        image_size: int = 256,
        tap: Literal["last", "repo"] = "last",
        mpe: bool = True,
        mpe_place: Literal["sum", "skip"] | None = None,
        positions: Literal["learned", "sincos", "sine", "none"] | None = None,
        position_base: float | None = None,
        kernel_norm: Literal["branch", "sum"] | None = None,
        coarsest_width: int | None = None,
        encoder_options: dict[str, Any] | None = None,
    ) -> None:
        if not mpe:
            refuse(
                "pefnet with mpe false",
                positions=positions,
                kernel_norm=kernel_norm,
                mpe_place=mpe_place,
            )
        if positions not in ("sincos", "sine"):
            refuse("pefnet without sines as positions", position_base=position_base)
        body = (EarlyTapEncoder if tap == "repo" else TimmEncoder)(
            encoder or PAPER_ENCODER, in_channels, encoder_options
        )
        widen = Widen(body.channels[-1], coarsest_width) if coarsest_width else None
        channels = (*body.channels[:-1], coarsest_width or body.channels[-1])
        mix = partial(MultiKernel, kernel_norm=kernel_norm or "branch") if mpe else _mix_plainly
        steps = int(math.log2(body.strides[0]))
        strides = [*body.strides[-2::-1], *(2**step for step in reversed(range(steps)))]
        kind = positions or ("learned" if mpe else "none")
        place = _positions(kind, [max(1, image_size // s) for s in strides], position_base or BASE)
        tail = [channels[0] // 2] * steps
        stage = ConcatStage if mpe_place == "skip" else AddStage
        decoder = UNetDecoder(channels, partial(stage, mix=mix, positions=place), tail=tail)
        super().__init__(body, decoder, num_classes, skip=widen)


def _doubling(in_channels: int, out_channels: int) -> nn.Module:
    conv = nn.ConvTranspose2d(in_channels, out_channels, 4, 2, 1)
    return nn.Sequential(conv, norm_swish(out_channels))


def _conv_swish(in_channels: int, out_channels: int) -> nn.Module:
    conv = nn.Conv2d(in_channels, out_channels, 3, padding=1)
    return nn.Sequential(conv, norm_swish(out_channels))


def _mix_plainly(channels: int) -> nn.Module:
    return _conv_swish(channels, channels)


def _positions(
    kind: str,
    grids: list[int],
    base: float,
) -> Callable[[int], nn.Module]:
    """A constructor of positions, called once per stage from coarse to fine; ``grids`` are the
    stages' sides in cells."""
    remaining = iter(grids)
    if kind == "learned":
        return lambda channels: LearnedPositions(channels, next(remaining))
    if kind == "none":
        return lambda channels: nn.Identity()
    return lambda channels: SinePositions(channels, base, pairs=kind == "sincos")
