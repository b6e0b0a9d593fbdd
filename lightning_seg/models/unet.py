"""U-Net: Ronneberger, Fischer, Brox, "U-Net: Convolutional Networks for Biomedical Image
Segmentation", MICCAI 2015.

    d_l = DoubleConv([up(d_{l+1}), e_l])

Differs from the paper: padded convolutions with batch norm; any encoder; as in UNet-A, the output
width of a step is that of its skip, and logits of an encoder that starts below full resolution are
resampled bilinearly. `form: leejunhyun` is the U-Net of LeeJunHyun's Image_Segmentation, behind
many papers' tables: nearest upsampling and a 3x3 convolution on the way up.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from lightning_seg.models.frame.blocks import ConvNormAct, DoubleConv
from lightning_seg.models.frame.encoder import ConvEncoder, TimmEncoder, make_encoder
from lightning_seg.models.frame.skeleton import Segmenter, Stage, UNetDecoder
from lightning_seg.models.frame.skip import make_skip

Layer = Callable[[int, int], nn.Module]  # (in_channels, out_channels)


def transposed(in_channels: int, out_channels: int) -> nn.Module:
    """The paper's way up: a transposed convolution that doubles the size."""
    return nn.ConvTranspose2d(in_channels, out_channels, 2, 2)


def nearest_conv(in_channels: int, out_channels: int) -> nn.Module:
    """Nearest upsampling x2, 3x3 convolution, batch norm, ReLU."""
    return nn.Sequential(
        nn.Upsample(scale_factor=2), ConvNormAct(in_channels, out_channels, bias=True)
    )


# by form: the convolution block and the way up
FORMS: dict[str, tuple[Layer, Layer]] = {
    "unet_a": (DoubleConv, transposed),
    "leejunhyun": (partial(DoubleConv, bias=True), nearest_conv),
}


class UNetStage(nn.Module):
    """Upsampling x2, concatenation with the skip, a convolution block."""

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
        self.block = block(out_channels + skip_channels, out_channels)

    def forward(self, x: Tensor, skip: Tensor | None) -> Tensor:
        x = self.up(x)
        return self.block(x if skip is None else torch.cat([x, skip], 1))


def unet_slots(
    body: ConvEncoder | TimmEncoder,
    stage: Stage,
    skip: str | dict[str, Any] | None,
) -> dict[str, Any]:
    """The arguments of a `Segmenter` with encoder ``body``, the skip module ``skip`` and the U-Net
    loop over ``stage``."""
    between = make_skip(skip, body.channels, body.strides)
    return {"encoder": body, "decoder": UNetDecoder(body.channels, stage), "skip": between}


class UNet(Segmenter):
    """U-Net over any encoder.

    Args:
        encoder: timm name, or None for the paper's own, from scratch.
        in_channels: of the image.
        num_classes: output channels.
        widths: channels of the own encoder, fine to coarse (default: 64 to 1024); a timm encoder
            takes none.
        form: of the convolution blocks and of the way up; ``leejunhyun`` from scratch has
            34,527,041 parameters.
        skip: what the skips pass on their way, e.g. ``dca`` or ``{name: dca, sca: false}``; see
            `make_skip`.
        encoder_options: further arguments of the timm encoder, e.g. ``{drop_path_rate: 0.1}``.
    """

    tiny: ClassVar[dict[str, Any]] = {"widths": (4, 8, 16)}

    def __init__(
        self,
        encoder: str | None = None,
        in_channels: int = 3,
        num_classes: int = 1,
        widths: Sequence[int] | None = None,
        form: Literal["unet_a", "leejunhyun"] = "unet_a",
        skip: str | dict[str, Any] | None = None,
        encoder_options: dict[str, Any] | None = None,
    ) -> None:
        block, up = FORMS[form]
        body = make_encoder(encoder, in_channels, encoder_options, widths, block)
        super().__init__(
            num_classes=num_classes,
            **unet_slots(body, partial(UNetStage, block=block, up=up), skip),
        )
