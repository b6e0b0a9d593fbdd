from collections.abc import Callable

import pytest
import torch
from torch import nn

from lightning_seg import models
from lightning_seg.errors import InputError
from lightning_seg.models.fcn8 import BilinearUp
from lightning_seg.models.frame.blocks import resize_maps


def test_parameters_and_multiply_adds(gmacs: Callable[[nn.Module, int], float]) -> None:
    with torch.device("meta"):
        net = models.create("fcn8")
    assert sum(p.numel() for p in net.parameters()) == 134_265_699
    assert gmacs(net, 128) == pytest.approx(6.924, rel=0.001)


@pytest.mark.parametrize("factor", [2, 8])
def test_the_way_up_starts_as_bilinear_interpolation_of_each_class(factor: int) -> None:
    x = torch.rand(1, 3, 6, 6)
    inner = slice(factor, -factor)  # at the border a transposed convolution sees zeros
    torch.testing.assert_close(
        BilinearUp(3, factor)(x)[..., inner, inner],
        resize_maps(x, (6 * factor, 6 * factor))[..., inner, inner],
    )


def test_scores_come_from_the_maps_after_the_third_fourth_and_fifth_pooling() -> None:
    net = models.create("fcn8", **models.find("fcn8").tiny).eval()
    seen = []
    for score in net.decoder.scores:
        score.register_forward_hook(
            lambda module, inputs, output: seen.append(tuple(inputs[0].shape[1:]))
        )
    net(torch.rand(1, 3, 64, 64))
    assert seen == [(32, 2, 2), (512, 4, 4), (256, 8, 8)]


def test_an_encoder_without_vgg_s_poolings_is_an_input_error() -> None:
    with pytest.raises(InputError, match="vgg16"):
        models.create("fcn8", encoder="resnet50")
