"""SA-UNet and SA-UNetv2, which share their blocks."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate
from torch import Tensor, nn

from lightning_seg import models
from lightning_seg.errors import InputError
from lightning_seg.models.frame.blocks import DoublingConv, SpatialAttention
from lightning_seg.models.sa_unet_v2 import CrossScaleAttention


@pytest.mark.parametrize(
    ("name", "options", "parameters", "size", "cost"),
    [
        ("sa_unet_v2", {}, 260_521, 592, 10.39692),
        ("sa_unet_v2", {}, 260_521, 704, 14.70302),
        ("sa_unet_v2", {"skip_attention": "none"}, 260_521 - 3 * 98, 592, 10.3479),
        ("sa_unet", {}, 537_299, 592, 13.07705),
        ("sa_unet", {"norm": "group"}, 537_299, 592, 13.07705),
    ],
)
def test_parameters_and_multiply_adds_are_those_of_the_official_graph(
    name: str,
    options: dict[str, Any],
    parameters: int,
    size: int,
    cost: float,
    gmacs: Callable[..., float],
) -> None:
    with torch.device("meta"):
        net = models.create(name, **options)
    assert sum(p.numel() for p in net.parameters()) == parameters
    assert gmacs(net, size) == pytest.approx(cost, rel=0.01)


@pytest.mark.parametrize(
    ("name", "vector"), [("sa_unet", "SA_UNet_v1_64"), ("sa_unet_v2", "SA_UNetV2_64")]
)
def test_official_outputs_are_reproduced(
    name: str,
    vector: str,
    parity: Callable[[str], dict[str, Tensor]],
    load_keras: Callable[..., None],
) -> None:
    tensors = parity(vector)
    net = models.create(name).eval()
    load_keras(
        [m for m in net.modules() if any(True for _ in m.parameters(recurse=False))], tensors
    )
    with torch.no_grad():
        torch.testing.assert_close(
            net(tensors["input"]).sigmoid(), tensors["output0"], rtol=0, atol=1e-4
        )


def _attention(summary: list[np.ndarray], kernel: np.ndarray) -> np.ndarray:
    """sigmoid of a 7x7 correlation over two maps, zeros outside."""
    total = sum(correlate(s, k, mode="constant") for s, k in zip(summary, kernel, strict=True))
    return 1 / (1 + np.exp(-total))


def test_spatial_attention_weighs_by_channel_mean_and_maximum() -> None:
    torch.manual_seed(0)
    module, x = SpatialAttention().double(), torch.randn(1, 5, 9, 11, dtype=torch.float64)
    a = x[0].numpy()
    expected = a * _attention([a.mean(0), a.max(0)], module.conv.weight[0].detach().numpy())
    np.testing.assert_allclose(module(x)[0].detach(), expected, rtol=1e-10)


def test_cross_scale_attention_weighs_the_skip_by_the_means_of_skip_and_decoder() -> None:
    torch.manual_seed(0)
    module = CrossScaleAttention().double()
    skip, x = torch.randn(2, 1, 4, 9, 11, dtype=torch.float64)
    e, u = skip[0].numpy(), x[0].numpy()
    expected = e * _attention([e.mean(0), u.mean(0)], module.conv.weight[0].detach().numpy())
    np.testing.assert_allclose(module(skip, x)[0].detach(), expected, rtol=1e-10)


@pytest.mark.parametrize(("name", "maps"), [("sa_unet", 1), ("sa_unet_v2", 4)])
def test_attention_maps_can_be_hooked(name: str, maps: int) -> None:
    net, seen = models.create(name).eval(), []
    for module in net.modules():
        if type(module).__name__ == "AttentionMap":
            module.register_forward_hook(lambda _, __, output: seen.append(output))
    net(torch.rand(1, 3, 32, 32))
    assert len(seen) == maps
    assert all(m.shape[1] == 1 and m.min() > 0 and m.max() < 1 for m in seen)


def test_the_doubling_convolution_starts_at_the_first_pixel_as_keras() -> None:
    conv = DoublingConv(1, 1)
    nn.init.zeros_(conv.bias)
    x = torch.zeros(1, 1, 3, 3)
    x[0, 0, 0, 0] = 1
    expected = torch.zeros(6, 6)
    expected[:3, :3] = conv.weight[0, 0]
    assert torch.equal(conv(x)[0, 0], expected)


@pytest.mark.parametrize(
    ("name", "options", "he", "transposed_he"),
    [
        ("sa_unet", {}, False, False),
        ("sa_unet", {"norm": "group"}, True, True),
        ("sa_unet_v2", {}, True, False),
    ],
)
def test_the_start_is_that_of_the_published_code(
    name: str, options: dict[str, Any], he: bool, transposed_he: bool
) -> None:
    """Keras' default, Glorot, where its code names none; a uniform distribution has an end."""
    torch.manual_seed(0)
    for layer in models.create(name, **options).modules():
        if not isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            continue
        transposed = isinstance(layer, nn.ConvTranspose2d)
        weight = layer.weight.transpose(0, 1) if transposed else layer.weight
        out, inner, *kernel = weight.shape
        # of a transposed kernel Keras takes the output for its fan-in
        fan_in = (out if transposed else inner) * math.prod(kernel)
        fans = (out + inner) * math.prod(kernel)
        by_he = layer.bias is None or (transposed_he if transposed else he)
        variance = 2 / fan_in if by_he else 2 / fans
        if weight.numel() >= 1000:
            assert weight.var().item() == pytest.approx(variance, rel=0.15)
        assert by_he or weight.abs().max().item() <= math.sqrt(6 / fans)
        assert layer.bias is None or not layer.bias.any()


def test_a_width_that_does_not_divide_into_groups_is_refused() -> None:
    with pytest.raises(InputError, match="width 12"):
        models.create("sa_unet_v2", widths=(12, 24))
