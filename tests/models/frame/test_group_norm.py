"""The quick gradient of group norm against torch's own, in double precision and by finite differences."""

import pytest
import torch
from torch import Tensor, nn

from lightning_seg.models.frame.group_norm import GroupNorm

SHAPES = [((3, 16, 20, 13), 8), ((2, 48, 5, 6), 8), ((2, 8, 1, 5), 8), ((1, 6, 7, 7), 1)]


def _channels_last(*shape: int) -> Tensor:
    return torch.randn(shape).contiguous(memory_format=torch.channels_last)


def _filled(norm: nn.GroupNorm) -> nn.GroupNorm:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return norm


def _results(norm: nn.GroupNorm, x: Tensor, grad: Tensor) -> list[Tensor]:
    x = x.detach().requires_grad_()
    y = norm(x)
    y.backward(grad)
    results = [y.detach(), x.grad, norm.weight.grad, norm.bias.grad]
    return [r.double() for r in results if r is not None]


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 1e-2)]
)
@pytest.mark.parametrize(("shape", "groups"), SHAPES)
def test_outputs_and_gradients_are_torchs(
    shape: tuple[int, ...], groups: int, dtype: torch.dtype, tolerance: float
) -> None:
    torch.manual_seed(0)
    # far from 0, where sums that are not centred lose digits
    x, grad = (3 * _channels_last(*shape) + 5).to(dtype), _channels_last(*shape).to(dtype)
    own = _filled(GroupNorm(groups, shape[1], 1e-3))
    if dtype == torch.float64:
        own.double()
    reference = _filled(nn.GroupNorm(groups, shape[1], 1e-3)).double()
    for found, expected in zip(
        _results(own, x, grad), _results(reference, x.double(), grad.double()), strict=True
    ):
        scale = expected.abs().max().item()
        torch.testing.assert_close(found, expected, rtol=0, atol=tolerance * max(1.0, scale))


def test_the_gradient_is_that_of_finite_differences() -> None:
    torch.manual_seed(0)
    norm = _filled(GroupNorm(2, 6)).double()
    x = _channels_last(2, 6, 3, 4).double().requires_grad_()

    def call(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return torch.func.functional_call(norm, {"weight": weight, "bias": bias}, (x,))

    parameters = [p.detach().clone().requires_grad_() for p in norm.parameters()]
    assert torch.autograd.gradcheck(call, (x, *parameters))


def test_the_quick_form_is_taken_in_training_on_channels_last_maps_alone() -> None:
    norm, x = GroupNorm(2, 4), _channels_last(2, 4, 5, 6)
    assert "QuickNorm" in type(norm(x.requires_grad_()).grad_fn).__name__
    assert "QuickNorm" not in type(norm(x.detach().contiguous()).grad_fn).__name__
    with torch.no_grad():
        assert norm(x).grad_fn is None


def test_a_gradient_in_other_memory_and_an_empty_batch_are_taken() -> None:
    norm, reference = _filled(GroupNorm(2, 4)).double(), _filled(nn.GroupNorm(2, 4)).double()
    x = _channels_last(2, 4, 5, 6).double()
    grad = torch.randn(2, 8, 5, 6).double()[:, ::2]
    torch.testing.assert_close(_results(norm, x, grad), _results(reference, x, grad))
    empty = _channels_last(0, 4, 5, 6).double().requires_grad_()
    norm(empty).sum().backward()
    assert empty.grad is not None
    assert empty.grad.shape == empty.shape
