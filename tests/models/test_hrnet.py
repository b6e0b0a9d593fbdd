from collections.abc import Callable

import pytest
import torch
from torch import nn

from lightning_seg import models
from lightning_seg.errors import InputError


@pytest.mark.parametrize(
    ("encoder", "parameters", "expected"),
    [
        ("hrnet_w18", 9_636_241, 1.1466),
        ("hrnet_w32", 29_537_857, 2.8132),
        (None, 65_846_401, 5.8267),
    ],
)
def test_parameters_and_multiply_adds(
    gmacs: Callable[[nn.Module, int], float], encoder: str | None, parameters: int, expected: float
) -> None:
    with torch.device("meta"):
        net = models.create("hrnet", encoder=encoder)
    assert sum(p.numel() for p in net.parameters()) == parameters
    assert gmacs(net, 128) == pytest.approx(expected, rel=0.001)


def test_another_family_is_an_input_error() -> None:
    with pytest.raises(InputError, match="hrnet_w18"):
        models.create("hrnet", encoder="resnet50")
