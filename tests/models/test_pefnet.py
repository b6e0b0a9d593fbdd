from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate
from torch import Tensor, nn

from lightning_seg import models
from lightning_seg.errors import InputError
from lightning_seg.models.frame.skeleton import UNetDecoder
from lightning_seg.models.pefnet import (
    AddStage,
    ConcatStage,
    LearnedPositions,
    MultiKernel,
    SinePositions,
    _positions,
)


@pytest.mark.parametrize(
    ("options", "parameters", "statistics", "cost"),
    [
        ({}, 52_476_913, 10_176, 22.1668),
        ({"encoder": "convnext_small.fb_in22k_ft_in1k"}, 74_111_473, 10_176, 27.6893),
        ({"encoder": "convnext_base.fb_in22k_ft_in1k"}, 129_336_641, 13_568, 49.1162),
        ({"mpe": False}, 37_658_545, 4_416, 11.3707),
        ({"encoder": "tf_efficientnetv2_b0", "coarsest_width": 1280}, 10_467_881, 63_584, 2.34),
    ],
    ids=["tiny", "small", "base", "tiny without mpe", "efficientnetv2_b0"],
)
def test_parameters_and_multiply_adds_at_256_are_those_of_the_official_graph(
    options: dict[str, Any],
    parameters: int,
    statistics: int,
    cost: float,
    gmacs: Callable[..., float],
) -> None:
    with torch.device("meta"):
        net = models.create("pefnet", **options)
    assert (
        sum(p.numel() for p in net.parameters()) == parameters - statistics
    )  # Keras counts running statistics
    assert gmacs(net, 256) == pytest.approx(cost, rel=0.01)


def _in_keras_order(decoder: UNetDecoder, head: nn.Conv2d) -> Iterator[nn.Module | nn.Parameter]:
    for stage in decoder.stages:
        yield from (stage.up[0], stage.up[1][0])
        for block in (stage.merge, stage.mix):
            if block is not None:
                convs, norms = zip(*((conv, norm[0]) for conv, norm in block.branches), strict=True)
                yield from (convs[0], convs[1], norms[0], norms[1], convs[2], norms[2])
        yield stage.positions.map
    yield head


def test_the_official_decoder_is_reproduced(
    parity: Callable[[str], dict[str, Tensor]], load_keras: Callable[..., None]
) -> None:
    tensors = parity("PEFNet_decoder_toy")
    stage = partial(AddStage, mix=MultiKernel, positions=_positions("learned", [8, 16, 32], 0))
    decoder, head = UNetDecoder((4, 8, 12), stage, tail=[2]).eval(), nn.Conv2d(2, 1, 1)
    load_keras(_in_keras_order(decoder, head), tensors)
    with torch.no_grad():
        output = head(decoder([tensors["input2"], tensors["input1"], tensors["input0"]])).sigmoid()
    torch.testing.assert_close(output, tensors["output0"], rtol=0, atol=1e-4)


def _swish_norm(x: np.ndarray) -> np.ndarray:
    x = x / np.sqrt(1 + 1e-3)  # statistics of a new norm: mean 0, variance 1
    return x / (1 + np.exp(-x))


@pytest.mark.parametrize("kernel_norm", ["branch", "sum"])
def test_the_multi_kernel_block_sums_three_convolutions(kernel_norm: Any) -> None:
    torch.manual_seed(0)
    block, x = (
        MultiKernel(2, kernel_norm).double().eval(),
        torch.randn(1, 2, 7, 8, dtype=torch.float64),
    )

    def convolve(conv: nn.Conv2d) -> np.ndarray:
        kernels, bias = (p.detach().numpy() for p in conv.parameters())
        maps = [
            sum(correlate(m, k, mode="constant") for m, k in zip(x[0].numpy(), w, strict=True))
            for w in kernels
        ]
        return np.array(maps) + bias[:, None, None]

    maps = np.array([convolve(branch[0]) for branch in block.branches])
    expected = (
        _swish_norm(maps).sum(0) if kernel_norm == "branch" else maps.sum(0) / np.sqrt(1 + 1e-3)
    )
    np.testing.assert_allclose(block(x)[0].detach(), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("pairs", [True, False])
def test_sine_positions_follow_their_formula(pairs: bool) -> None:
    added = SinePositions(6, 1000, pairs)(torch.zeros(1, 6, 2, 3))[0]
    for c in range(6):
        for p in range(6):
            angle = p / 1000 ** ((c - c % 2 if pairs else 2 * c) / 6)
            expected = np.cos(angle) if pairs and c % 2 else np.sin(angle)
            assert added[c, p // 3, p % 3] == pytest.approx(expected, abs=1e-5)


def test_the_tap_of_the_code_is_block_9_and_changes_that_skip_alone() -> None:
    options = {
        "encoder": "test_convnext",
        "image_size": 64,
        "encoder_options": {"depths": [1, 1, 12, 1]},
    }
    last, repo = (
        models.create("pefnet", tap=tap, **options).eval().encoder for tap in ("last", "repo")
    )
    repo.load_state_dict(last.state_dict())
    image, seen = torch.rand(1, 3, 64, 64), []
    last.body.stages_2.blocks[8].register_forward_hook(lambda _, __, out: seen.append(out))
    with torch.no_grad():
        expected, pyramid = last(image), repo(image)
    assert [torch.equal(a, b) for a, b in zip(pyramid, expected, strict=True)] == [
        True,
        True,
        False,
        True,
    ]
    assert torch.equal(pyramid[2], seen[0])


@pytest.mark.parametrize("encoder", ["test_convnext", "test_efficientnet"])
def test_the_tap_of_the_code_needs_a_convnext_with_nine_blocks(encoder: str) -> None:
    with pytest.raises(
        InputError,
        match=f"block 9 of the third stage of a ConvNeXt and encoder '{encoder}' has none",
    ):
        models.create("pefnet", encoder=encoder, tap="repo")


@pytest.mark.parametrize(
    "options",
    [
        {"mpe": False, "positions": "sincos"},
        {"mpe": False, "kernel_norm": "sum"},
        {"mpe": False, "position_base": 1000.0},
        {"position_base": 1000.0},
    ],
)
def test_options_without_effect_are_an_input_error(options: dict[str, Any]) -> None:
    with torch.device("meta"), pytest.raises(InputError, match="has no use for"):
        models.create("pefnet", **options)


def test_learned_positions_are_added_as_they_are_at_their_size_and_interpolated_at_others() -> None:
    positions = LearnedPositions(3, 4)
    assert torch.equal(positions(torch.zeros(1, 3, 4, 4)), positions.map)
    assert positions(torch.zeros(1, 3, 8, 6)).shape == (1, 3, 8, 6)


def test_as_the_text_says_the_skip_is_mixed_and_placed_before_it_joins() -> None:
    """One step against its equation, in numpy but for the layers' own arithmetic."""
    torch.manual_seed(0)
    mixed, placed = MultiKernel(4).eval(), LearnedPositions(4, 6)
    stage = ConcatStage(5, 4, 3, lambda _: mixed, lambda _: placed).eval()
    below, skip = torch.randn(2, 5, 3, 3), torch.randn(2, 4, 6, 6)
    beside = mixed(skip) + placed.map
    expected = stage.join(torch.cat([stage.up(below), beside], 1))
    assert torch.equal(stage(below, skip), expected)
    assert stage(below, skip).shape == (2, 3, 6, 6)


def test_where_the_embedding_stands_has_no_meaning_without_one() -> None:
    with pytest.raises(InputError, match="no use for mpe_place='skip'"):
        models.create("pefnet", mpe=False, mpe_place="skip")
