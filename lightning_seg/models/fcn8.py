"""FCN-8s: Long, Shelhamer, Darrell, "Fully Convolutional Networks for Semantic Segmentation", CVPR
2015.

    s_32 = W fc7(fc6(pool5))        s_16 = up2(s_32) + W' pool4        s_8 = up2(s_16) + W'' pool3
    logits = up8(s_8)

Differs from the paper: padding of 1 pixel, and 3 at fc6, so that no map needs cropping (the paper
pads the image by 100); the transposed convolutions start as bilinear interpolation and are all
learned; no loading of fc6 and fc7; scores of pool3 and pool4 start small at random, not at zero.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_seg.errors import InputError
from lightning_seg.models.frame.encoder import TimmEncoder
from lightning_seg.models.frame.skeleton import Segmenter

ENCODER = "vgg16"


class BilinearUp(nn.ConvTranspose2d):
    """Transposed convolution to ``factor`` times the size, which starts as bilinear interpolation
    of each channel."""

    def __init__(self, channels: int, factor: int) -> None:
        super().__init__(channels, channels, 2 * factor, factor, factor // 2, bias=False)

    def reset_parameters(self) -> None:
        factor = self.stride[0]
        ramp = 1 - ((torch.arange(2 * factor, device=self.weight.device) + 0.5) / factor - 1).abs()
        eye = torch.eye(self.in_channels, device=self.weight.device)
        with torch.no_grad():
            self.weight.copy_(eye[..., None, None] * torch.outer(ramp, ramp))


class FCN8Decoder(nn.Module):
    """VGG's maps before each pooling -> scores of ``channels`` classes at stride 8."""

    def __init__(
        self,
        channels: tuple[int, ...],
        num_classes: int,
        width: int,
        dropout: float,
    ) -> None:
        super().__init__()
        pool3, pool4, pool5 = channels[-4], channels[-3], channels[-1]
        self.fc = nn.Sequential(
            *(nn.Conv2d(pool5, width, 7), nn.ReLU(inplace=True), nn.Dropout2d(dropout)),
            *(nn.Conv2d(width, width, 1), nn.ReLU(inplace=True), nn.Dropout2d(dropout)),
        )
        self.scores = nn.ModuleList(nn.Conv2d(c, num_classes, 1) for c in (width, pool4, pool3))
        self.ups = nn.ModuleList(BilinearUp(num_classes, 2) for _ in range(2))
        self.channels = num_classes

    def forward(self, pyramid: list[Tensor]) -> Tensor:
        before_pool3, before_pool4, _, pool5 = pyramid[-4:]
        # not padded by the convolution: in bfloat16 torch 2.15's CPU kernel leaves the gradient of weights that meet no pixel of a
        # small map uninitialised
        x = self.scores[0](self.fc(F.pad(pool5, (3, 3, 3, 3))))
        for up, score, before in zip(
            self.ups, self.scores[1:], (before_pool4, before_pool3), strict=True
        ):
            x = up(x) + score(F.max_pool2d(before, 2))
        return x


class FCN8(Segmenter):
    """FCN-8s on VGG. Arguments as in `UNet`, and:

    Args:
        encoder: timm's ``vgg16``, or another VGG.
        width: channels of fc6 and fc7.
        dropout: rate after each of these.
    """

    # timm draws VGG's own fc6 and fc7 before it drops them: a second, unless they are narrow
    tiny: ClassVar[dict[str, Any]] = {
        "encoder": "vgg11_bn",
        "width": 32,
        "encoder_options": {"mlp_ratio": 0.01},
    }

    def __init__(
        self,
        encoder: str | None = ENCODER,
        in_channels: int = 3,
        num_classes: int = 1,
        width: int = 4096,
        dropout: float = 0.5,
        encoder_options: dict[str, Any] | None = None,
    ) -> None:
        if not (encoder or ENCODER).startswith("vgg"):
            raise InputError(
                f"{encoder!r} is no VGG, whose poolings fcn8 is built on; take 'vgg16' or 'vgg16_bn'."
            )
        body = TimmEncoder(encoder or ENCODER, in_channels, encoder_options)
        decoder = FCN8Decoder(body.channels, num_classes, width, dropout)
        super().__init__(body, decoder, num_classes, head=BilinearUp(num_classes, 8))
