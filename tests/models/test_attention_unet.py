"""The gate of the authors' code, in plain numpy; the common one stands in test_pam_unet.py."""

import numpy as np
import torch
from torch import nn

from lightning_seg import models
from lightning_seg.models.attention_unet import GridGate
from lightning_seg.models.unet import UNetStage


def conv1x1(conv: nn.Conv2d, x: np.ndarray) -> np.ndarray:
    return (
        np.einsum("oc,cyx->oyx", conv.weight.detach().numpy()[..., 0, 0], x)
        + conv.bias.detach().numpy()[:, None, None]
    )


def test_the_grid_gate_is_its_equation() -> None:
    torch.manual_seed(0)
    gate = GridGate(3, 4).eval()
    g, x = torch.randn(1, 3, 3, 5), torch.randn(1, 4, 6, 10)
    blocks = x[0].numpy().reshape(4, 3, 2, 5, 2)  # 2 x 2 pixels per cell
    theta = np.einsum("ocij,cyixj->oyx", gate.theta.weight.detach().numpy(), blocks)
    psi = conv1x1(gate.psi, np.maximum(theta + conv1x1(gate.phi, g[0].numpy()), 0))[0]
    weights = 1 / (1 + np.exp(-psi))
    rows, columns = (halfway(n) for n in weights.shape)
    expected = conv1x1(gate.out[0], x[0].numpy() * (rows @ weights @ columns.T)) / np.sqrt(1 + 1e-5)
    np.testing.assert_allclose(gate(g, x)[0].detach(), expected, rtol=1e-4, atol=1e-5)


def halfway(cells: int) -> np.ndarray:
    """Weights (2 cells, cells) of bilinear upsampling x2 whose corners are not aligned."""
    at = np.clip((np.arange(2 * cells) - 0.5) / 2, 0, cells - 1)
    return np.stack([np.interp(at, range(cells), row) for row in np.eye(cells)], 1)


def test_the_finest_level_has_no_grid_gate_and_the_others_are_gated_by_the_map_below() -> None:
    net = models.create("attention_unet", gate="oktay_grid", widths=(4, 8, 16, 32)).eval()
    *gated, finest = net.decoder.stages
    assert type(finest) is UNetStage
    shapes: list[tuple[int, ...]] = []
    for stage in gated:
        stage.gate.register_forward_hook(
            lambda _, inputs, __: shapes.extend(tuple(t.shape[1:]) for t in inputs)
        )
    net(torch.rand(1, 3, 64, 64))
    assert shapes == [(32, 8, 8), (16, 16, 16), (16, 16, 16), (8, 32, 32)]
