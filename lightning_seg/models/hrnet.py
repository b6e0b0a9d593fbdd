"""HRNet: Wang et al., "Deep High-Resolution Representation Learning for Visual Recognition", TPAMI
2020 (HRNetV2).

    logits = W relu(bn(W' [h_4, up2(h_8), up4(h_16), up8(h_32)]))
    h: the four parallel resolutions

Differs from the paper: nothing known; timm's backbone (``hrnet_w18``, ``w32``, ``w48``), logits
upsampled x4 bilinearly. Where resolutions are exchanged, timm upsamples coarser maps to the
nearest pixel, as the published classifier does; here bilinearly, corners not aligned, as the
published network for segmentation.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lightning_seg.errors import InputError
from lightning_seg.models.frame.blocks import ConvNormAct, resize_maps
from lightning_seg.models.frame.encoder import TimmEncoder
from lightning_seg.models.frame.skeleton import Segmenter

ENCODER = "hrnet_w48"


class ConcatDecoder(nn.Module):
    """All maps but the stem's, at the size of the finest of them, side by side and mixed by 1x1."""

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.channels = sum(channels[1:])
        self.mix = ConvNormAct(self.channels, self.channels, 1, bias=True)

    def forward(self, pyramid: list[Tensor]) -> Tensor:
        _, finest, *_ = pyramid
        return self.mix(torch.cat([resize_maps(x, finest.shape[-2:]) for x in pyramid[1:]], 1))


def set_fusion(body: nn.Module, mode: str) -> None:
    """Let the exchanges between the resolutions of ``body`` upsample by ``mode``."""
    for module in body.modules():
        if isinstance(module, nn.Upsample):
            module.mode = mode
            module.align_corners = None if mode == "nearest" else False


class HRNet(Segmenter):
    """HRNetV2 for segmentation. Arguments as in `UNet`; ``encoder`` is one of timm's HRNets.

    Weights that were saved when exchanges upsampled to the nearest pixel go on to do so.
    """

    # of state dictionaries, in which torch notes it: since 2, exchanges are bilinear
    _version = 2

    tiny: ClassVar[dict[str, Any]] = {"encoder": "hrnet_w18_small"}

    def __init__(
        self,
        encoder: str | None = ENCODER,
        in_channels: int = 3,
        num_classes: int = 1,
        encoder_options: dict[str, Any] | None = None,
    ) -> None:
        if not (encoder or ENCODER).startswith("hrnet"):
            raise InputError(
                f"{encoder!r} is none of timm's HRNets; take 'hrnet_w18', 'hrnet_w32' or 'hrnet_w48'."
            )
        # the resolutions themselves, not the wider maps that timm makes of them for its classifier
        body = TimmEncoder(
            encoder or ENCODER, in_channels, {"feature_location": "", **(encoder_options or {})}
        )
        set_fusion(body, "bilinear")
        super().__init__(body, ConcatDecoder(body.channels), num_classes)

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        *rest: Any,
    ) -> None:
        old = local_metadata.get("version", self._version) < 2
        set_fusion(self.encoder, "nearest" if old else "bilinear")
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *rest)
