"""R2U-Net: Alom et al., "Recurrent Residual Convolutional Neural Network based on U-Net for Medical
Image Segmentation", 2018.

    R(x) = y_t, y_0 = f(x), y_i = f(x + y_{i-1})        f one convolution, the same each time
    RRCNN(x) = relu(bn(z + R_2(R_1(relu(bn(z)))))), z = conv1x1(x)
    d_l = RRCNN([conv(up(d_{l+1})), e_l])

Differs from the paper: the form of the Dual Cross-Attention paper: half the widths (32 to 512), the
residual sum before norm and activation (so that `skip` can tap it); the second recurrent
convolution has neither.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar

from torch import Tensor, nn

from lightning_seg.models.dca_unet import bilinear_conv
from lightning_seg.models.frame.blocks import ConvNormAct
from lightning_seg.models.frame.encoder import Level, TappedEncoder
from lightning_seg.models.frame.skeleton import Segmenter, UNetDecoder
from lightning_seg.models.frame.skip import make_skip
from lightning_seg.models.unet import UNetStage


class Recurrent(nn.Module):
    """``body`` on its input, then ``steps`` times on its input plus its last output."""

    def __init__(self, body: nn.Module, steps: int) -> None:
        super().__init__()
        self.body = body
        self.steps = steps

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)
        for _ in range(self.steps):
            y = self.body(x + y)
        return y


class RecurrentResidual(nn.Module):
    """``z + R_2(R_1(relu(bn(z))))`` with ``z`` the 1x1 convolution of the input, max-pooled first
    where ``pool``."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        steps: int,
        pool: bool = False,
    ) -> None:
        super().__init__()
        self.enter = nn.Sequential(
            nn.MaxPool2d(2) if pool else nn.Identity(), nn.Conv2d(in_channels, out_channels, 1)
        )
        self.body = nn.Sequential(
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
            Recurrent(ConvNormAct(out_channels, out_channels, bias=True), steps),
            Recurrent(nn.Conv2d(out_channels, out_channels, 3, padding=1), steps),
        )

    def forward(self, x: Tensor) -> Tensor:
        z = self.enter(x)
        return z + self.body(z)


def _norm_act(channels: int) -> nn.Module:
    return nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(inplace=True))


def _rrcnn(steps: int) -> Callable[[int, int], nn.Module]:
    """Constructor of the decoder's block."""
    return lambda i, o: nn.Sequential(RecurrentResidual(i, o, steps), _norm_act(o))


class R2UNet(Segmenter):
    """R2U-Net. Further arguments as in `UNet`.

    Args:
        steps: how often each recurrent convolution sees its own output.
        skip: see `make_skip`.
    """

    tiny: ClassVar[dict[str, Any]] = {"widths": (4, 8, 16)}

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 1,
        widths: Sequence[int] = (32, 64, 128, 256, 512),
        steps: int = 2,
        skip: str | dict[str, Any] | None = None,
    ) -> None:
        between = make_skip(skip, widths)
        sizes = enumerate(zip((in_channels, *widths), widths, strict=False))
        levels = [
            Level(RecurrentResidual(i, o, steps, pool=level > 0), _norm_act(o))
            for level, (i, o) in sizes
        ]
        stage = partial(UNetStage, block=_rrcnn(steps), up=bilinear_conv)
        super().__init__(
            TappedEncoder(levels, widths, between.raw),
            UNetDecoder(widths, stage),
            num_classes,
            skip=between,
        )
