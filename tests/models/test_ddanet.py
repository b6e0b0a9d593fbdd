from collections.abc import Callable

import cv2
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lightning_seg import models
from lightning_seg.errors import InputError
from lightning_seg.models.ddanet import DualStage, grey


@pytest.mark.parametrize(("size", "expected"), [(256, 17.448), (512, 69.793)])
def test_parameters_and_multiply_adds(
    gmacs: Callable[[nn.Module, int], float], size: int, expected: float
) -> None:
    with torch.device("meta"):
        net = models.create("ddanet")
    assert sum(p.numel() for p in net.parameters()) == 6_835_638
    assert gmacs(net, size) == pytest.approx(expected, rel=0.001)


def test_the_grey_target_is_the_luma_whatever_the_normalization() -> None:
    colours = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    colours[0, 0], colours[0, 1] = 0, 255
    expected = cv2.cvtColor(colours, cv2.COLOR_RGB2GRAY) / 255
    image = torch.from_numpy(colours).permute(2, 0, 1)[None].float() / 255
    np.testing.assert_allclose(grey(image)[0, 0], expected, atol=0.003)
    torch.testing.assert_close(grey((image - 0.5) / 0.25), grey(image), rtol=1e-4, atol=1e-5)
    assert torch.equal(grey(torch.ones(1, 1, 4, 4)), torch.zeros(1, 1, 4, 4))


def test_the_reconstruction_says_where_the_segmentation_looks() -> None:
    torch.manual_seed(0)
    stage = DualStage(16, 8, 16).eval()
    below, other, skip = torch.randn(1, 16, 4, 4), torch.randn(1, 16, 4, 4), torch.randn(1, 8, 8, 8)
    with torch.no_grad():
        segmented, reconstructed = stage(below, other, skip)
        expected = stage.segment(below, skip).numpy()
    conv = stage.attention[0]
    weights = (
        np.einsum("c,chw->hw", conv.weight.detach().numpy()[0, :, 0, 0], reconstructed[0].numpy())
        + conv.bias.item()
    )
    np.testing.assert_allclose(
        segmented[0].numpy(), expected[0] / (1 + np.exp(-weights)), rtol=1e-4, atol=1e-5
    )


def test_the_penalty_is_the_weighted_cross_entropy_of_the_reconstruction() -> None:
    net = models.create("ddanet", widths=[8, 16], reconstruction=0.5).eval()
    seen = []
    net.grey_head.register_forward_hook(lambda module, inputs, output: seen.append(output))
    image = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        penalty = net(image).penalty
    expected = F.binary_cross_entropy(seen[0].sigmoid(), grey(image)) / 2
    torch.testing.assert_close(penalty, expected, rtol=1e-4, atol=1e-5)


def test_without_a_reconstruction_the_output_is_plain_logits_and_no_weight_is_left_over() -> None:
    net = models.create("ddanet", widths=[8, 16], reconstruction=0.0)
    net(torch.rand(2, 3, 32, 32)).square().mean().backward()
    assert all(p.grad is not None for p in net.parameters())
    with pytest.raises(InputError):
        models.create("ddanet", reconstruction=-1.0)
