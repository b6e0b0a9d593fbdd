from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from lightning_seg import models
from lightning_seg.errors import InputError
from lightning_seg.models.deeplab_v3_plus import MeanBranch, SeparableConv


@pytest.mark.parametrize(
    ("encoder", "size", "parameters", "expected"),
    [
        ("resnet50", 128, 26_677_585, 2.2856),
        ("resnet50", 256, 26_677_585, 9.1407),
        ("resnet101", 128, 45_669_713, 3.4977),
    ],
)
def test_parameters_and_multiply_adds(
    gmacs: Callable[[nn.Module, int], float],
    encoder: str | None,
    size: int,
    parameters: int,
    expected: float,
) -> None:
    with torch.device("meta"):
        net = models.create("deeplab_v3_plus", encoder=encoder)
    assert sum(p.numel() for p in net.parameters()) == parameters
    assert gmacs(net, size) == pytest.approx(expected, rel=0.001)


@pytest.mark.parametrize("output_stride", [8, 16, 32])
def test_the_output_stride_is_that_of_the_coarsest_map(output_stride: int) -> None:
    net = models.create(
        "deeplab_v3_plus", **models.find("deeplab_v3_plus").tiny, output_stride=output_stride
    ).eval()
    pyramid = net.encoder(torch.rand(1, 3, 64, 64))
    assert pyramid[-1].shape[-1] == 64 // output_stride == 64 // net.encoder.strides[-1]
    assert net(torch.rand(1, 3, 65, 47)).shape == (1, 1, 65, 47)


def test_an_encoder_without_dilation_keeps_its_stride() -> None:
    net = models.create(
        "deeplab_v3_plus", encoder="test_efficientnet", output_stride=None, width=8, fine_width=4
    )
    assert net.encoder.strides[-1] == 32
    with pytest.raises(InputError, match="output_stride"):
        models.create("deeplab_v3_plus", encoder="swin_tiny_patch4_window7_224")


def test_the_separable_convolution_sees_pixels_a_dilation_apart() -> None:
    depthwise, pointwise, *_ = SeparableConv(2, 3, dilation=12)
    x = torch.zeros(1, 2, 40, 40)
    x[..., 20, 20] = 1
    rows, columns = np.nonzero(pointwise(depthwise(x))[0].abs().sum(0).detach().numpy())
    assert set(rows) == set(columns) == {8, 20, 32}


def test_the_mean_branch_is_constant_and_trains_on_one_image() -> None:
    branch = MeanBranch(4, 3)
    x = torch.randn(1, 4, 5, 6)
    assert branch.train()(x).isfinite().all()
    branch = MeanBranch(4, 3).eval()
    mean = (
        x.mean((2, 3))[0].numpy()
        @ branch.conv.weight.detach().numpy()[:, :, 0, 0].T
        / np.sqrt(1 + 1e-5)
    )
    expected = np.broadcast_to(np.maximum(mean, 0)[:, None, None], (3, 5, 6))
    np.testing.assert_allclose(branch(x)[0].detach().numpy(), expected, rtol=1e-4, atol=1e-6)
