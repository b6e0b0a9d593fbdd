"""Maps of one channel beside maps of many: equal to torch's plain forms, in outputs and gradients."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from lightning_seg.models.frame.channel_maps import channel_mean, weigh_pixels


def _gradients(call: Callable[..., Tensor], *inputs: Tensor) -> list[Tensor]:
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    y = call(*leaves)
    (y * torch.arange(y.numel()).view_as(y) / y.numel()).sum().backward()
    return [y, *[leaf.grad for leaf in leaves if leaf.grad is not None]]


@pytest.mark.parametrize("memory", [torch.channels_last, torch.contiguous_format], ids=str)
@pytest.mark.parametrize("shape", [(2, 5, 7, 3), (1, 1, 4, 4), (0, 3, 4, 4)])
def test_they_are_the_mean_and_the_product(
    shape: tuple[int, ...], memory: torch.memory_format
) -> None:
    torch.manual_seed(0)
    x = torch.randn(shape, dtype=torch.float64).contiguous(memory_format=memory)
    weights = torch.rand(shape[0], 1, *shape[2:], dtype=torch.float64)
    torch.testing.assert_close(
        _gradients(channel_mean, x), _gradients(lambda x: x.mean(1, keepdim=True), x)
    )
    torch.testing.assert_close(
        _gradients(weigh_pixels, x, weights), _gradients(lambda x, w: x * w, x, weights)
    )


def test_outputs_are_the_same_to_the_last_digit_with_and_without_a_gradient() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 16, 9, 8).contiguous(memory_format=torch.channels_last)
    weights = torch.rand(2, 1, 9, 8)
    trained = x.clone().requires_grad_()
    assert torch.equal(channel_mean(trained), channel_mean(x))
    assert torch.equal(weigh_pixels(trained, weights), weigh_pixels(x, weights))
