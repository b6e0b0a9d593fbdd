"""The options of training: precision, fused optimisers, groups of parameters, freezing, averaging, compilation, recomputation."""

import copy
import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import lightning as L
import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from experiments.runs import _changes, training_settings
from lightning_seg import cli, models
from lightning_seg.errors import InputError
from lightning_seg.models import TimmEncoder, encoder_parameters
from lightning_seg.training import precision
from lightning_seg.training.activation_checkpointing import (
    checkpoint_activations,
    checkpointed_units,
)
from lightning_seg.training.averaging import WeightEMA
from lightning_seg.training.freezing import apply_freeze, frozen_parts
from lightning_seg.training.module import SegmentationModule
from lightning_seg.training.optimizer import Optimization, make_optimizer

TINY = """
trainer: {accelerator: cpu, enable_progress_bar: false, log_every_n_steps: 1, max_epochs: 1, num_sanity_val_steps: 0}
data: {dataset: phantom_polyp, protocol: %s, size: 32, batch_size: 4, dataset_options: {resolution: 32}}
model: {architecture: unet, options: {widths: [4, 8, 16]}, lr: 0.01}
"""
NARROW = {"widths": (4, 8, 16)}


class TwoLayers(nn.Sequential):
    """A network that a real compiler is soon done with."""

    def __init__(self, in_channels, num_classes):
        super().__init__(
            nn.Conv2d(in_channels, 2, 3, padding=1), nn.SiLU(), nn.Conv2d(2, num_classes, 1)
        )


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    """A recipe that trains in a second: 12 / 6 / 5 phantoms of 32 pixels, 3 batches an epoch."""
    folder = tmp_path_factory.mktemp("recipe")
    rows = [
        f"polyp-{i:04d},{'train' if i < 12 else 'val' if i < 18 else 'test'}" for i in range(23)
    ]
    head = "# name: tiny\n# version: 1\n# rule: the first 23\nid,split\n"
    (folder / "tiny.csv").write_text(head + "\n".join(rows) + "\n")
    (folder / "tiny.yaml").write_text(TINY % (folder / "tiny.csv"))
    return folder / "tiny.yaml"


@pytest.fixture
def fit(recipe, tmp_path):
    """``fit("--any.key", "value", callbacks=[...])``: a run of the recipe, in the folder of the test."""

    def run(*args, callbacks=(), name="tiny"):
        return cli.run(
            ["fit", "-c", str(recipe), "--runs", str(tmp_path), "--name", name, *args], callbacks
        )

    return run


def folder(done):
    return Path(done.trainer.logger.log_dir)


def last(done):
    return torch.load(next(folder(done).glob("checkpoints/last*.ckpt")), weights_only=True)


def scalars(done, tag):
    return [event.value for event in EventAccumulator(str(folder(done))).Reload().Scalars(tag)]


def assert_same(a, b):
    assert a.keys() == b.keys()
    for key in a:
        assert torch.equal(a[key], b[key]), key


def net(seed=0, **arguments):
    torch.manual_seed(seed)
    return models.create("unet", **({} if "encoder" in arguments else NARROW), **arguments).train()


def callbacks_of_fit(module):
    module.trainer = L.Trainer(logger=False, accelerator="cpu")
    module.trainer.state.fn = "fit"
    return module.configure_callbacks()[1:]  # all runs have the first


class Dies(L.Callback):
    """Ends the process of the training, as far as the run can tell, as an epoch starts."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == self.epoch:
            raise ConnectionAbortedError


class Watch(L.Callback):
    """What ``look(pl_module)`` sees after each training step."""

    def __init__(self, look):
        self.look, self.seen = look, []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.seen.append(self.look(pl_module))


# precision


@pytest.mark.parametrize(
    ("flags", "expected"),
    [(["avx512_bf16"], "bf16-mixed"), (["amx_bf16"], "bf16-mixed"), ([], "32-true")],
)
def test_a_cpu_with_units_for_bfloat16_trains_in_it(monkeypatch, flags, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(precision, "cpu_has", lambda flag: flag in flags)
    assert (
        precision.automatic_precision("auto")[0]
        == precision.automatic_precision("cpu")[0]
        == expected
    )
    assert precision.automatic_precision("tpu")[0] == "32-true"


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [([(8, 0)], "bf16-mixed"), ([(9, 0), (8, 6)], "bf16-mixed"), ([(9, 0), (7, 5)], "32-true")],
)
def test_gpus_that_all_compute_in_bfloat16_train_in_it(monkeypatch, capabilities, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(capabilities))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capabilities[device])
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
    monkeypatch.setattr(precision, "cpu_has", lambda flag: False)
    assert (
        precision.automatic_precision("auto")[0]
        == precision.automatic_precision("gpu")[0]
        == expected
    )
    assert precision.automatic_precision("cpu")[0] == "32-true"


def gradients(conv, image, mixed):
    conv.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
        output = conv(image)
    output.float().square().sum().backward()
    return output, conv.weight.grad.clone()


@pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (5, 1), (5, 2)])
def test_depthwise_convolutions_train_in_float32_amid_mixed_precision(kernel, stride):
    conv = torch.nn.Conv2d(8, 8, kernel, stride, kernel // 2, groups=8, bias=False)
    net, image = torch.nn.Sequential(conv), torch.rand(2, 8, 16, 16).bfloat16()
    names = list(net.state_dict())
    exact, gradient = gradients(conv, image.float(), mixed=False)
    plain, _ = gradients(conv, image, mixed=True)
    precision.widen_depthwise(net)
    precision.widen_depthwise(net)  # a second fit
    widened, its_gradient = gradients(conv, image, mixed=True)
    assert widened.dtype == plain.dtype == torch.bfloat16
    assert list(net.state_dict()) == names
    assert torch.equal(widened, exact.bfloat16())
    torch.testing.assert_close(
        its_gradient, gradient, rtol=0.02, atol=0.02 * float(gradient.abs().max())
    )
    copied = copy.deepcopy(net)
    with torch.no_grad():
        copied[0].weight.zero_()
        assert copied(image.float()).abs().max() == 0
        assert net(image.float()).abs().max() > 0


@pytest.mark.parametrize("given", [{"groups": 1}, {"groups": 8, "kernel_size": 3}, {"groups": 4}])
def test_other_convolutions_stay_in_mixed_precision(given):
    conv = torch.nn.Conv2d(8, 8, **{"kernel_size": 5, "padding": 1} | given)
    precision.widen_depthwise(conv)
    assert "forward" not in vars(conv)


def test_the_precision_that_was_chosen_stands_in_all_records_and_a_resumed_run_keeps_it(
    fit, monkeypatch, capsys
):
    monkeypatch.setattr(precision, "cpu_has", lambda flag: flag == "amx_bf16")
    done = fit()
    assert "precision: bf16-mixed (this CPU has amx_bf16" in capsys.readouterr().out
    config = yaml.safe_load((folder(done) / "config.yaml").read_text(encoding="utf-8"))
    record = json.loads((folder(done) / "environment.json").read_text(encoding="utf-8"))
    assert config["trainer"]["precision"] == record["sittings"][0]["precision"] == "bf16-mixed"
    assert last(done)["lightning_seg"]["precision"] == "bf16-mixed"
    monkeypatch.setattr(precision, "cpu_has", lambda flag: False)
    resumed = fit("--ckpt_path", "last", "--trainer.max_epochs", "2")
    assert resumed.trainer.precision == "bf16-mixed"
    assert "as this run began" in capsys.readouterr().out
    assert fit(name="other").trainer.precision == "32-true"


def test_a_precision_that_is_named_wins_and_needs_no_words(fit, monkeypatch, capsys):
    monkeypatch.setattr(precision, "cpu_has", lambda flag: True)
    assert fit("--trainer.precision", "32-true").trainer.precision == "32-true"
    assert "names another" not in capsys.readouterr().out


def test_validation_within_a_bfloat16_run_scores_as_validate_does_in_float32(fit):
    done = fit("--trainer.precision", "bf16-mixed")
    path = str(next(folder(done).glob("checkpoints/last*.ckpt")))
    again = cli.run(["validate", "--ckpt_path", path, "--measures", "none"])
    assert again.trainer.precision == "32-true"
    for name in ("val/loss", "val/dice", "val/dice_image"):
        assert float(again.trainer.callback_metrics[name]) == pytest.approx(
            float(done.trainer.callback_metrics[name]), rel=1e-6
        )


@pytest.mark.parametrize("term", ["bce", "dice", "focal", "jaccard", "lovasz", "mcc", "tversky"])
def test_the_loss_of_bfloat16_logits_is_that_of_the_same_logits_in_float32(term):
    module = SegmentationModule(options=NARROW, loss={term: 1.0})
    image, mask = torch.rand(2, 3, 32, 32), (torch.rand(2, 1, 32, 32) > 0.7).to(torch.uint8)
    with torch.autocast("cpu", torch.bfloat16):
        output = module(image)
        loss = module._loss(output, {"mask": mask}, "train")
    assert output.logits.dtype == torch.bfloat16
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, module.loss(output.logits.float(), mask), rtol=1e-6, atol=1e-7)


# optimisers


PLAIN = Optimization(lr=0.01, weight_decay=0.1)


def after_steps(steps=5, **settings):
    """The optimiser, and the weights after steps along random gradients."""
    network = net().to(memory_format=torch.channels_last)
    optimizer = make_optimizer(network, replace(PLAIN, **settings), {})
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        for parameter in network.parameters():
            parameter.grad = torch.empty_like(parameter).normal_(generator=generator)
        optimizer.step()
    return optimizer, network.state_dict()


@pytest.mark.parametrize(
    ("name", "own"), [("adamw", {}), ("adam", {"betas": (0.8, 0.9)}), ("sgd", {"momentum": 0.9})]
)
def test_a_fused_optimiser_takes_the_same_steps_as_the_plain_one(name, own):
    fused, weights = after_steps(optimizer=name, optimizer_options=own)
    plain, expected = after_steps(optimizer=name, optimizer_options={**own, "foreach": False})
    assert fused.param_groups[0]["fused"]
    assert not plain.param_groups[0]["fused"]
    for key in weights:
        torch.testing.assert_close(weights[key], expected[key], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", ["nadam", "rmsprop"])
def test_an_optimiser_without_a_fused_form_works_as_it_is(name):
    optimizer, weights = after_steps(optimizer=name)
    assert not optimizer.param_groups[0].get("fused")
    assert all(value.isfinite().all() for value in weights.values())


@pytest.mark.parametrize("precision", ["bf16-mixed", "32-true"])
def test_clipping_holds_for_the_gradients_of_a_fused_optimiser(fit, precision):
    def norm(module):
        return torch.stack([p.grad.norm() for p in module.parameters()]).norm().item()

    watch = Watch(norm)
    done = fit(
        "--trainer.gradient_clip_val", "1e-3", "--trainer.precision", precision, callbacks=[watch]
    )
    assert done.trainer.optimizers[0].param_groups[0]["fused"]
    assert watch.seen == pytest.approx([1e-3] * 3, rel=1e-3)


def test_the_schedule_counts_steps_of_the_optimiser_not_batches(fit):
    options = [
        "--trainer.accumulate_grad_batches",
        "2",
        "--trainer.max_epochs",
        "4",
        "--model.warmup",
        "0.25",
    ]
    watch = Watch(lambda module: module.optimizers().param_groups[0]["lr"])
    done = fit(*options, "--trainer.gradient_clip_val", "1", callbacks=[watch])
    assert done.trainer.global_step == 8  # batches 1 and 2, then 3, in each epoch
    rise, total = 2, 8
    rates = [
        0.005,
        *(
            0.005 * (1 + math.cos(math.pi * (step - rise) / (total - rise)))
            for step in range(rise, total + 1)
        ),
    ]
    # after each of the 12 batches: 1, 4, 7, 10 take no step
    steps = [0, 1, 2, 2, 3, 4, 4, 5, 6, 6, 7, 8]
    expected = [rates[0] if step == 0 else 0.01 if step == 1 else rates[step - 1] for step in steps]
    assert watch.seen == pytest.approx(expected, abs=1e-9)


def test_a_plateau_is_one_of_the_validation_loss(fit, monkeypatch):
    """The training loss falls and that of validation rises: each epoch after the first halves the rate."""
    losses = {"train": lambda epoch: 9.0 - epoch, "val": lambda epoch: 1.0 + epoch}
    own = SegmentationModule._loss

    def staged(module, output, batch, stage):
        found = own(module, output, batch, stage)
        return found * 0 + losses[stage](module.current_epoch)

    monkeypatch.setattr(SegmentationModule, "_loss", staged)
    watch = Watch(lambda module: module.optimizers().param_groups[0]["lr"])
    options = "{patience: 0, factor: 0.5}"
    fit(
        *("--model.schedule", "plateau", "--model.schedule_options", options),
        *("--trainer.max_epochs", "3"),
        callbacks=[watch],
    )
    assert watch.seen == pytest.approx([0.01] * 6 + [0.005] * 3)


def test_a_checkpoint_from_before_fused_optimisers_goes_on_fused_and_leaves_the_scale_of_float16_to_its_kernel():
    layer = nn.Conv2d(3, 1, 1)
    before, now = (
        make_optimizer(layer, replace(PLAIN, optimizer_options=own), {})
        for own in ({"foreach": False}, {})
    )
    layer(torch.ones(1, 3, 4, 4)).sum().backward()
    before.step()
    state = before.state_dict()
    now.load_state_dict(state)
    assert now.param_groups[0]["fused"]
    assert not state["param_groups"][0]["fused"]
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    scaler.scale(layer(torch.ones(1, 3, 4, 4)).sum()).backward()
    scaler.step(now)
    assert float(now.state_dict()["state"][0]["step"]) == 2


# groups of parameters


def groups(network, **settings):
    chosen = replace(PLAIN, **settings)
    distances = encoder_parameters(network, chosen.by_layer) if chosen.by_part else {}
    found = make_optimizer(network, chosen, distances).param_groups
    return {group["name"]: group for group in found}


def test_the_encoder_learns_at_its_own_rate_and_norms_and_biases_do_not_decay():
    network = net()
    found = groups(network, encoder_lr=0.1, no_decay=True)
    assert {name: (group["lr"], group["weight_decay"]) for name, group in found.items()} == {
        "encoder": (pytest.approx(0.001), 0.1),
        "encoder_no_decay": (pytest.approx(0.001), 0.0),
        "network": (0.01, 0.1),
        "network_no_decay": (0.01, 0.0),
    }
    listed = [id(p) for group in found.values() for p in group["params"]]
    assert sorted(listed) == sorted(map(id, network.parameters()))
    norms = {
        id(p) for m in network.modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters()
    }
    biases = {
        id(m.bias)
        for m in network.modules()
        if isinstance(m, nn.Conv2d | nn.ConvTranspose2d) and m.bias is not None
    }
    assert {
        id(p) for name in found if "no_decay" in name for p in found[name]["params"]
    } == norms | biases


@pytest.mark.parametrize("encoder", ["test_convnext", "test_efficientnet", "test_resnet"])
def test_rates_fall_from_the_decoder_to_the_stem_layer_by_layer(encoder):
    network = net(encoder=encoder)
    found = groups(network, layer_decay=0.5, encoder_lr=0.2)
    rates = {id(p): group["lr"] for group in found.values() for p in group["params"]}
    body = [rates[id(p)] for p in network.encoder.parameters()]
    assert body == sorted(body)
    assert body[0] < body[-1] == pytest.approx(0.01 * 0.2 * 0.5)
    depth = max(encoder_parameters(network, True).values())
    assert body[0] == pytest.approx(0.01 * 0.2 * 0.5**depth)
    assert {rates[id(p)] for p in network.decoder.parameters()} == {0.01}


@pytest.mark.parametrize(
    ("encoder", "options", "first"),
    [
        ("hiera_tiny_224", {}, "pos_embed"),
        ("twins_pcpvt_small", {}, "patch_embeds.0"),
        ("resnet18", {"out_indices": [0, 1, 2]}, "conv1"),
    ],
)
def test_layers_are_counted_under_the_names_of_every_form_that_timm_gives_a_network(
    encoder, options, first
):
    with torch.device("meta"):
        distances = encoder_parameters(net(encoder=encoder, encoder_options=options), True)
    assert len(set(distances.values())) > 3
    name, distance = next(iter(distances.items()))
    assert first in name
    assert distance == max(distances.values())


def test_an_encoder_whose_layers_timm_does_not_count_is_refused():
    with (
        torch.device("meta"),
        pytest.raises(InputError, match=r"count the layers of encoder 'caformer_s18'"),
    ):
        SegmentationModule(encoder="caformer_s18", layer_decay=0.75)


def test_each_group_follows_the_schedule_and_is_logged_by_name(fit):
    done = fit("--model.encoder_lr", "0.1", "--trainer.max_epochs", "2")
    encoder, others = (scalars(done, f"lr-AdamW/{name}") for name in ("encoder", "network"))
    assert encoder == pytest.approx([0.1 * rate for rate in others], rel=1e-5)
    assert len({round(rate, 9) for rate in others}) > 3


# freezing


def test_a_frozen_part_keeps_weights_and_statistics_until_it_thaws(fit):
    def look(module):
        return {key: value.clone() for key, value in module.net.encoder.state_dict().items()}

    watch = Watch(look)
    fit("--model.freeze", "{encoder: 1}", "--trainer.max_epochs", "2", callbacks=[watch])
    frozen, thawed = watch.seen[:3], watch.seen[3:]
    for step in frozen[1:]:
        assert_same(frozen[0], step)
    assert int(frozen[0]["levels.0.0.1.num_batches_tracked"]) == 0
    for key in thawed[-1]:
        assert not torch.equal(frozen[0][key], thawed[-1][key]), key


def test_what_is_frozen_for_good_never_learns_and_what_is_dead_by_design_never_thaws(fit):
    watch = Watch(lambda module: module.net.encoder.levels[0][0][0].weight.detach().clone())
    done = fit("--model.freeze", "[encoder.levels.0, head]", callbacks=[watch])
    assert torch.equal(watch.seen[0], watch.seen[-1])
    learning = {name for name, p in done.model.net.named_parameters() if p.requires_grad}
    assert not any(name.startswith(("encoder.levels.0.", "head.")) for name in learning)
    assert any(name.startswith("encoder.levels.1.") for name in learning)
    network = net()
    network.unused = ("decoder.stages.0.up",)
    parts = frozen_parts(network, {"decoder": 2, "decoder.stages.1": 4})
    for epoch, stages in ((1, set()), (2, {"0"}), (4, {"0", "1"})):
        apply_freeze(network, parts, epoch)
        found = {name for name, p in network.decoder.named_parameters() if p.requires_grad}
        assert {name.split(".")[1] for name in found} == stages
        assert not any(name.startswith("stages.0.up") for name in found)
        assert network.decoder.stages[1].training == ("1" in stages)


# averaging


def test_the_average_is_that_of_its_formula_and_is_what_is_scored_and_saved(fit):
    def look(module):
        return {key: value.detach().clone() for key, value in module.net.named_parameters()}

    watch = Watch(look)
    done = fit(
        "--model.ema",
        "0.6",
        "--trainer.max_epochs",
        "3",
        "--model.schedule",
        "constant",
        callbacks=[watch],
    )
    expected = watch.seen[0]
    for n, weights in enumerate(watch.seen[1:], start=1):
        decay = min(0.6, (1 + n) / (10 + n))
        expected = {
            key: decay * value + (1 - decay) * weights[key] for key, value in expected.items()
        }
    saved = last(done)
    for key, value in expected.items():
        torch.testing.assert_close(saved["state_dict"][f"net.{key}"], value, rtol=1e-5, atol=1e-6)
        assert torch.equal(saved["current_model_state"][f"net.{key}"], watch.seen[-1][key])
    assert any(not torch.equal(expected[key], watch.seen[-1][key]) for key in expected)
    path = next(folder(done).glob("checkpoints/last*.ckpt"))
    assert_same(SegmentationModule.load(path).state_dict(), saved["state_dict"])
    scored = cli.run(
        ["validate", "--ckpt_path", str(path), "--measures", "none"]
    ).trainer.callback_metrics
    assert float(scored["val/loss"]) == pytest.approx(scalars(done, "val/loss")[-1], rel=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        ["--model.ema", "0.9"],
        ["--model.freeze", "{encoder: 3}", "--model.encoder_lr", "0.1", "--model.no_decay", "true"],
        [
            "--model.optimizer",
            "sgd",
            "--model.optimizer_options",
            "{momentum: 0.9}",
            "--trainer.accumulate_grad_batches",
            "2",
        ],
    ],
    ids=["ema", "freeze", "sgd"],
)
def test_a_run_that_died_and_was_resumed_equals_one_that_did_not(fit, options):
    options = [*options, "--trainer.max_epochs", "4", "--trainer.precision", "bf16-mixed"]
    whole = fit(*options, name="whole")
    with pytest.raises(ConnectionAbortedError):
        fit(*options, name="died", callbacks=[Dies(2)])
    resumed = fit(*options, "--ckpt_path", "last", name="died")
    assert folder(resumed).name == "version_0"
    a, b = last(whole), last(resumed)
    assert a["global_step"] == b["global_step"]
    for state in ("state_dict", "current_model_state"):
        assert_same(a.get(state, {}), b.get(state, {}))


def test_the_average_lies_on_the_device_that_the_network_goes_to():
    callbacks = callbacks_of_fit(SegmentationModule(options=NARROW, ema=0.9))
    callback = next(each for each in callbacks if isinstance(each, WeightEMA))
    strategy = SimpleNamespace(root_device=torch.device("meta"))
    callback.setup(SimpleNamespace(strategy=strategy), SegmentationModule(options=NARROW), "fit")
    assert {
        value.device.type for value in callback._average_model.module.state_dict().values()
    } == {"meta"}
    assert (
        callback._average_model.n_averaged.device.type == "cpu"
    )  # or each step would wait for the device


# recomputation


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("unet", {"encoder": "test_efficientnet", "encoder_options": {"drop_path_rate": 0.5}}),
        (
            "unet3plus",
            {"widths": (4, 8, 16), "stream_width": 4, "deep_supervision": True, "streams": "paper"},
        ),
        ("sa_unet", {"widths": (4, 8, 16)}),
        ("transunet", {"widths": (4, 8), "width": 16, "depth": 2, "heads": 2}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_recomputed_activations_give_the_same_gradients_and_statistics_from_less_memory(
    name, options
):
    """Drop path, drop block and batch norm, whose second pass must draw the same numbers and leave the statistics alone."""
    torch.manual_seed(0)
    plain = models.create(name, **options).train()
    lean = copy.deepcopy(plain)
    checkpoint_activations(lean)
    kept = {}
    for which, network in (
        ("plain", plain),
        ("lean", copy.deepcopy(lean)),
    ):  # a copy computes with its own weights
        kept[which] = held = []
        torch.manual_seed(1)
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t, held=held: held.append(t.nbytes) or t, lambda t: t
        ):
            output = network(torch.rand(2, 3, 64, 64))
        maps = [output.logits, *output.deep] if isinstance(output, models.Output) else [output]
        sum(m.square().mean() for m in maps).backward()
        kept[f"{which} gradients"] = {key: p.grad for key, p in network.named_parameters()}
        kept[f"{which} state"] = network.state_dict()
    assert_same(kept["plain gradients"], kept["lean gradients"])
    assert_same(kept["plain state"], kept["lean state"])
    assert all(p.grad is None for p in lean.parameters())
    assert sum(kept["lean"]) < 0.5 * sum(kept["plain"])


def test_every_network_but_fcn8_has_units_to_compute_again():
    without = []
    for name in models.names():
        with torch.device("meta"):
            if not checkpointed_units(
                models.create(name, **getattr(models.find(name), "tiny", {}))
            ):
                without.append(name)
    assert without == ["fcn8"]  # its VGG is one row of layers


def test_a_run_that_recomputes_is_the_run_that_does_not(fit):
    options = ["--trainer.max_epochs", "2", "--model.ema", "0.9"]
    plain, lean = (
        fit(*options, name="plain"),
        fit(*options, "--model.activation_checkpointing", "true", name="lean"),
    )
    assert_same(last(plain)["state_dict"], last(lean)["state_dict"])


# compilation


def test_a_compiled_run_is_the_same_run_under_the_same_names_and_says_what_it_cost(
    fit, monkeypatch, capsys
):
    monkeypatch.setattr(
        precision, "BACKEND", "eager"
    )  # the graph as it was traced; a real compiler takes a minute
    plain = fit(name="plain")
    done = fit("--model.compile", "true", name="compiled")
    assert "compile: " in capsys.readouterr().out
    assert done.model.net._compiled_call_impl is not None
    expected = last(plain)["state_dict"]
    assert last(done)["state_dict"].keys() == expected.keys()
    for key, value in last(done)["state_dict"].items():
        torch.testing.assert_close(value, expected[key], rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_a_run_compiled_by_torchs_own_compiler_trains(fit):
    options = [
        "--model.architecture",
        f"{__name__}:TwoLayers",
        "--model.options",
        "{}",
        "--trainer.precision",
        "32-true",
    ]
    done = fit(*options, "--model.compile", "dynamic", name="compiled")
    expected = last(fit(*options, name="plain"))["state_dict"]
    for key, value in last(done)["state_dict"].items():
        torch.testing.assert_close(value, expected[key], rtol=1e-4, atol=1e-6)


def test_without_a_compiler_nothing_starts(fit, monkeypatch, tmp_path):
    monkeypatch.setattr(precision.shutil, "which", lambda name: None)
    with pytest.raises(InputError, match=r"neither g\+\+ nor clang\+\+ is installed"):
        fit("--model.compile", "true")
    assert not list(tmp_path.rglob("*.ckpt"))


# what is refused


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"ema": 1.0}, "ema is 1.0"),
        ({"encoder_lr": 0.0}, "encoder_lr is 0.0"),
        ({"layer_decay": 1.5}, "layer_decay is 1.5"),
        ({"layer_decay": 0.75, "options": NARROW}, "UNet has no timm encoder"),
        ({"freeze": ["encodr"]}, "did you mean 'encoder'"),
        ({"freeze": {"encoder": 0}}, "encoder: 0"),
        ({"freeze": ["encoder", "decoder", "head"]}, "whole network"),
        ({"compile": "max-autotun"}, "did you mean 'max-autotune'"),
        ({"compile": True, "activation_checkpointing": True}, "do not go together"),
        (
            {
                "architecture": "fcn8",
                "encoder": "vgg11",
                "options": {"width": 8},
                "activation_checkpointing": True,
            },
            "no list of levels",
        ),
    ],
    ids=str,
)
def test_an_option_that_does_not_fit_is_one_sentence_at_once(options, words):
    with torch.device("meta"), pytest.raises(InputError, match=words) as caught:
        SegmentationModule(**options)
    assert len(str(caught.value).splitlines()) == 1


def test_a_part_that_thaws_is_refused_on_several_devices():
    callback = callbacks_of_fit(SegmentationModule(options=NARROW, freeze={"encoder": 1}))[0]
    trainer = L.Trainer(accelerator="cpu", devices=2, strategy="ddp", logger=False)
    with pytest.raises(InputError, match="several devices cannot share"):
        callback.setup(trainer, None, "fit")


def test_options_of_the_optimiser_cannot_change_in_a_resumed_run(fit):
    fit()
    with pytest.raises(InputError, match=r"model.ema = None, which contradicts 0.9"):
        fit("--ckpt_path", "last", "--model.ema", "0.9", "--trainer.max_epochs", "2")


@pytest.mark.parametrize("encoder", ["test_resnet", "hrnet_w18_small"])
def test_layers_are_counted_for_every_parameter_of_the_encoder(encoder):
    with torch.device("meta"):
        network = net(encoder=encoder)
    assert isinstance(network.encoder, TimmEncoder)
    expected = {name for name, _ in network.named_parameters() if name.startswith("encoder.")}
    assert set(encoder_parameters(network, True)) == set(encoder_parameters(network)) == expected


def test_a_precision_that_the_machine_chose_is_no_change_of_the_recipe(tmp_path):
    (tmp_path / "r.yaml").write_text(
        "data: {dataset: phantom_polyp}\nmodel: {architecture: unet}\n"
    )
    recipe = yaml.safe_load((tmp_path / "r.yaml").read_text(encoding="utf-8"))
    runs_of = {
        p: training_settings(recipe | {"trainer": {"precision": p}})
        for p in (None, "32-true", "bf16-mixed")
    }
    assert runs_of["32-true"] == runs_of[None]
    assert runs_of["bf16-mixed"] != runs_of[None]
    assert not _changes(runs_of["bf16-mixed"], tmp_path / "r.yaml")
    (tmp_path / "r.yaml").write_text(
        "trainer: {precision: 16-mixed}\n" + (tmp_path / "r.yaml").read_text(encoding="utf-8")
    )
    assert _changes(runs_of["bf16-mixed"], tmp_path / "r.yaml") == {
        "trainer.precision": "bf16-mixed"
    }
