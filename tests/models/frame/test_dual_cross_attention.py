"""Dual Cross-Attention as a skip value: its equations in plain numpy, its options, and every host that takes it."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import softmax
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lightning_seg import models
from lightning_seg.errors import InputError
from lightning_seg.models.frame.dual_cross_attention import (
    ChannelCrossAttention,
    CrossScale,
    DualCrossAttention,
    SpatialCrossAttention,
)
from lightning_seg.models.frame.skip import make_skip

WIDTHS, SIDES = (4, 8, 12), (16, 8, 4)
HOSTS: dict[str, dict[str, Any]] = {
    name: {}
    for name in (
        "unet",
        "attention_unet",
        "resunet",
        "unetplusplus",
        "unet3plus",
        "transunet",
        "dca_unet",
        "r2unet",
    )
} | {"vnet": {}, "multires_unet": {}, "double_unet": {}, "resunet_plus_plus": {}}
FORMS = [*HOSTS.items(), ("resunet_plus_plus", {"form": "dca"})]
SKIP = {"name": "dca", "patch_size": 8, "heads": 2}


def pyramid(batch: int = 2, bottom: int = 16) -> list[Tensor]:
    torch.manual_seed(0)
    return [
        *(torch.randn(batch, c, s, s) for c, s in zip(WIDTHS, SIDES, strict=True)),
        torch.randn(batch, bottom, 2, 2),
    ]


def dca(**options: Any) -> DualCrossAttention:
    torch.manual_seed(0)
    return DualCrossAttention((*WIDTHS, 16), (1, 2, 4, 8), **options).eval()


def tokens() -> list[Tensor]:
    torch.manual_seed(0)
    return [torch.randn(2, 6, c) for c in WIDTHS]


def normed(x: NDArray) -> NDArray:
    """LayerNorm over channels as it starts: weight 1, bias 0."""
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)


def scaled(layer: nn.Module, x: NDArray) -> NDArray:
    return x * layer.weight.detach().numpy() + layer.bias.detach().numpy()


@torch.no_grad()
@pytest.mark.parametrize("heads", [1, 2])
def test_channel_attention_lets_each_channel_of_a_scale_look_at_the_channels_of_all(
    heads: int,
) -> None:
    layer, inputs = CrossScale(ChannelCrossAttention, WIDTHS, heads), tokens()
    outputs = layer(inputs)
    for image in range(2):
        own = [normed(x[image].numpy()) for x in inputs]  # (N, C_i)
        everything = np.concatenate(own, 1)
        for t, x, y, a in zip(own, inputs, outputs, layer.attentions, strict=True):
            maps = scaled(a.query, t), scaled(a.key, everything), scaled(a.value, everything)
            q, k, v = (np.split(m, heads, 1) for m in maps)
            weights = [
                softmax(qh.T @ kh / np.sqrt(24), axis=1) for qh, kh in zip(q, k, strict=True)
            ]  # (C_i, 24) / heads
            seen = [w @ vh.T for w, vh in zip(weights, v, strict=True)]  # (C_i / heads, N)
            together = np.concatenate(seen).T  # the channels of one head after those of the other
            np.testing.assert_allclose(
                y[image], x[image].numpy() + scaled(a.out, together), atol=1e-5
            )


@torch.no_grad()
@pytest.mark.parametrize("heads", [1, 4])
def test_spatial_attention_lets_each_cell_look_at_all_cells_by_the_channels_of_all_scales(
    heads: int,
) -> None:
    layer, inputs = CrossScale(SpatialCrossAttention, WIDTHS, heads), tokens()
    outputs = layer(inputs)
    for image in range(2):
        own = [normed(x[image].numpy()) for x in inputs]
        everything = np.concatenate(own, 1)
        for t, x, y, a in zip(own, inputs, outputs, layer.attentions, strict=True):
            q, k, v = (
                np.split(m, heads, 1)
                for m in (
                    scaled(a.query, everything),
                    scaled(a.key, everything),
                    scaled(a.value, t),
                )
            )
            seen = [
                softmax(qh @ kh.T / np.sqrt(24 / heads), axis=1) @ vh
                for qh, kh, vh in zip(q, k, v, strict=True)
            ]
            np.testing.assert_allclose(
                y[image], x[image].numpy() + scaled(a.out, np.concatenate(seen, 1)), atol=1e-5
            )


@torch.no_grad()
def test_what_attention_leaves_is_upsampled_with_aligned_corners_projected_and_added_before_norm_and_relu() -> (
    None
):
    module, maps = dca(), pyramid(batch=1)
    for block in module.blocks:
        for attention in block.attentions:
            attention.out.weight.zero_()
            attention.out.bias.zero_()
    outputs = module(maps)
    side = SIDES[0]
    pooled = maps[0][0].numpy().reshape(4, 4, 4, 4, 4).mean((2, 4))  # 4 x 4 cells of 4 x 4 pixels
    cells = scaled(module.embed[0], pooled.transpose(1, 2, 0))
    at = np.linspace(0, 3, side)
    rows = np.stack(
        [np.interp(at, range(4), np.eye(4)[i]) for i in range(4)], 1
    )  # (16, 4): the weights of the four cells
    upsampled = np.einsum("yi,xj,ijc->cyx", rows, rows, cells)
    weight = module.project[0].weight[..., 0, 0].numpy()
    total = (
        maps[0][0].numpy()
        + np.einsum("oc,cyx->oyx", weight, upsampled)
        + module.project[0].bias.numpy()[:, None, None]
    )
    np.testing.assert_allclose(outputs[0][0], np.maximum(total / np.sqrt(1 + 1e-5), 0), atol=1e-5)
    assert outputs[-1] is maps[-1], "the bottleneck passes as it is"


@torch.no_grad()
def test_a_hook_gets_attention_maps_that_sum_to_one_and_changes_no_output() -> None:
    module, maps = dca(heads=2), pyramid(batch=1)
    before, seen = module(maps), {}
    for name, child in module.named_modules():
        if isinstance(child, models.frame.dual_cross_attention.AttentionMap):
            child.register_forward_hook(lambda _, __, out, name=name: seen.update({name: out}))
    after = module(maps)
    assert [tuple(m.shape) for m in seen.values()] == [(1, 1, c, 24) for c in WIDTHS] + [
        (1, 2, 16, 16)
    ] * 3
    for weights in seen.values():
        torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))
    for a, b in zip(before, after, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("gradient", [False, True])
def test_no_map_over_cells_is_formed_on_the_cpu(gradient: bool) -> None:
    attention, largest = SpatialCrossAttention(8, 240, heads=1), 0

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(
            self, function: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            nonlocal largest
            out = function(*args, **(kwargs or {}))
            largest = max(
                [largest, *(t.numel() for t in tree_leaves(out) if isinstance(t, Tensor))]
            )
            return out

    own, everything = torch.randn(1, 20**2, 8), torch.randn(1, 20**2, 240)
    with torch.set_grad_enabled(gradient), Watch():
        out = attention(own, everything)
        if gradient:
            out.sum().backward()
    assert largest < 20**4


@torch.no_grad()
def test_cca_and_sca_are_the_two_halves_of_dca() -> None:
    both, channel, spatial = dca(), dca(sca=False), dca(cca=False)
    kinds = [type(a) for block in both.blocks for a in block.attentions]
    assert kinds == [ChannelCrossAttention] * 3 + [SpatialCrossAttention] * 3
    sizes = [
        sum(p.numel() for p in m.parameters())
        for m in (both.blocks, channel.blocks, spatial.blocks)
    ]
    assert sizes[0] == sizes[1] + sizes[2]
    inputs = tokens()
    channel.blocks.load_state_dict(
        {k: v for k, v in both.blocks.state_dict().items() if k.startswith("0.")}
    )
    spatial.blocks[0].load_state_dict(both.blocks[1].state_dict())
    for a, b in zip(both.blocks(inputs), spatial.blocks(channel.blocks(inputs)), strict=True):
        torch.testing.assert_close(a, b)


def test_the_paper_figure_adds_a_norm_and_two_parameters_per_channel() -> None:
    plain, figure = dca(), dca(post_norm="ln_gelu")
    assert sum(p.numel() for p in figure.parameters()) - sum(
        p.numel() for p in plain.parameters()
    ) == 2 * sum(WIDTHS)
    assert not torch.allclose(plain(pyramid())[0], figure(pyramid())[0])


@pytest.mark.parametrize(
    ("strides", "patch_size", "side", "cells"),
    [
        ((1, 2, 4, 8), None, 224, 56),
        ((1, 2, 4, 8, 16), None, 224, 28),
        ((1, 2, 4, 8, 16), None, 96, 12),
        ((4, 8, 16, 32), 8, 224, 28),
    ],
)
def test_the_pool_grid_follows_the_size_of_the_image(
    strides: tuple[int, ...], patch_size: int | None, side: int, cells: int
) -> None:
    module = DualCrossAttention([4] * len(strides), strides, patch_size, sca=False).eval()
    seen: list[torch.Size] = []
    module.embed[0].register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].shape))
    with torch.no_grad():
        outputs = module([torch.randn(1, 4, side // s, side // s) for s in strides])
    assert seen == [(1, cells**2, 4)]
    assert [x.shape[-1] for x in outputs] == [side // s for s in strides]


@pytest.mark.parametrize(
    ("skip", "sentence"),
    [
        ("dcaa", "did you mean 'dca'"),
        ({"heads": 2}, "no skip named 'None'"),
        ({"name": "dca", "patchsize": 8}, "did you mean 'patch_size'"),
        ({"name": "dca", "patch_size": "large"}, "patch_size"),
        ({"name": "dca", "post_norm": "gelu"}, "post_norm"),
        ({"name": "dca", "patch_size": 0}, "patch_size of skip 'dca' is 0"),
        ({"name": "dca", "heads": 3}, "heads of skip 'dca' is 3, which does not divide"),
        ({"name": "dca", "cca": False, "sca": False}, "neither cca nor sca"),
    ],
)
def test_a_wrong_skip_is_a_sentence(skip: str | dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        make_skip(skip, (8, 16, 32))
    with pytest.raises(InputError, match=sentence):
        models.create("unet", widths=(8, 16, 32), skip=skip)


def test_dca_without_skips_is_a_sentence() -> None:
    with pytest.raises(InputError, match="two levels or more"):
        models.create("unet", widths=(8,), skip="dca")


def host(name: str, options: dict[str, Any], **arguments: Any) -> nn.Module:
    torch.manual_seed(0)
    return models.create(name, **{**models.find(name).tiny, **options, "skip": SKIP, **arguments})


each_host = pytest.mark.parametrize(
    ("name", "options"), FORMS, ids=[f"{n}{o or ''}" for n, o in FORMS]
)


@each_host
def test_every_host_takes_dca_and_trains_all_of_it(name: str, options: dict[str, Any]) -> None:
    net = host(name, options).train()
    (net(torch.rand(2, 3, 33, 47)) - 0.3).pow(2).mean().backward()
    without = {name for name, p in net.named_parameters() if p.grad is None}
    assert without == {
        n for n, _ in net.named_parameters() if n.startswith(getattr(net, "unused", ()) or ("\0",))
    }
    assert not any(n.startswith(("skip.embed", "skip.blocks")) for n in without)


@each_host
def test_every_host_with_dca_exports_and_stays_finite_in_bfloat16(
    name: str, options: dict[str, Any]
) -> None:
    net, image = host(name, options, num_classes=3).eval(), torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        expected = net(image)
        torch.testing.assert_close(
            torch.export.export(net, (image,)).module()(image), expected, rtol=1e-4, atol=1e-5
        )
        with torch.autocast("cpu", torch.bfloat16):
            assert net(image).isfinite().all()
    assert expected.shape == (1, 3, 64, 64)


@pytest.mark.parametrize("encoder", ["test_efficientnet", "test_convnext"])
def test_dca_takes_the_maps_of_a_timm_encoder_as_they_are(encoder: str) -> None:
    net = models.create("unet", encoder=encoder, skip={"name": "dca", "heads": 2}).eval()
    image = torch.rand(1, 3, 65, 50)
    seen: list[list[Tensor]] = []
    net.skip.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    assert net(image).shape == (1, 1, 65, 50)
    padded = models.frame.skeleton.pad_to_multiple(image, 32)
    for a, b in zip(seen[0], net.encoder(padded), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("name", ["dca_unet", "r2unet"])
def test_hosts_of_the_paper_hand_dca_the_sums_before_their_norm(name: str) -> None:
    net = host(name, {}).eval()
    plain = host(name, {}, skip=None).eval()
    plain.encoder.load_state_dict(net.encoder.state_dict())
    image = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        raw, finished = net.encoder(image), plain.encoder(image)
        for level, r, f in zip(net.encoder.levels, raw[:-1], finished[:-1], strict=False):
            assert r.min() < 0 <= f.min()
            torch.testing.assert_close(level.finish(r), f)
        torch.testing.assert_close(raw[-1], finished[-1])


def test_in_transunet_dca_composes_with_the_transformer(gmacs: Callable[..., float]) -> None:
    net = host("transunet", {})
    kinds = [type(part).__name__ for part in net.skip]
    assert kinds == ["DualCrossAttention", "TransformerBottleneck"]
    assert gmacs(net, 64) > gmacs(host("transunet", {}, skip=None), 64)
