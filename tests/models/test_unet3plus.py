from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from lightning_seg import models
from lightning_seg.models.unet3plus import ClassGate, FullScaleDecoder


@pytest.mark.parametrize(
    ("options", "parameters", "cost"),
    [
        ({}, 27_965_441, 236.3),
        ({"encoder": "convnext_tiny.fb_in1k"}, 32_130_785, 14.17),
        ({"streams": "paper"}, 26_971_777, 197.652),
        ({"streams": "paper", "deep_supervision": True}, 26_989_637, 197.717),
        ({"streams": "paper", "deep_supervision": True, "cgm": True}, 26_991_687, 197.717),
        ({"streams": "paper", "encoder": "convnext_tiny.fb_in1k"}, 31_972_705, 13.231),
    ],
)
def test_parameters_and_multiply_adds_at_256_are_those_of_both_codes(
    options: dict[str, Any], parameters: int, cost: float, gmacs: Callable[..., float]
) -> None:
    with torch.device("meta"):
        net = models.create("unet3plus", **options)
    assert sum(p.numel() for p in net.parameters()) == parameters
    assert gmacs(net, 256) == pytest.approx(cost, rel=0.01)


@pytest.mark.parametrize(("deeper", "seen"), [(True, [0, 1, 2, 3]), (False, [0, 1, 3])])
def test_a_level_sees_deeper_encoder_maps_only_in_unet_a_wiring(
    deeper: bool, seen: list[int]
) -> None:
    conv = partial(nn.Conv2d, kernel_size=1)
    net = FullScaleDecoder((1, 1, 1, 1), 1, conv, conv, deeper)
    assert net.sources[1] == seen
    pyramid = [torch.rand(1, 1, 2**k, 2**k, requires_grad=True) for k in (4, 3, 2, 1)]
    net(pyramid)[1].sum().backward()
    assert [k for k, level in enumerate(pyramid) if level.grad is not None and k != 2] == [
        k for k in seen if k != 2
    ]


def test_deep_supervision_gives_logits_of_every_coarser_decoder_map_and_of_the_bottleneck() -> None:
    net = models.create(
        "unet3plus", widths=(4, 8, 16, 16), stream_width=4, deep_supervision=True
    ).eval()
    output = net(torch.rand(1, 3, 33, 40))
    assert [tuple(x.shape) for x in (output.logits, *output.deep)] == [(1, 1, 33, 40)] * 4


def test_the_class_gate_multiplies_probabilities_and_stays_finite_at_extremes() -> None:
    rng = np.random.default_rng(0)
    logits, gate = rng.normal(0, 2, (2, 3, 4, 4)), rng.normal(0, 2, (2, 1, 1, 1))
    product = 1 / (1 + np.exp(-logits)) / (1 + np.exp(-gate))
    gated = ClassGate.apply_to(torch.tensor(logits), torch.tensor(gate))
    np.testing.assert_allclose(gated.sigmoid(), product, rtol=1e-12)
    extreme = torch.tensor([-500.0, 0.0, 500.0])
    assert ClassGate.apply_to(extreme[:, None].expand(3, 3), extreme[None]).isfinite().all()


def test_the_class_gate_learns_from_the_segmentation_loss() -> None:
    torch.manual_seed(0)
    gate = ClassGate(4)
    ClassGate.apply_to(torch.zeros(1, 1, 2, 2), gate(torch.rand(1, 4, 3, 3))).sum().backward()
    assert gate.scores[1].weight.grad.abs().sum() > 0
