"""ResUNet++: Jha et al., "ResUNet++: An Advanced Architecture for Medical Image Segmentation", ISM
2019.

    e_l = SE(Res(e_{l-1})), stride 2
    ASPP(x) = W sum_r bn(conv_r(x)), dilation r in 1, 6, 12, 18
    a_l = conv(relu(bn(pool(conv(relu(bn(e_l)))) + conv(relu(bn(d_{l+1})))))), no sigmoid
    d_l = SE(Res([nearest(a_l * d_{l+1}), e_l]))        d_N = ASPP(e_N)        head: W ASPP(d_1)

Differs from the paper: ``form="paper"`` is the authors' torch code (4,062,993 parameters); their
Keras code pads strided convolutions on one side. ``form="dca"`` is the host of the Dual
Cross-Attention paper: twice the widths, attention maps of one channel, skips before the squeeze and
excitation, none of it in the decoder, shortcuts without norm, ASPP with norm (the last one with
ReLU) after the sum too.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from lightning_seg.errors import InputError
from lightning_seg.models.deep_residual_unet import Stem
from lightning_seg.models.frame.blocks import (
    AttentionMap,
    ConvNormAct,
    NearestStage,
    ResidualBlock,
    SqueezeExcite,
    norm_act_conv,
)
from lightning_seg.models.frame.encoder import Level, TappedEncoder
from lightning_seg.models.frame.skeleton import Segmenter, UNetDecoder
from lightning_seg.models.frame.skip import make_skip

RATES = (1, 6, 12, 18)
WIDTHS = {"paper": (16, 32, 64, 128, 256), "dca": (32, 64, 128, 256, 512)}


class Sum(nn.ModuleList):
    """The sum of what its modules make of one map."""

    def forward(self, x: Tensor) -> Tensor:
        return sum(module(x) for module in self)


def aspp(
    in_channels: int, out_channels: int, *after: nn.Module, relu: bool = False
) -> nn.Sequential:
    """Dilated convolutions, summed, and a 1x1 convolution; ``after`` follows it and ``relu`` each
    branch."""
    act = nn.ReLU() if relu else nn.Identity()
    branches = (
        nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 3, padding=rate, dilation=rate),
            nn.BatchNorm2d(out_channels),
            act,
        )
        for rate in RATES
    )
    return nn.Sequential(Sum(branches), nn.Conv2d(out_channels, out_channels, 1), *after)


class AttendedStage(nn.Module):
    """The decoder map times attention that sees the skip, of ``maps`` channels (None: its own),
    then a `NearestStage` of ``block``."""

    def __init__(
        self,
        in_channels: int,
        skip_channels: int,
        out_channels: int,
        block: Any,
        maps: int | None,
    ) -> None:
        super().__init__()
        self.skip = nn.Sequential(norm_act_conv(skip_channels, in_channels), nn.MaxPool2d(2))
        self.below = norm_act_conv(in_channels, in_channels)
        self.weights = norm_act_conv(in_channels, maps or in_channels, 1 if maps else 3)
        self.map = AttentionMap()
        self.join = NearestStage(in_channels, skip_channels, out_channels, block)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return self.join(x * self.map(self.weights(self.skip(skip) + self.below(x))), skip)


class ExcitedBlock(nn.Sequential):
    """A residual block, then squeeze and excitation."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(
            ResidualBlock(in_channels, out_channels, bias=True), SqueezeExcite(out_channels, 8)
        )


def _paper(
    in_channels: int,
    widths: Sequence[int],
) -> tuple[list[nn.Module], nn.Module, nn.Module]:
    """Levels, decoder and the end of the head in the form of its own paper."""
    *finer, deepest, bridge = widths
    sizes = zip(finer, (*finer[1:], deepest), strict=True)
    bodies = [Stem(in_channels, widths[0]), *(ResidualBlock(i, o, 2, bias=True) for i, o in sizes)]
    finishes = [
        *(SqueezeExcite(c, 8) for c in finer),
        nn.Sequential(SqueezeExcite(deepest, 8), aspp(deepest, bridge)),
    ]
    stage = partial(AttendedStage, block=ExcitedBlock, maps=None)
    decoder = UNetDecoder((*finer, bridge), stage, widths[-2:0:-1])
    return (
        [Level(b, f) for b, f in zip(bodies, finishes, strict=True)],
        decoder,
        aspp(widths[1], widths[0]),
    )


def _dca(
    in_channels: int,
    widths: Sequence[int],
) -> tuple[list[nn.Module], nn.Module, nn.Module]:
    """The same in the form of the Dual Cross-Attention paper."""
    *finer, deepest, bridge = widths
    first = widths[0]
    block = partial(ResidualBlock, bias=True, shortcut_norm=False)
    image = nn.Sequential(
        ConvNormAct(in_channels, first, bias=True), nn.Conv2d(first, first, 3, padding=1)
    )
    sizes = zip(finer, (*finer[1:], deepest), strict=True)
    bodies = [
        Sum([image, nn.Conv2d(in_channels, first, 3, padding=1)]),
        *(block(i, o, 2) for i, o in sizes),
    ]
    excite = [SqueezeExcite(c, 16 if level else 8) for level, c in enumerate(finer)]
    finishes = [*excite, aspp(deepest, bridge, nn.BatchNorm2d(bridge))]
    decoder = UNetDecoder(
        (*finer, bridge), partial(AttendedStage, block=block, maps=1), widths[-2:0:-1]
    )
    end = aspp(widths[1], first, nn.BatchNorm2d(first), nn.ReLU(inplace=True), relu=True)
    return [Level(b, f) for b, f in zip(bodies, finishes, strict=True)], decoder, end


class ResUNetPlusPlus(Segmenter):
    """ResUNet++.

    Args:
        in_channels, num_classes: as in `UNet`.
        form: of its own paper, or of the Dual Cross-Attention paper.
        widths: of the levels, fine to coarse, and of the bridge, which keeps the size of the last
            level (default: those of ``form``).
        skip: see `make_skip`.
    """

    tiny: ClassVar[dict[str, Any]] = {"widths": (8, 8, 16, 16)}

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 1,
        form: Literal["paper", "dca"] = "paper",
        widths: Sequence[int] | None = None,
        skip: str | dict[str, Any] | None = None,
    ) -> None:
        widths = tuple(widths or WIDTHS[form])
        if len(widths) < 3:
            raise InputError(
                f"widths of resunet_plus_plus are {widths}; it needs three or more: two levels and the bridge."
            )
        levels, decoder, end = (_paper if form == "paper" else _dca)(in_channels, widths)
        channels = (*widths[:-2], widths[-1])
        between = make_skip(skip, channels)
        encoder = TappedEncoder(levels, channels, between.raw or form == "dca")
        super().__init__(
            encoder,
            decoder,
            num_classes,
            between,
            nn.Sequential(end, nn.Conv2d(widths[0], num_classes, 1)),
        )
