"""What every network holds to: each file in ``lightning_seg/models`` is tested as it appears.

Two class attributes of a network speak to this file: ``tiny``, constructor values of a small form of it, and ``unused``, prefixes of
names of parameters that get no gradient because their paper left them dead.
"""

import copy
import importlib
import inspect
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_seg import models
from lightning_seg.data.sources.phantom import render_phantom

UNET_A = ("attention_unet", "resunet", "transunet", "unet", "unet3plus", "unetplusplus")
SMALL_SWIN = {"depths": [1, 1, 1, 1], "embed_dim": 12, "num_heads": [1, 1, 1, 1]}
# five levels from stride 2; four from stride 4; four from stride 4 in (B, H, W, C)
ENCODERS = {
    "test_efficientnet": {},
    "test_convnext": {},
    "swin_tiny_patch4_window7_224": {"encoder_options": SMALL_SWIN},
}
# further forms of a network that are worth the whole contract
FORMS: list[tuple[str, dict[str, Any]]] = [
    ("unet3plus", {"streams": "paper", "deep_supervision": True, "cgm": True}),
    ("sa_unet", {"norm": "group"}),
    (
        "pefnet",
        {
            "encoder": "test_efficientnet",
            "coarsest_width": 96,
            "positions": "sincos",
            "kernel_norm": "sum",
        },
    ),
    ("pefnet", {"mpe": False}),
    ("pefnet", {"mpe_place": "skip"}),
    ("pefnet", {"tap": "repo", "encoder_options": {"depths": [1, 1, 10, 1]}}),
    ("pam_unet", {"regularizer": 0.01}),
    ("pam_unet", {"variant": "repo", "encoder": None, "last_width": None}),
    ("attention_unet", {"gate": "oktay_grid"}),
    ("nanonet", {"shortcut": "fixed"}),
    ("unet", {"form": "leejunhyun"}),
    ("unet", {"skip": "dca"}),
    ("attention_unet", {"skip": "dca", "encoder": "test_efficientnet"}),
    ("resunet", {"skip": "dca", "encoder": "test_convnext"}),
]

POLYPS = (2, 5)  # phantoms that show one

Case = tuple[str, dict[str, Any]]
CASES: list[Case] = [
    *((name, {}) for name in models.names()),
    *(
        (name, {"encoder": encoder, **options})
        for name in UNET_A
        for encoder, options in ENCODERS.items()
    ),
    *FORMS,
]


def _id(case: Case) -> str:
    return "-".join([case[0], *(f"{k}={v}" for k, v in case[1].items() if k != "encoder_options")])


each_case = pytest.mark.parametrize("case", CASES, ids=_id)
each_name = pytest.mark.parametrize("name", models.names())


def build(case: Case, seed: int = 0, **arguments: Any) -> nn.Module:
    """The small form of a network, the same weights every time."""
    name, options = case
    small = dict(getattr(models.find(name), "tiny", {}))
    if name in UNET_A and "encoder" in options:
        small.pop("widths")  # they are those of the own encoder
    torch.manual_seed(seed)
    return models.create(name, **{**small, **options, **arguments})


def image(batch: int = 1, channels: int = 3, height: int = 64, width: int = 64) -> Tensor:
    return torch.rand(batch, channels, height, width, generator=torch.Generator().manual_seed(1))


@cache
def phantoms(size: int) -> tuple[Tensor, Tensor]:
    """Two images, about normed, and their masks, with a polyp each."""
    images, masks = zip(*(render_phantom("polyp", 0, index, size) for index in POLYPS), strict=True)
    # contiguous: in channels_last, torch 2.15's CPU kernel of a strided 1x1 convolution of fewer than 16 channels corrupts memory
    pixels, truth = (
        torch.from_numpy(np.stack(x).transpose(0, 3, 1, 2).copy()).float() for x in (images, masks)
    )
    return (pixels / 255 - 0.5) / 0.25, truth


def logits(output: Tensor | models.Output) -> Tensor:
    return output.logits if isinstance(output, models.Output) else output


def total(output: Tensor | models.Output) -> Tensor:
    """A scalar that every part of an output contributes to, unlike its mean, which a last batch norm may fix."""
    if isinstance(output, Tensor):
        output = models.Output(output)
    maps = [output.logits, *output.deep]
    return sum((m.float() - 0.3).pow(2).mean() for m in maps) + (
        0 if output.penalty is None else output.penalty
    )


@each_case
@pytest.mark.parametrize(
    ("channels", "classes", "height", "width"), [(3, 1, 64, 64), (1, 3, 65, 47), (3, 3, 33, 70)]
)
def test_logits_have_the_size_of_any_image_and_one_channel_per_class(
    case: Case, channels: int, classes: int, height: int, width: int
) -> None:
    net = build(case, in_channels=channels, num_classes=classes).eval()
    with torch.no_grad():
        output = net(image(1, channels, height, width))
    assert logits(output).shape == (1, classes, height, width)
    for deep in getattr(output, "deep", ()):
        assert deep.shape == (1, classes, height, width)


@each_case
def test_logits_lie_where_the_image_does_that_was_padded_below_and_at_the_right(case: Case) -> None:
    net, small = build(case).eval(), image(1, 3, 63, 127)
    by_hand = F.pad(small, (0, 1, 0, 1), mode="replicate")
    with torch.no_grad():
        found, expected = logits(net(small)), logits(net(by_hand))[..., :63, :127]
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


@each_case
def test_an_odd_size_is_padded_at_the_bottom_and_at_the_right(case: Case) -> None:
    """Every network halves, so that 63 pixels become 64: the logits are those of that image."""
    net, odd = build(case).eval(), image(1, height=63, width=63)
    even = F.pad(odd, (0, 1, 0, 1), mode="replicate")
    with torch.no_grad():
        expected = logits(net(even))[..., :63, :63]
        torch.testing.assert_close(logits(net(odd)), expected, rtol=1e-4, atol=1e-4)


@each_case
@pytest.mark.parametrize("training", [False, True])
def test_no_image_gives_no_logits(case: Case, training: bool) -> None:
    net = build(case).train(training)
    state = copy.deepcopy(net.state_dict())
    output = net(image(batch=0, height=65, width=47))
    assert logits(output).shape == (0, 1, 65, 47)
    penalty = getattr(output, "penalty", None)
    assert penalty is None or penalty == 0
    for name, value in net.state_dict().items():
        assert "num_batches_tracked" in name or torch.equal(value, state[name])


@each_case
def test_every_weight_gets_a_gradient_except_those_declared_unused(case: Case) -> None:
    net = build(case).train()
    total(net(image(batch=2))).backward()
    unused = getattr(net, "unused", ())
    parameters = dict(net.named_parameters())
    without = {name for name, p in parameters.items() if p.grad is None}
    assert without == {name for name in parameters if name.startswith(tuple(unused))}
    assert all(p.grad.isfinite().all() for p in parameters.values() if p.grad is not None)


@each_case
def test_one_image_of_64_pixels_trains(case: Case) -> None:
    net = build(case).train()
    loss = total(net(image()))
    loss.backward()
    assert loss.isfinite()


@each_case
def test_evaluation_is_deterministic_and_each_image_stands_alone(case: Case) -> None:
    net, batch = build(case).eval(), image(batch=2)
    batch[0] *= 0.1  # a dark image beside a bright one
    with torch.no_grad():
        both = logits(net(batch))
        assert torch.equal(both, logits(net(batch)))
        torch.testing.assert_close(logits(net(batch[1:])), both[1:], rtol=1e-4, atol=1e-4)


@each_case
def test_a_state_dict_restores_the_network_exactly(case: Case) -> None:
    net = build(case).train()
    with torch.no_grad():
        net(image(batch=2))  # moves the statistics of batch norm away from their start
        other = build(case, seed=1)
        other.load_state_dict(copy.deepcopy(net.state_dict()))
        assert torch.equal(logits(net.eval()(image())), logits(other.eval()(image())))


# an export takes a second: every network is quick, its other forms are of the slow tests
@pytest.mark.parametrize(
    "case", [pytest.param(c, marks=[pytest.mark.slow] * bool(c[1])) for c in CASES], ids=_id
)
def test_the_exported_program_gives_the_same_logits(case: Case) -> None:
    net = build(case).eval()
    with torch.no_grad():
        program = torch.export.export(net, (image(),)).module()
        torch.testing.assert_close(
            logits(program(image())), logits(net(image())), rtol=1e-4, atol=1e-5
        )


@each_case
def test_bfloat16_autocast_stays_finite_forward_and_backward(case: Case) -> None:
    net = build(case).train()
    with torch.autocast("cpu", torch.bfloat16):
        output = net(image(batch=2))
    loss = total(output)
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad.isfinite().all() for p in net.parameters() if p.grad is not None)


COMPILED = [
    *((name, {}) for name in UNET_A),
    *((name, {"encoder": "test_efficientnet"}) for name in UNET_A),
]


@pytest.mark.parametrize(
    "case",
    [*COMPILED, *(pytest.param(c, marks=pytest.mark.slow) for c in CASES if c not in COMPILED)],
    ids=_id,
)
def test_one_graph_holds_the_whole_network_and_computes_the_same(case: Case) -> None:
    """Traced as torch.compile does, where a graph break is an error, and run without the compiler behind it."""
    torch.compiler.reset()
    net, batch = build(case).train(), image(batch=2)
    results = []
    for module in (copy.deepcopy(net), torch.compile(net, backend="eager", fullgraph=True)):
        torch.manual_seed(0)
        with torch.autocast("cpu", torch.bfloat16):
            output = module(batch)
        results.append(total(output))
    assert isinstance(output, models.Output) == isinstance(net(batch), models.Output)
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)


def objective(output: Tensor | models.Output, mask: Tensor) -> Tensor:
    """Cross-entropy of the logits and of each deep output, and the penalty."""
    output = models.Output(output) if isinstance(output, Tensor) else output
    loss = sum(
        F.binary_cross_entropy_with_logits(m.float(), mask) for m in (output.logits, *output.deep)
    )
    return loss if output.penalty is None else loss + output.penalty


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@each_name
def test_a_few_steps_lower_the_loss_on_one_batch(name: str, dtype: torch.dtype) -> None:
    bfloat16 = dtype == torch.bfloat16
    # a CPU that has no units for bfloat16 takes seconds for a step of 64 pixels
    images, masks = phantoms(32 if bfloat16 else 64)
    net = build((name, {})).train()
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    losses = []
    for _ in range(12):
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            output = net(images)
        loss = objective(output, masks)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0], losses
    assert logits(output).min() < 0, (
        "most of the batch is background, so logits turn negative; probabilities could not"
    )


@each_name
def test_the_full_network_can_be_built_on_the_meta_device(name: str) -> None:
    with torch.device("meta"):
        net = models.create(name)
    assert {p.device.type for p in net.parameters()} == {"meta"}


@each_name
def test_constructor_arguments_have_the_names_order_and_types_of_the_house(name: str) -> None:
    arguments = models.options(name)
    order = [a for a in arguments if a in ("encoder", "in_channels", "num_classes")]
    assert list(arguments)[: len(order)] == order
    assert arguments["in_channels"].default == 3
    assert arguments["num_classes"].default == 1
    assert "encoder_options" not in arguments or list(arguments)[-1] == "encoder_options"
    assert all(a.annotation is not inspect.Parameter.empty for a in arguments.values())


@each_name
def test_its_file_says_what_differs_from_the_paper(name: str) -> None:
    module = importlib.import_module(f"lightning_seg.models.{name}")
    assert "Differs from the paper:" in (module.__doc__ or "")
    assert inspect.getdoc(models.find(name))
