"""ResUNet: Zhang, Liu, Wang, "Road Extraction by Deep Residual U-Net", IEEE GRSL 2018.

    d_l = Res([up(d_{l+1}), e_l])        Res(x) = conv(relu(bn(conv(relu(bn(x)))))) + bn(conv1x1(x))

Differs from the paper: as UNet-A's, any encoder, and the transposed convolution of its U-Net; the
own encoder has residual blocks with max-pooling.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

from lightning_seg.models.frame.blocks import ResidualBlock
from lightning_seg.models.frame.encoder import make_encoder
from lightning_seg.models.frame.skeleton import Segmenter
from lightning_seg.models.unet import UNetStage, unet_slots


class ResUNet(Segmenter):
    """U-Net of residual blocks over any encoder. Arguments as in `UNet`."""

    tiny: ClassVar[dict[str, Any]] = {"widths": (4, 8, 16)}

    def __init__(
        self,
        encoder: str | None = None,
        in_channels: int = 3,
        num_classes: int = 1,
        widths: Sequence[int] | None = None,
        skip: str | dict[str, Any] | None = None,
        encoder_options: dict[str, Any] | None = None,
    ) -> None:
        body = make_encoder(encoder, in_channels, encoder_options, widths, ResidualBlock)
        super().__init__(
            num_classes=num_classes,
            **unet_slots(body, partial(UNetStage, block=ResidualBlock), skip),
        )
