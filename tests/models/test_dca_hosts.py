"""The hosts of the Dual Cross-Attention paper: their counts, and the outputs of the published classes.

An output is that of the published class on ``torch.randn`` after ``torch.manual_seed(1)``, its weights drawn by its constructor after
``torch.manual_seed(0)`` (gorkemcanates/Dual-Cross-Attention 9b7d1bf, its DoubleU-Net repaired so that it runs;
DebeshJha/ResUNetPlusPlus f07b906). Ours draws its weights in the same order here, so that every value in between has to agree.
"""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from scipy.signal import correlate2d
from torch import Tensor, nn

from lightning_seg import models
from lightning_seg.errors import InputError
from lightning_seg.models.r2unet import Recurrent
from lightning_seg.models.resunet_plus_plus import AttendedStage

# ImageNet's
MEAN, STD = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
DCA, CCA, SCA = "dca", {"name": "dca", "sca": False}, {"name": "dca", "cca": False}

# architecture, options, size, parameters, 10^9 multiply-adds
COUNTS: list[tuple[str, dict[str, Any], int, int, float]] = [
    ("dca_unet", {"skip": None}, 224, 8_637_345, 12.530),
    ("dca_unet", {"skip": DCA}, 224, 8_747_905, 14.580),
    ("dca_unet", {"skip": CCA}, 224, 8_737_345, 13.101),
    ("dca_unet", {"skip": SCA}, 224, 8_737_345, 14.215),
    ("resunet_plus_plus", {"form": "dca"}, 224, 13_090_980, 42.428),
    ("resunet_plus_plus", {"form": "dca", "skip": DCA}, 224, 13_121_668, 51.721),
    ("resunet_plus_plus", {"form": "paper"}, 256, 4_062_993, 15.669),
    ("multires_unet", {}, 224, 7_244_070, 12.001),
    ("multires_unet", {"skip": DCA}, 224, 7_354_630, 14.050),
    ("r2unet", {}, 224, 9_781_729, 29.190),
    ("r2unet", {"skip": DCA}, 224, 9_892_289, 31.240),
    ("vnet", {}, 224, 35_970_106, 31.777),
    ("vnet", {"skip": DCA}, 224, 36_080_666, 33.827),
    ("double_unet", {}, 224, 29_683_556, 41.194),
    ("double_unet", {"skip": DCA}, 224, 30_584_516, 53.711),
]


@pytest.mark.parametrize(("name", "options", "size", "parameters", "billions"), COUNTS)
def test_parameters_and_multiply_adds_are_those_of_the_published_classes(
    name: str,
    options: dict[str, Any],
    size: int,
    parameters: int,
    billions: float,
    gmacs: Callable[..., float],
) -> None:
    with torch.device("meta"):
        net = models.create(name, **options)
    assert sum(p.numel() for p in net.parameters()) == parameters
    assert gmacs(net, size) == pytest.approx(billions, rel=0.01)


def test_the_published_synapse_model_has_one_channel_in_and_nine_out() -> None:
    with torch.device("meta"):
        net = models.create("dca_unet", in_channels=1, num_classes=9)
    assert sum(p.numel() for p in net.parameters()) == 8_747_593
    assert sum(p.numel() for p in net.skip.parameters()) == 110_560


def drawn(modules: Iterator[nn.Module] | list[nn.Module]) -> None:
    """Initialise the layers of ``modules`` in that order."""
    for module in modules:
        for layer in module.modules():
            if (
                hasattr(layer, "reset_parameters")
                and next(layer.parameters(recurse=False), None) is not None
            ):
                layer.reset_parameters()


def multires_order(net: nn.Module) -> Iterator[nn.Module]:
    paths, between = net.skip
    for level, path in zip(net.encoder.levels, paths.paths, strict=False):
        yield from (level.shortcut, level.chain)
        for pair in zip(path.shortcuts, path.bodies, strict=True):
            yield from pair
    yield from (net.encoder.levels[-1].shortcut, net.encoder.levels[-1].chain, between)
    for stage in net.decoder.stages:
        yield from (stage.up, stage.block.shortcut, stage.block.chain)
    yield net.head


# architecture, options, size, the first four values, mean, standard deviation
Row = tuple[str, dict[str, Any], int, list[float], float, float]
OUTPUTS: list[Row] = [
    (
        "dca_unet",
        {"skip": None, "raw_skips": True},
        224,
        [-0.1751409, -0.1646807, -0.1583394, -0.1602974],
        -0.180149,
        0.01100362,
    ),
    (
        "dca_unet",
        {"skip": DCA},
        224,
        [0.1420384, 0.1515027, 0.1491525, 0.1460809],
        0.1660255,
        0.006586454,
    ),
    (
        "resunet_plus_plus",
        {"form": "paper"},
        256,
        [0.1966806, 0.1661141, 0.1708562, 0.1692398],
        0.1786499,
        0.0158343,
    ),
    (
        "multires_unet",
        {"skip": DCA},
        224,
        [0.08684403, 0.08392798, 0.08873199, 0.08065],
        0.05784725,
        0.005500159,
    ),
    (
        "r2unet",
        {"skip": DCA},
        224,
        [0.06606864, 0.05165064, 0.07168294, 0.01721135],
        0.04838084,
        0.02069683,
    ),
    (
        "vnet",
        {"skip": DCA},
        224,
        [-0.1908833, -0.09849747, -0.07742579, -0.001205462],
        -0.06166287,
        0.08845732,
    ),
]
SLOW_OUTPUTS: list[Row] = [
    (
        "dca_unet",
        {"skip": CCA},
        224,
        [-0.06591644, -0.064572, -0.0729971, -0.06865077],
        -0.07107748,
        0.008429777,
    ),
    (
        "dca_unet",
        {"skip": SCA},
        224,
        [-0.07758968, -0.08656059, -0.09821635, -0.09124343],
        -0.08802173,
        0.007929412,
    ),
    (
        "resunet_plus_plus",
        {"form": "dca"},
        224,
        [-0.1414222, -0.15866, -0.134047, -0.1547765],
        -0.1720335,
        0.02890743,
    ),
    (
        "resunet_plus_plus",
        {"form": "dca", "skip": DCA},
        224,
        [0.1134374, 0.09133513, 0.08429018, 0.09881374],
        0.09284475,
        0.01810586,
    ),
    (
        "multires_unet",
        {},
        224,
        [0.1411334, 0.1276684, 0.1305688, 0.1254335],
        0.1188753,
        0.007091642,
    ),
    (
        "r2unet",
        {},
        224,
        [-0.005447329, -0.04629453, -0.02494649, -0.08546343],
        -0.01862521,
        0.0364158,
    ),
    ("vnet", {}, 224, [0.1642504, 0.1795078, 0.1579635, 0.144276], 0.1439626, 0.05452401),
    (
        "double_unet",
        {"raw_skips": True},
        224,
        [0.001147328, -0.03375316, -0.04653648, -0.0301998],
        -0.05320036,
        0.02560258,
    ),
    (
        "double_unet",
        {"skip": DCA},
        224,
        [-0.1029364, -0.1029954, -0.09911949, -0.1017137],
        -0.08350896,
        0.02051758,
    ),
]


def double_unet_order(net: nn.Module) -> Iterator[nn.Module]:
    """The published class takes each of the five levels of its encoder from a VGG-19 of its own, as torchvision draws it."""
    from torchvision.models import vgg19

    for level, first, last in zip(
        net.encoder.levels, (0, 4, 9, 18, 27), (3, 8, 17, 26, 35), strict=True
    ):
        source = [m for m in vgg19(weights=None).features[first:last] if isinstance(m, nn.Conv2d)]
        target = [m for m in level.body.modules() if isinstance(m, nn.Conv2d)]
        for a, b in zip(source, target, strict=True):
            b.load_state_dict(a.state_dict())
    yield from (
        net.encoder.levels[-1].finish,
        net.first_skip,
        net.shared_skip,
        net.second_skip,
        net.first_decoder,
    )
    yield from (net.mask, net.second_encoder, net.second_decoder, net.head)


ORDERS = {
    "multires_unet": multires_order,
    "double_unet": double_unet_order,
}  # the others: as they are written


@torch.no_grad()
@pytest.mark.parametrize(
    "row",
    [*OUTPUTS, *(pytest.param(row, marks=pytest.mark.slow) for row in SLOW_OUTPUTS)],
    ids=lambda row: f"{row[0]}-{row[1]}",
)
def test_the_output_is_that_of_the_published_class(row: Row) -> None:
    name, options, size, first, mean, deviation = row
    net = models.create(name, **options).eval()
    torch.manual_seed(0)
    drawn(ORDERS.get(name, lambda net: iter([net]))(net))
    torch.manual_seed(1)
    image = torch.randn(1, 3, size, size)
    logits = net(
        (image - MEAN) / STD if name == "double_unet" else image
    )  # its published class norms inside
    torch.testing.assert_close(logits.flatten()[:4], torch.tensor(first), rtol=0, atol=1e-5)
    torch.testing.assert_close(
        torch.stack([logits.mean(), logits.std()]),
        torch.tensor([mean, deviation]),
        rtol=0,
        atol=1e-5,
    )


@torch.no_grad()
def test_the_attention_of_resunet_plus_plus_weighs_the_decoder_map_without_a_sigmoid() -> None:
    torch.manual_seed(0)
    stage = AttendedStage(3, 2, 2, lambda i, o: nn.Identity(), maps=None).eval()
    x, skip = torch.randn(1, 3, 4, 4), torch.randn(1, 2, 8, 8)

    def norm_relu_conv(layers: nn.Sequential, maps: Tensor) -> Tensor:
        maps = (maps / (1 + 1e-5) ** 0.5).clamp_min(0)  # batch norm as it starts
        weight, bias = layers[2].weight.numpy(), layers[2].bias
        planes = [
            sum(correlate2d(m.numpy(), w, "same") for m, w in zip(maps[0], kernels, strict=True))
            for kernels in weight
        ]
        return torch.stack([torch.from_numpy(p) + b for p, b in zip(planes, bias, strict=True)])[
            None
        ]

    pooled = norm_relu_conv(stage.skip[0], skip).reshape(1, 3, 4, 2, 4, 2).amax((3, 5))
    weighted = x * norm_relu_conv(stage.weights, pooled + norm_relu_conv(stage.below, x))
    expected = torch.cat([weighted.repeat_interleave(2, 2).repeat_interleave(2, 3), skip], 1)
    torch.testing.assert_close(stage(x, skip), expected, rtol=1e-4, atol=1e-5)


def test_a_recurrent_convolution_sees_its_input_plus_its_own_last_output() -> None:
    double = nn.Conv2d(1, 1, 1, bias=False)
    nn.init.constant_(double.weight, 2)
    assert Recurrent(double, 2)(torch.ones(1, 1, 1, 1)).item() == 2 * (1 + 2 * (1 + 2))


@torch.no_grad()
def test_the_second_unet_of_double_unet_sees_the_image_through_the_first_mask() -> None:
    net = models.create("double_unet", **models.find("double_unet").tiny).eval()
    seen: dict[str, Tensor] = {}
    net.encoder.register_forward_hook(lambda _, inputs, __: seen.update(image=inputs[0]))
    net.mask.register_forward_hook(lambda _, __, mask: seen.update(mask=mask))
    net.second_encoder.register_forward_hook(lambda _, inputs, __: seen.update(masked=inputs[0]))
    image = torch.randn(1, 3, 32, 32)
    net(image)
    assert torch.equal(seen["image"], image), "normed once, by the recipe"
    torch.testing.assert_close(seen["masked"], image * seen["mask"])
    assert seen["mask"].shape == (1, 3, 32, 32)
    assert 0 < seen["mask"].min() <= seen["mask"].max() < 1


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("vnet", {"depths": [1, 2]}, "5 widths and 2 depths"),
        ("double_unet", {"second_widths": [8, 16]}, "one second width less"),
        ("resunet_plus_plus", {"widths": [8, 16]}, "needs three or more"),
        ("resunet_plus_plus", {"form": "keras"}, "form"),
        ("dca_unet", {"raw_skips": True}, "leave raw_skips out"),
        ("double_unet", {"skip": "dca", "raw_skips": True}, "leave raw_skips out"),
    ],
)
def test_options_that_make_no_network_are_a_sentence(
    name: str, options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        models.create(name, **options)


@pytest.mark.parametrize(("skip", "dead"), [(None, {"vnet"}), ("dca", {"multires_unet"})])
def test_weights_the_paper_leaves_dead_depend_on_whether_the_skip_takes_raw_maps(
    skip: str | None, dead: set[str]
) -> None:
    for name in ("vnet", "multires_unet"):
        net = models.create(name, **models.find(name).tiny, skip=skip)
        assert bool(net.unused) == (name in dead)
