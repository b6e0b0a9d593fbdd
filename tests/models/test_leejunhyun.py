"""The from-scratch U-Net and Attention U-Net of LeeJunHyun's Image_Segmentation, behind many papers' tables."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from lightning_seg import models


@pytest.mark.parametrize(
    ("name", "parameters", "expected"),
    [("unet", 34_527_041, 16.337), ("attention_unet", 34_878_573, 16.606)],
)
def test_parameters_and_multiply_adds(
    gmacs: Callable[[nn.Module, int], float], name: str, parameters: int, expected: float
) -> None:
    with torch.device("meta"):
        net = models.create(name, form="leejunhyun")
    assert sum(p.numel() for p in net.parameters()) == parameters
    assert gmacs(net, 128) == pytest.approx(expected, rel=0.001)


@pytest.mark.parametrize("name", ["unet", "attention_unet"])
@pytest.mark.parametrize("encoder", [None, "test_efficientnet"])
def test_the_form_takes_any_size_and_encoder(name: str, encoder: str | None) -> None:
    net = models.create(
        name, encoder=encoder, form="leejunhyun", widths=None if encoder else [4, 8, 16]
    )
    output = net(torch.rand(2, 3, 65, 47))
    assert output.shape == (2, 1, 65, 47)
    output.square().mean().backward()
    assert all(p.grad is not None for p in net.parameters())
