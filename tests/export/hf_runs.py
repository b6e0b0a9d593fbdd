"""Shared by the tests of the Hugging Face export: untrained checkpoints, and a real tiny run."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lightning_seg.data.sources.phantom import render_phantom
from lightning_seg.export._check import clean_environment
from lightning_seg.export._load_alone import ABSENT
from lightning_seg.training.module import SegmentationModule

WIDTHS = {"widths": [4, 8]}


def build(architecture: str = "unet", seed: int = 0, **arguments: Any) -> SegmentationModule:
    """A module whose batch norms have seen images and whose logits of phantoms are of both signs, in evaluation mode."""
    torch.manual_seed(seed)
    module = SegmentationModule(architecture, **arguments).train()
    noise = torch.rand(4, module.hparams["in_channels"], 64, 64)
    with torch.no_grad():
        module(noise)
        module.eval()
        heads = [
            m for m in module.net.modules() if isinstance(m, torch.nn.Conv2d) and m.bias is not None
        ]
        heads[-1].weight *= 10
        heads[-1].bias -= module(_phantoms(module.hparams["in_channels"])).logits.mean((0, 2, 3))
    return module


def _phantoms(channels: int) -> torch.Tensor:
    images = np.stack([render_phantom("polyp", 0, index, 64)[0] for index in (2, 5)])[
        ..., np.arange(channels) % 3
    ]
    return torch.from_numpy(images.transpose(0, 3, 1, 2).copy())


def write_checkpoint(
    path: Path, size: int | None = 32, dataset: str = "kvasir_seg", **arguments: Any
) -> Path:
    """A file as `fit` writes it."""
    module = build(**({"options": WIDTHS, "classes": ["polyp"]} | arguments))
    data = {
        "dataset": dataset,
        "size": size,
        "batch_size": 4,
        "seed": 42,
        "augment": None,
        "dataset_options": None,
    }
    content = {
        "state_dict": module.state_dict(),
        "hyper_parameters": dict(module.hparams),
        "datamodule_hyper_parameters": data,
        "lightning_seg": {"protocol": "kvasir-unet-a-v2", "protocol_digest": "e4f391a18136"},
        "epoch": 3,
        "global_step": 40,
    }
    torch.save(content, path)
    return path


def run_alone(code: str, folder: Path) -> str:
    """What a script prints in ``folder``, in an interpreter of its own that has neither lightning_seg nor its libraries."""
    absent = f"import sys\nsys.modules |= dict.fromkeys({ABSENT!r})\n"
    done = subprocess.run(
        [sys.executable, "-P", "-c", absent + code],
        cwd=folder,
        env=clean_environment(str(folder)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
