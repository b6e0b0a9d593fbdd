"""DropBlock against its definition, and the draws that it needs against independent ones."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from lightning_seg.errors import InputError
from lightning_seg.models.frame.drop_block import DropBlock, bernoulli_draws, covered_squares

CPU = torch.device("cpu")


def test_it_drops_whole_squares_per_channel_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    dropped = DropBlock(0.15, 7).train()(torch.ones(8, 16, 64, 64))
    zero = (dropped == 0).numpy()
    assert 0.10 < zero.mean() < 0.16
    assert dropped.mean().item() == pytest.approx(1, abs=1e-4)
    assert (zero[0, 0] != zero[0, 1]).any()
    corner = np.lib.stride_tricks.sliding_window_view(zero, (7, 7), axis=(2, 3)).all((-1, -2))
    covered = np.zeros_like(zero)
    for i in range(7):
        for j in range(7):
            covered[:, :, i : i + 58, j : j + 58] |= corner
    assert (covered == zero).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_output_and_gradient_are_the_definition_for_given_corners(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    corners = np.random.default_rng(0).random((2, 3, 6, 7)) < 0.03
    x = torch.randn(2, 3, 10, 11).to(dtype).requires_grad_()
    kept = np.ones((2, 3, 10, 11))
    for image, channel, row, column in np.argwhere(corners):
        kept[image, channel, row : row + 5, column : column + 5] = 0
    factors = torch.from_numpy(kept / kept.mean()).to(dtype)

    drop = DropBlock(0.15, 5).train()
    monkeypatch.setattr(drop, "_corners", lambda _: torch.from_numpy(corners))
    y = drop(x)
    y.sum().backward()
    assert 0 < kept.mean() < 1
    torch.testing.assert_close(y, x * factors)
    torch.testing.assert_close(x.grad, factors)


def test_the_dropped_share_is_that_of_independent_draws() -> None:
    """An inner pixel is kept if none of the 49 corners whose squares reach it is drawn."""
    torch.manual_seed(0)
    rate, side = 0.15, 40
    chance = rate * side**2 / 49 / (side - 6) ** 2
    y = DropBlock(rate, 7).train()(torch.ones(64, 32, side, side))
    inner = (y[..., 6:-6, 6:-6] == 0).float().mean().item()
    assert inner == pytest.approx(1 - (1 - chance) ** 49, rel=0.02)


def test_it_leaves_evaluation_alone_and_takes_maps_smaller_than_its_square() -> None:
    x = torch.rand(2, 3, 4, 5)
    assert DropBlock(0.5).eval()(x) is x
    for shape in ((2, 3, 4, 5), (1, 1, 1, 1), (0, 3, 9, 9)):
        assert DropBlock(0.5).train()(torch.rand(shape)).shape == shape


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_a_rate_that_is_no_share_is_refused(rate: float) -> None:
    with pytest.raises(InputError, match=f"drop_rate is {rate}; give a share"):
        DropBlock(rate)


def _repeated(number: int, chance: float, times: int) -> Tensor:
    return torch.stack([bernoulli_draws(number, chance, CPU) for _ in range(times)])


@pytest.mark.parametrize("chance", [0.003, 0.1, 0.6])
def test_draws_are_equally_likely_at_each_place_and_as_many_as_independent_ones(
    chance: float,
) -> None:
    torch.manual_seed(0)
    number, times = 64, 4000
    draws = _repeated(number, chance, times).numpy()
    at_place = draws.sum(0)  # the first and the last among them
    spread = times * chance * (1 - chance)
    surprise = ((at_place - times * chance) ** 2 / spread).sum()
    assert 0.001 < stats.chi2.sf(surprise, number) < 0.999

    most = int(stats.binom.ppf(0.999, number, chance))
    counts = np.bincount(draws.sum(1).clip(0, most), minlength=most + 1)
    expected = stats.binom.pmf(np.arange(most + 1), number, chance)
    expected[-1] += stats.binom.sf(most, number, chance)
    often = expected * times >= 5
    rest = counts[~often].sum(), expected[~often].sum() * times
    difference = (counts - expected * times)[often] ** 2 / (expected * times)[often]
    surprise = difference.sum() + (rest[0] - rest[1]) ** 2 / max(rest[1], 1)
    assert stats.chi2.sf(surprise, often.sum()) > 0.001


def test_a_draw_does_not_depend_on_those_before_it() -> None:
    torch.manual_seed(0)
    draws = _repeated(1000, 0.2, 200).float()
    for distance in (1, 2, 7):
        both = (draws[:, :-distance] * draws[:, distance:]).mean().item()
        assert both == pytest.approx(0.04, abs=4 * math.sqrt(0.04 * 0.96 / 200_000))


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 8])
def test_squares_lie_below_and_right_of_their_corner(size: int) -> None:
    corners = torch.zeros(1, 1, 12, 13, dtype=torch.bool)
    corners[0, 0, 2, 3] = corners[0, 0, 11, 12] = True
    expected = torch.zeros(1, 1, 11 + size, 12 + size, dtype=torch.bool)
    expected[0, 0, 2 : 2 + size, 3 : 3 + size] = True
    expected[0, 0, 11:, 12:] = True
    assert torch.equal(covered_squares(corners, size), expected)
