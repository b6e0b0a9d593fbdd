"""Several devices: synchronized batch norm, who starts the processes, and what is refused."""

import copy
from pathlib import Path

import lightning as L
import pytest
import torch
import yaml
from lightning.pytorch.strategies import DDPStrategy
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from lightning_seg import cli
from lightning_seg.errors import InputError
from lightning_seg.models import create
from lightning_seg.training.devices import SyncedBatchNorm, check_layer_sync, trainer_plugins

ROOT = Path(__file__).parent.parent.parent
TINY = """
seed_everything: 1
trainer: {accelerator: cpu, enable_progress_bar: false, log_every_n_steps: 1, max_epochs: 1, precision: 32-true}
data: {dataset: phantom_polyp, protocol: %s, size: 64, batch_size: 4, dataset_options: {resolution: 64}}
model: {architecture: unet, encoder: mobilenetv2_035, lr: 0.01}
"""
# fused norms with activation, in several families of timm
FUSED = ("mobilenetv2_035", "efficientnet_b0", "mobilenetv3_small_050", "mnasnet_small")
PLAIN = ("resnet18", "test_convnext", "hrnet_w18_small")


def recipe_encoders():
    contents = [yaml.safe_load(file.read_text()) for file in ROOT.glob("experiments/*.yaml")]
    return {content["model"].get("encoder") for content in contents if "model" in content} - {None}


@pytest.fixture
def recipe(tmp_path):
    rows = [f"polyp-{i:04d},{'train' if i < 8 else 'val' if i < 15 else 'test'}" for i in range(20)]
    head = "# name: tiny\n# version: 1\n# rule: the first 20\nid,split\n"
    (tmp_path / "tiny.csv").write_text(head + "\n".join(rows) + "\n")
    (tmp_path / "tiny.yaml").write_text(TINY % (tmp_path / "tiny.csv"))
    return tmp_path / "tiny.yaml"


def settled(encoder):
    """A network whose norms have statistics of their own, so that each of them matters."""
    torch.manual_seed(0)
    net = create("unet", encoder=encoder, in_channels=3, num_classes=1)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return net.eval()


@pytest.mark.parametrize("encoder", sorted({*FUSED, *PLAIN} | recipe_encoders()))
def test_synchronized_norms_leave_the_logits_as_they_are(encoder):
    net = settled(encoder)
    kinds = {name: type(module) for name, module in net.named_modules()}
    state = copy.deepcopy(net.state_dict())
    image = torch.randn(1, 3, 64, 64)
    plugin = SyncedBatchNorm()
    with torch.inference_mode():
        before = net(image)
        synced = plugin.apply(net)
        during = synced(image)
        norms = [m for m in synced.modules() if isinstance(m, nn.BatchNorm2d)]
        restored = plugin.revert(synced)
        after = restored(image)
    assert not norms  # all were synchronized, if there were any
    torch.testing.assert_close(during, before, rtol=0, atol=0)
    torch.testing.assert_close(after, before, rtol=0, atol=0)
    assert {name: type(module) for name, module in restored.named_modules()} == kinds
    assert restored.state_dict().keys() == state.keys()


def test_what_was_learned_while_synchronized_stays_when_reverted():
    net, plugin = settled("mobilenetv2_035"), SyncedBatchNorm()
    synced = plugin.apply(net).train()
    image = torch.randn(2, 3, 64, 64)
    synced(image).sum().backward()
    torch.optim.SGD(synced.parameters(), 0.1).step()
    synced.double().float()  # as a move to a device, which puts new buffers in place
    synced.train()(image)
    learned = copy.deepcopy(synced.state_dict())
    restored = plugin.revert(synced)
    assert all(module.training for module in restored.modules())
    torch.testing.assert_close(restored.state_dict(), learned)


class OwnNorm(nn.BatchNorm2d):
    def forward(self, x):
        return super().forward(x).relu()


def test_a_norm_that_computes_in_its_own_way_is_refused():
    with pytest.raises(InputError, match="0 is a OwnNorm"):
        SyncedBatchNorm().apply(nn.Sequential(OwnNorm(3)))


def test_lightnings_own_plugin_is_refused():
    trainer = L.Trainer(
        accelerator="cpu", devices=2, strategy="ddp", sync_batchnorm=True, logger=False
    )
    with pytest.raises(InputError, match="SyncedBatchNorm"):
        check_layer_sync(trainer.strategy)


def test_a_plugin_of_the_user_leaves_ours_of_other_kinds_in_place():
    from lightning.pytorch.plugins import MixedPrecision

    kinds = [
        type(plugin).__name__
        for plugin in trainer_plugins(MixedPrecision("bf16-mixed", "cpu"), True)
    ]
    assert kinds == ["MixedPrecision", "AtomicCheckpointIO", "SyncedBatchNorm"]


def test_the_score_in_fit_is_that_of_validate_under_sync_batchnorm(recipe, tmp_path, monkeypatch):
    # torch synchronizes on GPUs only; the one process here has nothing to wait for
    monkeypatch.setattr(nn.SyncBatchNorm, "forward", _BatchNorm.forward)
    monkeypatch.setattr(DDPStrategy, "configure_ddp", lambda strategy: None)
    where = ["--runs", str(tmp_path), "--trainer.devices", "1"]
    synced = ["--trainer.strategy", "ddp", "--trainer.sync_batchnorm", "true"]
    try:
        fit = cli.run(["fit", "-c", str(recipe), *where, *synced])
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
    best = fit.trainer.checkpoint_callback.best_model_path
    assert any("act" in name for name, _ in fit.model.net.named_modules())
    validated = cli.run(["validate", "--ckpt_path", best, *where])
    inside, alone = (run.trainer.callback_metrics for run in (fit, validated))
    assert float(alone["val/loss"]) == pytest.approx(float(inside["val/loss"]), rel=1e-4)
    assert float(alone["val/dice"]) == pytest.approx(float(inside["val/dice"]), abs=1e-4)
