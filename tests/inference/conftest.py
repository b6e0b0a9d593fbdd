"""Untrained checkpoints whose masks are neither empty nor full, and pictures to predict."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lightning_seg.data.sources.phantom import render_phantom
from lightning_seg.training.module import SegmentationModule

WIDTHS = {"widths": [4, 8]}


def write_checkpoint(
    path: Path, dataset: str = "kvasir_seg", size: int | None = 32, seed: int = 0, **changes: Any
) -> Path:
    """A file as `fit` writes it, of a tiny network; ``dataset_options`` and arguments of the module may be changed."""
    options = changes.pop("dataset_options", None)
    given = {
        "architecture": "unet",
        "options": WIDTHS,
        "classes": ["polyp"],
        "normalization": "symmetric",
        **changes,
    }
    torch.manual_seed(seed)
    module = SegmentationModule(**given).eval()
    noise = torch.rand(4, module.hparams["in_channels"], 32, 32)
    with torch.no_grad():
        head = [layer for layer in module.net.modules() if isinstance(layer, torch.nn.Conv2d)][-1]
        head.weight *= 20
        assert head.bias is not None
        head.bias -= module(noise).logits.mean((0, 2, 3))
    content = {
        "state_dict": module.state_dict(),
        "hyper_parameters": dict(module.hparams),
        "datamodule_hyper_parameters": {
            "dataset": dataset,
            "size": size,
            "dataset_options": options,
        },
        "lightning_seg": {},
    }
    torch.save(content, path)
    return path


def not_finite(path: Path, value: float, **options: Any) -> Path:
    """As `write_checkpoint`, of a network whose logits are ``value``."""
    file = write_checkpoint(path, **options)
    content = torch.load(file, weights_only=True)
    name = [key for key in content["state_dict"] if key.endswith("bias")][-1]
    content["state_dict"][name][:] = value
    torch.save(content, file)
    return file


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a network for polyps at 32 pixels."""
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint") / "polyp.ckpt")


@pytest.fixture(scope="session")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As ``checkpoint``, with other weights."""
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint") / "other.ckpt", seed=1)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of seven pictures of different sizes, one of them in a folder below."""
    folder = tmp_path / "pictures"
    (folder / "below").mkdir(parents=True)
    for number in range(7):
        image, _ = render_phantom("polyp", 42, number, 64)
        place = folder / ("below" if number == 6 else "") / f"picture {number}.png"
        Image.fromarray(image[: 64 - 3 * number, : 40 + 3 * number]).save(place)
    return folder


def read(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))
