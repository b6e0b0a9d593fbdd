"""The 24 models of UNet-A's sweep: six decoders over four encoders."""

from collections.abc import Callable

import pytest
import torch

from lightning_seg import models

CONVNEXT, SWIN, EFFICIENTNET = (
    "convnext_tiny.fb_in1k",
    "swin_tiny_patch4_window7_224",
    "efficientnet_b0",
)

# parameters and 10^9 multiply-adds at 256 x 256; timm's efficientnet_b0 ends at 320 channels, UNet-A's (torchvision's) at 1280
COUNTS = [
    ("unet", None, 31_037_633, 48.17),
    ("unet", EFFICIENTNET, 4_167_373, 0.81),
    ("unet", CONVNEXT, 34_595_809, 9.103),
    ("unet", SWIN, 34_295_035, 10.63),
    ("attention_unet", None, 31_389_165, 49.25),
    ("attention_unet", EFFICIENTNET, 4_183_033, 0.82),
    ("attention_unet", CONVNEXT, 34_791_706, 9.217),
    ("attention_unet", SWIN, 34_490_932, 10.74),
    ("resunet", None, 32_436_231, 50.86),
    ("resunet", EFFICIENTNET, 4_198_093, 0.83),
    ("resunet", CONVNEXT, 34_985_569, 9.33),
    ("resunet", SWIN, 34_684_795, 10.86),
    ("transunet", None, 51_134_145, 53.67),
    ("transunet", EFFICIENTNET, 23_443_981, 2.06),
    ("transunet", CONVNEXT, 54_331_617, 10.39),
    ("transunet", SWIN, 54_030_843, 11.91),
    ("unetplusplus", None, 36_622_337, 137.82),
    ("unetplusplus", EFFICIENTNET, 4_416_365, 1.83),
    ("unetplusplus", CONVNEXT, 37_361_473, 15.33),
    ("unetplusplus", SWIN, 37_060_699, 16.86),
    ("unet3plus", None, 27_965_441, 236.34),
    ("unet3plus", EFFICIENTNET, 12_336_829, 53.26),
    ("unet3plus", CONVNEXT, 32_130_785, 14.17),
    ("unet3plus", SWIN, 31_830_011, 15.69),
]


@pytest.mark.parametrize(
    ("name", "encoder", "parameters", "cost"), COUNTS, ids=[f"{c[0]}-{c[1]}" for c in COUNTS]
)
def test_parameters_and_multiply_adds_stay_as_they_are(
    name: str, encoder: str | None, parameters: int, cost: float, gmacs: Callable[..., float]
) -> None:
    with torch.device("meta"):
        net = models.create(name, encoder=encoder)
    assert sum(p.numel() for p in net.parameters()) == parameters
    assert gmacs(net, 256) == pytest.approx(cost, rel=0.01)


def test_the_best_model_of_the_sweep_has_the_size_of_its_card() -> None:
    with torch.device("meta"):
        net = models.create("attention_unet", encoder=CONVNEXT)
    tensors = [
        t for name, t in net.state_dict().items() if not name.endswith("num_batches_tracked")
    ]
    assert sum(t.numel() for t in tensors) == 34_795_744  # in float32 132.74 MiB; the card says 133
