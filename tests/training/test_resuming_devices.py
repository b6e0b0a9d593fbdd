"""A run that goes on with another number of devices equals one that never changed them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lightning_seg import cli
from lightning_seg.runs import Run

ROOT = Path(__file__).parent.parent.parent
TINY = """
seed_everything: 1
trainer: {accelerator: cpu, precision: 32-true, enable_progress_bar: false, logger: false}
data: {dataset: phantom_polyp, protocol: %s, size: 32, batch_size: 4, num_workers: 0, dataset_options: {resolution: 32}}
model: {architecture: "free_net:FreeNet", loss: {bce: {weight: 1.0, pos_weight: 12.0}}, lr: 0.03, schedule: constant, ema: 0.5}
"""
# no batch norm: its statistics are those of the images of one device
NET = """
from torch import nn

class FreeNet(nn.Sequential):
    def __init__(self, in_channels, num_classes):
        first, second = nn.Conv2d(in_channels, 8, 5, padding=2), nn.Conv2d(8, num_classes, 1)
        super().__init__(first, nn.ReLU(), second)
"""


@pytest.fixture
def fit(tmp_path, monkeypatch):
    """`fit` until an epoch, in processes of its own where there are several."""
    rows = [
        f"polyp-{i:04d},{'train' if i < 16 else 'val' if i < 23 else 'test'}" for i in range(25)
    ]
    head = "# name: tiny\n# version: 1\n# rule: the first 25\nid,split\n"
    (tmp_path / "tiny.csv").write_text(head + "\n".join(rows) + "\n")
    (tmp_path / "tiny.yaml").write_text(TINY % (tmp_path / "tiny.csv"))
    (tmp_path / "free_net.py").write_text(NET)
    monkeypatch.syspath_prepend(str(tmp_path))
    path = f"{ROOT}{os.pathsep}{tmp_path}"
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}

    def run(name, devices, epochs, *more):
        args = ["fit", "-c", str(tmp_path / "tiny.yaml"), "--runs", str(tmp_path), "--name", name]
        args += ["--trust_code", "--trainer.max_epochs", str(epochs), *more]
        if devices == 1:
            cli.run(args)
        else:
            several = ["--trainer.strategy", "ddp", "--trainer.devices", str(devices)]
            command = [sys.executable, "-m", "lightning_seg", *args, *several]
            pipes = {"capture_output": True, "text": True, "timeout": 400}
            done = subprocess.run(command, env=environment, **pipes)
            assert done.returncode == 0, done.stderr
        return Run.open(tmp_path / name)

    return run


def scores(run):
    done = cli.run(["validate", "--ckpt_path", str(run.last.path), "--trust_code"])
    return {name: float(value) for name, value in done.trainer.callback_metrics.items()}


def weights(run):
    return torch.load(run.last.path, weights_only=True)["state_dict"]


@pytest.mark.slow
def test_two_devices_then_one_then_two_equal_two_throughout(fit):
    whole = fit("whole", 2, 3)
    fit("changing", 2, 1)
    fit("changing", 1, 2, "--ckpt_path", "last")
    changing = fit("changing", 2, 3, "--ckpt_path", "last")
    torch.testing.assert_close(weights(changing), weights(whole), rtol=1e-4, atol=1e-5)
    assert changing.last.step == whole.last.step == 12
    assert (changing.best.epoch, changing.best.value) == (
        whole.best.epoch,
        pytest.approx(whole.best.value, abs=1e-3),
    )
    expected = scores(whole)
    assert 0.1 < expected["val/dice"] < 1
    assert scores(changing) == pytest.approx(expected, abs=1e-3)
