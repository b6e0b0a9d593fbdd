from collections.abc import Callable

import pytest
import torch
from torch import nn

from lightning_seg import models
from lightning_seg.errors import InputError


def test_it_has_the_size_and_cost_of_mobilenet_under_the_plain_decoder(
    gmacs: Callable[[nn.Module, int], float],
) -> None:
    with torch.device("meta"):
        net = models.create("mobile_unet")
    assert sum(p.numel() for p in net.parameters()) == 6_628_945
    assert gmacs(net, 128) == pytest.approx(0.836, rel=0.01)


def test_an_encoder_that_starts_at_stride_4_also_reaches_full_resolution() -> None:
    net = models.create(
        "mobile_unet", encoder="test_convnext", widths=[16, 8, 8, 4, 4], last_width=16
    ).eval()
    assert net.decoder(net.skip(net.encoder(torch.rand(1, 3, 64, 64)))).shape == (1, 4, 64, 64)


def test_widths_that_do_not_lead_to_full_resolution_are_an_input_error() -> None:
    with torch.device("meta"), pytest.raises(InputError, match="takes 5"):
        models.create("mobile_unet", widths=[64, 32])
