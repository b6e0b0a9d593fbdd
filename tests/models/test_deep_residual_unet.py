from collections.abc import Callable

import pytest
import torch
from torch import nn

from lightning_seg import models


@pytest.mark.parametrize(("size", "expected"), [(128, 2.4704), (256, 9.8818)])
def test_parameters_and_multiply_adds_are_those_of_the_keras_form(
    gmacs: Callable[[nn.Module, int], float], size: int, expected: float
) -> None:
    with torch.device("meta"):
        net = models.create("deep_residual_unet")
    assert sum(p.numel() for p in net.parameters()) == 4_715_761
    statistics = sum(b.numel() for name, b in net.named_buffers() if "running" in name)
    assert 4_715_761 + statistics == 4_723_057  # Keras counts these too
    assert gmacs(net, size) == pytest.approx(expected, rel=0.001)


@pytest.mark.parametrize("name", ["deep_residual_unet", "nanonet", "pefnet", "sa_unet"])
def test_networks_of_keras_code_have_its_batch_norm(name: str) -> None:
    net = models.create(name, **models.find(name).tiny)
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms
    assert {(m.eps, m.momentum) for m in norms} == {(1e-3, 0.01)}
