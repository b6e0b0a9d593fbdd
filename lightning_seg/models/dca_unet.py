"""U-Net as the host of Dual Cross-Attention: Ates, Mohan, Celik, "Dual Cross-Attention for Medical
Image Segmentation", 2023.

    e_l = relu(bn(r_l)), r_l = conv(relu(bn(conv(pool(e_{l-1})))))
    s = DCA(r)
    d_l = DoubleConv([conv(up(d_{l+1})), s_l])

``skip=None`` is the paper's U-Net without DCA. `unet` takes ``skip="dca"`` too, with its own widths
and way up, over any encoder. Differs from the paper: without DCA, skips are finished maps; its
released code joins the raw sums r there (``raw_skips=True``).
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

from torch import nn

from lightning_seg.models.frame.blocks import ConvNormAct, DoubleConv
from lightning_seg.models.frame.encoder import Level, TappedEncoder
from lightning_seg.models.frame.options import refuse
from lightning_seg.models.frame.skeleton import Segmenter, UNetDecoder
from lightning_seg.models.frame.skip import make_skip
from lightning_seg.models.unet import UNetStage


def bilinear_conv(in_channels: int, out_channels: int) -> nn.Module:
    """Bilinear upsampling x2 with aligned corners, 3x3 convolution, batch norm, ReLU."""
    return nn.Sequential(
        nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True),
        ConvNormAct(in_channels, out_channels, bias=True),
    )


def double_conv_level(
    in_channels: int,
    out_channels: int,
    *after: nn.Module,
    pool: bool,
) -> Level:
    """Max-pooling, and `DoubleConv` cut before its last norm; ``after`` follows its last ReLU."""
    return Level(
        nn.Sequential(
            nn.MaxPool2d(2) if pool else nn.Identity(),
            ConvNormAct(in_channels, out_channels, bias=True),
            nn.Conv2d(out_channels, out_channels, 3, padding=1),
        ),
        nn.Sequential(nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True), *after),
    )


class DCAUNet(Segmenter):
    """The U-Net of the DCA paper.

    Args:
        in_channels, num_classes, widths: as in `UNet`.
        skip: see `make_skip`.
        raw_skips: without a skip module, join maps before their norm and activation, as the
            released code does.
    """

    tiny: ClassVar[dict[str, Any]] = {
        "widths": (4, 8, 16),
        "skip": {"name": "dca", "patch_size": 8},
    }

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 1,
        widths: Sequence[int] = (32, 64, 128, 256, 512),
        skip: str | dict[str, Any] | None = "dca",
        raw_skips: bool = False,
    ) -> None:
        if skip is not None:
            refuse("dca_unet with a skip module, which decides itself,", raw_skips=raw_skips)
        between = make_skip(skip, widths)
        sizes = zip((in_channels, *widths), widths, strict=False)
        levels = [double_conv_level(i, o, pool=level > 0) for level, (i, o) in enumerate(sizes)]
        stage = partial(UNetStage, block=partial(DoubleConv, bias=True), up=bilinear_conv)
        super().__init__(
            TappedEncoder(levels, widths, between.raw or raw_skips),
            UNetDecoder(widths, stage),
            num_classes,
            skip=between,
        )
