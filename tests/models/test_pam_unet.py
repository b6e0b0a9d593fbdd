from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lightning_seg import models
from lightning_seg.errors import InputError
from lightning_seg.models import _pam
from lightning_seg.models._pam import LuongAttention
from lightning_seg.models._pam_released import ReleasedSkip
from lightning_seg.models.frame.blocks import AttentionMap
from lightning_seg.models.pam_unet import AttendedSkip, GatedSkip

SMALL = {"encoder": "mobilenetv2_035", "last_width": 32}
FORMS = [
    *({**SMALL, "attention": attention} for attention in ("none", "self", "cross", "additive")),
    *(
        {**SMALL, "nonlinearity": nonlinearity, "regularizer": 0.01}
        for nonlinearity in ("sigmoid", "double_sigmoid")
    ),
    {**SMALL, "regularizer": 0.01, "scale_free": True},
    {**SMALL, "encoder_only": True},
    {"variant": "repo"},
    {"variant": "repo", "regularizer": 0.01},
]


def image(batch: int = 1, height: int = 64, width: int = 64) -> Tensor:
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(1))


def conv1x1(conv: nn.Conv2d, x: np.ndarray) -> np.ndarray:
    """A 1x1 convolution of one image: (C, H, W) -> (H*W, channels)."""
    pixels = x.reshape(len(x), -1).T
    return pixels @ conv.weight.detach().numpy()[:, :, 0, 0].T + conv.bias.detach().numpy()


def softmax(scores: np.ndarray) -> np.ndarray:
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


NONLINEARITIES = {
    "softmax": softmax,
    "sigmoid": lambda s: sigmoid(s) / s.shape[-1],
    "double_sigmoid": lambda s: sigmoid(sigmoid(s)),
}


@pytest.mark.parametrize("gradient", [True, False])
@pytest.mark.parametrize("entries", [2**22, 100, 1], ids=lambda n: f"{n} entries at once")
@pytest.mark.parametrize("regularized", [False, True])
@pytest.mark.parametrize("nonlinearity", NONLINEARITIES)
def test_attention_and_its_variance_are_the_paper_s_equations(
    nonlinearity: str,
    regularized: bool,
    entries: int,
    gradient: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_pam, "ENTRIES", entries)
    torch.manual_seed(0)
    module = LuongAttention(6, 4, 5, nonlinearity, regularized)
    queries, keys = 3 * torch.randn(2, 6, 3, 4), 3 * torch.randn(2, 4, 3, 4)
    with torch.set_grad_enabled(gradient):
        out, variance = module(queries, keys)
    out, variance = out.detach(), None if variance is None else variance.detach()
    variances = []
    for q_map, k_map, result in zip(queries.numpy(), keys.numpy(), out.numpy(), strict=True):
        q, k, v = (
            conv1x1(module.query, q_map),
            conv1x1(module.key, k_map),
            conv1x1(module.value, k_map),
        )
        weights = NONLINEARITIES[nonlinearity](q @ k.T / np.sqrt(5))
        np.testing.assert_allclose(result, (weights @ v).T.reshape(5, 3, 4), rtol=1e-4, atol=1e-5)
        variances.append(np.mean((weights - weights.mean()) ** 2))
    if regularized:
        np.testing.assert_allclose(variance, np.mean(variances), rtol=1e-4)
    else:
        assert variance is None


@pytest.mark.parametrize(
    ("attention", "query_is_skip", "keys_are_skip"),
    [("self", True, True), ("cross", False, True), ("pla", True, False)],
)
def test_who_asks_and_who_answers(attention: str, query_is_skip: bool, keys_are_skip: bool) -> None:
    torch.manual_seed(0)
    module = AttendedSkip(4, attention, LuongAttention)
    skip, up = torch.randn(2, 4, 3, 3), torch.randn(2, 4, 3, 3)
    expected, _ = module.attention(skip if query_is_skip else up, skip if keys_are_skip else up)
    torch.testing.assert_close(module(skip, up)[0], skip + expected)


def test_the_additive_gate_is_its_equation() -> None:
    torch.manual_seed(0)
    module = GatedSkip(4).eval()
    skip, up = torch.randn(1, 4, 3, 3), torch.randn(1, 4, 3, 3)
    gate, norm = module.gate, np.sqrt(1 + 1e-5)  # of batch norm as it starts
    inner = (
        conv1x1(gate.gate[0], up[0].numpy()) / norm + conv1x1(gate.skip[0], skip[0].numpy()) / norm
    )
    psi = (
        np.maximum(inner, 0) @ gate.psi[0].weight.detach().numpy()[0, :, 0, 0]
        + gate.psi[0].bias.item()
    )
    expected = skip[0].numpy() * sigmoid(psi / norm).reshape(3, 3)
    np.testing.assert_allclose(
        module(skip, up)[0][0].detach().numpy(), expected, rtol=1e-4, atol=1e-6
    )


def test_the_released_skip_lets_no_encoder_through_at_first() -> None:
    module = ReleasedSkip(3, 4, LuongAttention)
    skip, up = torch.randn(2, 3, 5, 5), torch.randn(2, 4, 5, 5)
    assert torch.equal(module(skip, up)[0], up)
    nn.init.ones_(module.gamma)
    torch.testing.assert_close(module(skip, up)[0], up + module.attention(up, skip)[0])


def test_a_hook_gets_maps_that_are_not_formed_otherwise_and_the_logits_stay() -> None:
    net = models.create("pam_unet", **SMALL).eval()
    maps = [m for m in net.modules() if isinstance(m, AttentionMap)]
    calls = []
    with torch.no_grad():
        expected = net(image())
        hooks = [
            m.register_forward_hook(lambda module, inputs, output: calls.append(output))
            for m in maps
        ]
        torch.testing.assert_close(net(image()), expected, rtol=1e-4, atol=1e-5)
        for hook in hooks:
            hook.remove()
        net(image())
    assert [tuple(c.shape) for c in calls] == [(1, n, n) for n in (4**2, 8**2, 16**2, 32**2)]
    for weights in calls:
        torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:2]))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("regularized", [False, True])
def test_no_map_is_held_for_the_backward_pass(
    layout: torch.memory_format, regularized: bool
) -> None:
    skip = torch.randn(1, 8, 24, 24).to(memory_format=layout)
    held: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: held.append(t.numel()) or t, lambda t: t
    ):
        LuongAttention(8, 8, 8, regularized=regularized)(skip, skip)
    assert max(held) < 24**4


@pytest.mark.parametrize("nonlinearity", ["softmax", "sigmoid"])
def test_maps_formed_again_give_the_gradients_of_maps_that_were_held(
    nonlinearity, monkeypatch
) -> None:
    torch.manual_seed(0)
    attend, skip = (
        LuongAttention(8, 8, 8, nonlinearity, regularized=True, scale_free=True),
        torch.randn(2, 8, 12, 12),
    )
    gradients = []
    for held in (True, False):
        attend.zero_grad()
        with monkeypatch.context() as patch:
            patch.setattr("lightning_seg.models._pam.ENTRIES", 1000)
            handle = (
                attend.map.register_forward_hook(lambda module, inputs, output: None)
                if held
                else None
            )
            out, variance = attend(skip, skip)
            (out.square().mean() + variance).backward()
            if handle:
                handle.remove()
        gradients.append([p.grad.clone() for p in attend.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-7)


def test_the_penalty_is_lambda_times_the_mean_variance_of_all_levels() -> None:
    net = models.create("pam_unet", **SMALL, regularizer=0.5).eval()
    calls = []
    for m in net.modules():
        if isinstance(m, AttentionMap):
            m.register_forward_hook(lambda module, inputs, output: calls.append(output))
    with torch.no_grad():
        output = net(image(2))
    expected = 0.5 * np.mean([m.numpy().astype(float).var((1, 2)).mean() for m in calls])
    np.testing.assert_allclose(output.penalty, expected, rtol=1e-3)


def test_the_scale_free_penalty_is_the_variance_of_a_times_pixels_and_does_not_shrink_with_them() -> (
    None
):
    torch.manual_seed(0)
    bare, free = (
        LuongAttention(4, 4, 4, regularized=True, scale_free=flag) for flag in (False, True)
    )
    free.load_state_dict(bare.state_dict())
    maps = [torch.randn(4, 4, side, side) for side in (16, 32)]
    small, large = (free(m, m)[1] for m in maps)
    torch.testing.assert_close(small, large, rtol=0.2, atol=0)
    torch.testing.assert_close(large, bare(maps[1], maps[1])[1] * 1024**2)


@pytest.mark.parametrize("gradients", [False, True])
def test_no_map_is_formed_whole(gradients: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_pam, "ENTRIES", 24**3)
    module, x, largest = (
        LuongAttention(8, 8, 8, "sigmoid", regularized=True),
        torch.randn(2, 8, 24, 24),
        [0],
    )

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(
            self, function: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            out = function(*args, **(kwargs or {}))
            largest.extend(t.numel() for t in tree_leaves(out) if isinstance(t, Tensor))
            return out

    with torch.set_grad_enabled(gradients), Watch():
        out, variance = module(x, x)
        if gradients:
            (out.sum() + variance).backward()
    assert 24**2 < max(largest) <= 24**3


@pytest.mark.parametrize("form", FORMS, ids=lambda form: "-".join(str(v) for v in form.values()))
def test_every_form_trains_on_any_size_also_in_bfloat16(form: dict[str, Any]) -> None:
    torch.manual_seed(0)
    net = models.create("pam_unet", **form).train()
    with torch.autocast("cpu", torch.bfloat16):
        output = net(image(2, 33, 25))
    output = output if isinstance(output, models.Output) else models.Output(output)
    assert output.logits.shape == (2, 1, 33, 25)
    assert (output.penalty is not None) == (form.get("regularizer", 0) > 0)
    (output.logits.float().square().mean() + (output.penalty or 0)).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


# Table I and II of the paper: 0.72 without and 1.32 with attention; 0.836 is its Mobile-UNet, 0.85
@pytest.mark.parametrize(
    ("options", "size", "parameters", "expected"),
    [
        ({}, 128, 33_393_457, 1.3107),
        ({"regularizer": 0.01}, 128, 33_393_457, 1.3107),
        ({"attention": "none"}, 128, 33_359_737, 0.7111),
        ({"attention": "self"}, 128, 33_393_457, 1.3107),
        ({"attention": "cross"}, 128, 33_393_457, 1.3107),
        ({"attention": "additive"}, 128, 33_371_409, 0.7136),
        ({"encoder_only": True}, 128, 6_628_945, 0.8363),
        ({"variant": "repo", "num_classes": 2}, 128, 5_753_446, 22.923),
        ({"variant": "repo", "num_classes": 2}, 64, 5_753_446, 2.0503),
    ],
)
def test_parameters_and_multiply_adds(
    gmacs: Callable[[nn.Module, int], float],
    options: dict[str, Any],
    size: int,
    parameters: int,
    expected: float,
) -> None:
    with torch.device("meta"):
        net = models.create("pam_unet", **options)
    assert sum(p.numel() for p in net.parameters()) == parameters
    assert gmacs(net, size) == pytest.approx(expected, rel=0.001)


@pytest.mark.parametrize(
    "options",
    [
        {"regularizer": -1.0},
        {"regularizer": 0.01, "attention": "none"},
        {"regularizer": 0.01, "attention": "additive"},
        {"regularizer": 0.01, "encoder_only": True},
        {"variant": "repo", "encoder": "mobilenetv2_050"},
        {"variant": "repo", "encoder_only": True},
        {"variant": "repo", "attention": "pla"},
        {"variant": "repo", "last_width": 1280},
        {"variant": "repo", "encoder_options": {"drop_path_rate": 0.1}},
        {"encoder_only": True, "attention": "pla"},
        {"encoder_only": True, "nonlinearity": "sigmoid"},
        {"attention": "none", "nonlinearity": "sigmoid"},
        {"attention": "additive", "nonlinearity": "softmax"},
        {"scale_free": True},
        {"attention": "luong"},
        {"nonlinearity": "tanh"},
    ],
)
def test_options_that_contradict_each_other_are_an_input_error(options: dict[str, Any]) -> None:
    with torch.device("meta"), pytest.raises(InputError):
        models.create("pam_unet", **options)
