from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from lightning_seg import models
from lightning_seg.models import TimmEncoder
from lightning_seg.models.frame.blocks import SqueezeExcite
from lightning_seg.models.nanonet import NanoBlock


# parameters as the paper counts them, with the statistics of batch norm
@pytest.mark.parametrize(
    ("variant", "shortcut", "parameters", "expected"),
    [
        ("a", "published", 235_425, 0.9860),
        ("b", "published", 132_049, 0.7644),
        ("c", "published", 36_561, 0.1798),
        ("a", "fixed", 310_593, 1.5753),
        ("b", "fixed", 179_473, 1.2342),
        ("c", "fixed", 45_833, 0.2590),
    ],
)
def test_parameters_and_multiply_adds_are_the_published_ones(
    gmacs: Callable[[nn.Module, int], float],
    variant: str,
    shortcut: str,
    parameters: int,
    expected: float,
) -> None:
    with torch.device("meta"):
        net = models.create("nanonet", variant=variant, shortcut=shortcut)
    statistics = sum(b.numel() for name, b in net.named_buffers() if "running" in name)
    assert sum(p.numel() for p in net.parameters()) + statistics == parameters
    assert gmacs(net, 256) == pytest.approx(expected, rel=0.001)


def test_it_reproduces_the_official_keras_network(
    parity: Callable[[str], dict[str, Tensor]], load_keras: Callable[..., None]
) -> None:
    tensors = parity("NanoNet_A_repo_64")
    for name, tensor in tensors.items():
        if (
            "depthwise_kernel" in name
        ):  # the loader turns (height, width, in, out) into torch's order
            tensors[name] = tensor.transpose(2, 3)
        if "dense" in name:
            tensors[name] = tensor.T
    net = models.create("nanonet").eval()
    load_keras(
        [m for m in net.modules() if not list(m.children()) or hasattr(m, "running_mean")], tensors
    )
    with torch.no_grad():
        torch.testing.assert_close(
            net(tensors["input"]).sigmoid(), tensors["output0"], rtol=0, atol=1e-4
        )


def test_the_published_shortcut_forgets_the_input_and_the_fixed_one_does_not() -> None:
    for shortcut, projections in (("published", 0), ("fixed", 1)):
        block = NanoBlock(6, 16, shortcut).eval()
        torch.nn.init.zeros_(block.body[2].weight)  # the main path is a constant now
        torch.nn.init.ones_(block.body[2].bias)
        one, other = (block(torch.randn(1, 6, 8, 8)) for _ in range(2))
        assert torch.equal(one, other) == (projections == 0)
        assert (
            sum(name.startswith("project") for name, _ in block.named_parameters())
            == 2 * projections
        )


def test_squeeze_and_excitation_is_its_equation() -> None:
    torch.manual_seed(0)
    module = SqueezeExcite(8, 4)
    x = torch.randn(2, 8, 3, 5)
    first, second = (module.weights[i].weight.detach().numpy() for i in (0, 2))
    squeezed = x.numpy().mean((2, 3))
    weights = 1 / (1 + np.exp(-np.maximum(squeezed @ first.T, 0) @ second.T))
    np.testing.assert_allclose(
        module(x).detach().numpy(), x.numpy() * weights[..., None, None], rtol=1e-4, atol=1e-6
    )


def test_the_encoder_s_pyramid_is_the_image_and_three_expansions() -> None:
    for variant, channels in (("a", (3, 48, 96, 96)), ("b", (3, 48, 48, 96))):
        encoder = models.create("nanonet", variant=variant).encoder
        image = torch.rand(1, 3, 64, 64)
        pyramid = encoder(image)
        assert tuple(x.shape[1] for x in pyramid) == channels == encoder.channels
        assert [x.shape[-1] for x in pyramid] == [64, 32, 16, 8]
        assert torch.equal(pyramid[0], image)


def test_pre_trained_weights_of_the_whole_encoder_fill_its_first_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    whole = TimmEncoder("mobilenetv2_050", 3, {"pad_type": "same", "bn_eps": 1e-3}).eval()
    save_file(
        {name: t.contiguous() for name, t in whole.body.state_dict().items()},
        tmp_path / "mobilenetv2_050.safetensors",
    )
    monkeypatch.setenv("LIGHTNING_SEG_WEIGHTS", str(tmp_path))
    encoder = models.create("nanonet").encoder.eval()
    assert encoder.load_weights()["file"] == "mobilenetv2_050.safetensors"
    seen = []
    for stage in (1, 2, 3):
        whole.body.blocks[stage][0].bn1.register_forward_hook(
            lambda module, inputs, output: seen.append(output.clone())
        )
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        whole(image)
        for ours, timm_s in zip(encoder(image)[1:], seen, strict=True):
            torch.testing.assert_close(ours, timm_s)
