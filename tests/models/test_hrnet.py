import io
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lightning_seg import models
from lightning_seg.errors import InputError
from lightning_seg.models.hrnet import set_fusion


@pytest.mark.parametrize(
    ("encoder", "parameters", "expected"),
    [
        ("hrnet_w18", 9_636_241, 1.1466),
        ("hrnet_w32", 29_537_857, 2.8132),
        (None, 65_846_401, 5.8267),
    ],
)
def test_parameters_and_multiply_adds(
    gmacs: Callable[[nn.Module, int], float], encoder: str | None, parameters: int, expected: float
) -> None:
    with torch.device("meta"):
        net = models.create("hrnet", encoder=encoder)
    assert sum(p.numel() for p in net.parameters()) == parameters
    assert gmacs(net, 128) == pytest.approx(expected, rel=0.001)


def _bilinear(x: np.ndarray, size: int) -> np.ndarray:
    """The last two axes to ``size`` pixels whose centres divide the side evenly."""
    old = x.shape[-1]
    centres = ((np.arange(size) + 0.5) * old / size - 0.5).clip(0, old - 1)
    weights = (1 - np.abs(centres[:, None] - np.arange(old))).clip(0)
    return weights @ x @ weights.T


def _fused(fusion: nn.ModuleList, maps: list[Tensor]) -> list[np.ndarray]:
    """The exchange of HRNetV2 for segmentation: each resolution is the sum of all, by ReLU."""
    results = []
    for target, layers in enumerate(fusion):
        total = maps[target].numpy()
        for source, layer in enumerate(layers):
            if source < target:
                total = total + layer(maps[source]).numpy()
            elif source > target:
                coarse = layer[1](layer[0](maps[source])).numpy()
                total = total + _bilinear(coarse, total.shape[-1])
        results.append(total.clip(0))
    return results


@torch.no_grad()
def test_resolutions_are_exchanged_bilinearly() -> None:
    torch.manual_seed(0)
    net = models.create("hrnet", encoder="hrnet_w18_small").double().eval()
    stage = net.encoder.body.stage3[0]
    for norm in stage.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
    maps = [torch.randn(1, c, 32 >> i, 32 >> i).double() for i, c in enumerate((16, 32, 64))]
    own = [branch(x) for branch, x in zip(stage.branches, maps, strict=True)]
    expected = _fused(stage.fuse_layers, own)
    for found, reference in zip(stage(maps), expected, strict=True):
        np.testing.assert_allclose(found.numpy(), reference, atol=1e-10)


@torch.no_grad()
def test_weights_saved_when_exchanges_took_the_nearest_pixel_go_on_so() -> None:
    torch.manual_seed(0)
    net = models.create("hrnet", encoder="hrnet_w18_small").eval()
    image = torch.rand(1, 3, 64, 64)
    file = io.BytesIO()
    set_fusion(net.encoder, "nearest")
    former, state = net(image), net.state_dict()
    state._metadata[""]["version"] = 1
    torch.save({"state_dict": state}, file)
    file.seek(0)

    loaded = models.create("hrnet", encoder="hrnet_w18_small").eval()
    assert not torch.equal(loaded(image), former)
    loaded.load_state_dict(torch.load(file, weights_only=True)["state_dict"])
    assert torch.equal(loaded(image), former)
    loaded.load_state_dict(dict(net.state_dict()))
    assert not torch.equal(loaded(image), former)


def test_another_family_is_an_input_error() -> None:
    with pytest.raises(InputError, match="hrnet_w18"):
        models.create("hrnet", encoder="resnet50")
