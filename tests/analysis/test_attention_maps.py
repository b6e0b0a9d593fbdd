"""Attention maps on request: right maps, in the right place, and a network that is left as it was."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from lightning_seg import models
from lightning_seg.analysis.attention_maps import attention_maps, received
from lightning_seg.errors import InputError
from lightning_seg.models.frame.blocks import AttentionMap
from lightning_seg.models.frame.skeleton import pad_to_multiple

DCA = {"skip": {"name": "dca", "patch_size": 8, "heads": 1}}
# network, options, number of its maps over pixels and over pairs
NETWORKS: list[tuple[str, dict[str, Any], int, int]] = [
    ("attention_unet", {}, 2, 0),
    ("attention_unet", {"gate": "oktay_grid"}, 1, 0),
    ("sa_unet", {}, 1, 0),
    ("sa_unet_v2", {}, 2, 0),
    ("pam_unet", {"attention": "pla"}, 0, 4),
    ("pam_unet", {"attention": "additive"}, 4, 0),
    ("unet", DCA, 0, 4),
    ("dca_unet", DCA, 0, 4),
]
each_network = pytest.mark.parametrize(("name", "options", "pixels", "pairs"), NETWORKS)


def build(name: str, options: dict[str, Any]) -> nn.Module:
    torch.manual_seed(0)
    return models.create(name, **{**models.find(name).tiny, **options}).eval()


def image(height: int = 64, width: int = 64) -> Tensor:
    return torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(1))


def hooks(net: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in net.modules())


@torch.no_grad()
def run(net: nn.Module, x: Tensor) -> tuple[Tensor, int]:
    with FlopCounterMode(display=False) as counter:
        output = net(x)
    return output, counter.get_total_flops()


@each_network
def test_every_map_comes_out_and_those_over_pixels_fit_the_image(
    name: str, options: dict[str, Any], pixels: int, pairs: int
) -> None:
    maps = attention_maps(build(name, options), image())
    over_pixels = [
        m for m in maps.values() if m.shape == (2, 1, 64, 64) and not _rows_sum_to_one(m)
    ]
    assert len(over_pixels) == pixels
    assert all(m.min() >= 0 and m.max() <= 1 for m in over_pixels)
    assert sum(_rows_sum_to_one(m) for m in maps.values()) == pairs
    assert len(maps) == pixels + pairs


def _rows_sum_to_one(m: Tensor) -> bool:
    return torch.allclose(m.sum(-1), torch.ones(()), atol=1e-4)


@each_network
def test_a_request_leaves_the_network_with_the_same_output_cost_and_no_hook(
    name: str, options: dict[str, Any], pixels: int, pairs: int
) -> None:
    net, x = build(name, options), image()
    before = run(net, x)
    attention_maps(net, x)
    after = run(net, x)
    assert torch.equal(before[0], after[0])
    assert before[1] == after[1]
    assert hooks(net) == 0


@pytest.mark.parametrize(("name", "options"), [("pam_unet", {}), ("unet", DCA)])
def test_the_output_is_the_same_while_the_maps_are_handed_out(
    name: str, options: dict[str, Any]
) -> None:
    net, x, outputs = build(name, options), image(), []
    silent = run(net, x)[0]
    handle = net.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    attention_maps(net, x)
    handle.remove()
    torch.testing.assert_close(outputs[0], silent, rtol=1e-4, atol=1e-4)


class Gated(nn.Module):
    """A network whose map is known: the mean over the channels of each 2 x 2 block of the padded image."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.AvgPool2d(2)
        self.map = AttentionMap()

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(pad_to_multiple(x, 4))
        return x * self.map(x.mean(1, keepdim=True))


def test_an_overlay_of_an_odd_image_lies_where_the_padded_network_looked() -> None:
    x = torch.zeros(1, 3, 13, 18)
    x[..., 8:10, 4:6] = 1.0
    overlay = attention_maps(Gated().eval(), x)["map"]
    assert overlay.shape == (1, 1, 13, 18)
    rows, columns = (overlay[0, 0] == overlay.max()).nonzero(as_tuple=True)
    assert {*rows.tolist()} == {8, 9}
    assert {*columns.tolist()} == {4, 5}


def test_a_map_over_pairs_stays_as_it_is_even_where_it_has_the_size_of_the_image() -> None:
    net = build("unet", DCA)  # 8 x 8 cells of an image of 64 x 64: their pairs are 64 x 64 too
    maps = {
        name: m for name, m in attention_maps(net, image()).items() if m.shape == (2, 1, 64, 64)
    }
    assert len(maps) == 2  # the spatial attention of both skips
    assert all(_rows_sum_to_one(m) for m in maps.values())


@pytest.mark.parametrize("axes", [1, 4])
def test_attention_received_lights_up_the_pixel_that_all_look_at(axes: int) -> None:
    pairs = torch.zeros(2, axes, 4 * 6, 4 * 6)
    pairs[..., 2 * 6 + 5] = 1.0  # row 2, column 5 of a grid of 4 x 6
    pairs = pairs if axes > 1 else pairs[:, 0]
    overlay = received(pairs, (32, 48), (32, 48))
    assert overlay.shape == (2, 1, 32, 48)
    assert overlay[0, 0].argmax().item() in {
        r * 48 + c for r in range(16, 24) for c in range(40, 48)
    }
    torch.testing.assert_close(overlay[0, 0, 20, 44], torch.tensor(1.0), atol=0.2, rtol=0)


class Pairs(nn.Module):
    """A network in which all cells of 4 x 4 pixels of the padded image look at the brightest one."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.AvgPool2d(4)
        self.map = AttentionMap("pixel_pairs")
        self.channels = AttentionMap("channel_pairs")

    def forward(self, x: Tensor) -> Tensor:
        cells = self.pool(pad_to_multiple(x, 8))[:, 0].flatten(1)
        self.channels(torch.ones(1, 4, 4))
        return self.map((1e4 * cells).softmax(-1)[:, None].expand(-1, cells.shape[1], -1))


@pytest.mark.parametrize(("height", "width"), [(13, 41), (33, 70), (16, 48)])
def test_an_overlay_of_pairs_lies_where_the_padded_network_looked(height: int, width: int) -> None:
    x = torch.zeros(1, 3, height, width)
    x[..., 8:12, 32:36] = 1.0
    maps = attention_maps(Pairs().eval(), x, overlay=True)
    assert list(maps) == ["map"], "pairs of channels lie nowhere in the image"
    assert maps["map"].shape == (1, 1, height, width)
    row, column = divmod(int(maps["map"].argmax()), width)
    assert (8 <= row < 12, 32 <= column < 36) == (True, True)
    padded = (height + -height % 8, width + -width % 8)
    pairs = attention_maps(Pairs().eval(), x)["map"]
    assert torch.equal(received(pairs, (height, width), padded), maps["map"])


@pytest.mark.parametrize("name", ["pam_unet", "dca_unet"])
def test_overlays_of_a_network_fit_an_odd_image(name: str) -> None:
    maps = attention_maps(build(name, {}), image(65, 100), overlay=True)
    assert maps
    assert all(m.shape == (2, 1, 65, 100) for m in maps.values())


def test_a_map_that_fits_no_grid_is_refused() -> None:
    with pytest.raises(InputError, match="not one over pairs"):
        received(torch.zeros(1, 8, 12), (32, 32), (32, 32))
    with pytest.raises(InputError, match="not one over pairs"):
        received(torch.zeros(1, 7, 7), (30, 32), (32, 32))


def test_a_network_without_attention_or_in_training_is_refused() -> None:
    with pytest.raises(InputError, match="no attention maps"):
        attention_maps(build("unet", {}), image())
    with pytest.raises(InputError, match="eval"):
        attention_maps(build("attention_unet", {}).train(), image())


def test_no_hook_stays_where_the_network_fails() -> None:
    net = build("attention_unet", {})
    with pytest.raises(RuntimeError):
        attention_maps(net, torch.rand(1, 5, 64, 64))
    assert hooks(net) == 0
