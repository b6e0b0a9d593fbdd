"""That an exported folder gives the checkpoint's logits, in an interpreter without lightning_seg,
on phantoms."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from lightning_seg.data.sources.phantom import render_phantom
from lightning_seg.errors import InputError
from lightning_seg.inference.ensemble import Ensemble

SCRIPT = Path(__file__).with_name("_load_alone.py")
TOLERANCE = 1e-4  # of logits
_POLYPS = (2, 5)  # phantoms that show one
_NATIVE = 128  # where the network takes images of any size


class FolderDifference(NamedTuple):
    """The largest ones: of logits, of pixels that the processor scaled in grey levels; ``pixels``:
    the share that differs; ``note``: what must be said of the input."""

    logits: float
    grey_levels: int
    pixels: float
    note: str = ""


def check_folder(folder: Path, network: Ensemble) -> FolderDifference:
    """Compare the folder with the network; InputError where it does not load, or is too far off."""
    pictures, form = _phantom_pictures(network), network.trained.picture
    read = list(pictures)
    if form.window is not None:
        # of any depth: a tenth of the values lies beyond the window
        pictures = _stored_values(pictures, form.window)
        read = [form.take(picture) for picture in pictures]
    scaled = torch.from_numpy(np.stack([network.scale(picture) for picture in read]))
    scaled = scaled.permute(0, 3, 1, 2)
    images = scaled.float() / 255
    with torch.inference_mode():
        logits = network.modules[0](images).logits.float()
    found = _load_alone(folder, {"pixel_values": images, "pictures": torch.from_numpy(pictures)})
    grey = ((found["processed"] - images) * 255).abs().round()
    difference = FolderDifference(
        float((found["logits"] - logits).abs().max()),
        int(grey.max()),
        float((grey > 0).float().mean()),
    )
    if (
        not difference.logits <= TOLERANCE or difference.grey_levels > 1
    ):  # also where it is no number
        raise InputError(
            "the exported model is not the checkpoint: logits differ by up to "
            f"{difference.logits:.1e} (allowed {TOLERANCE:g}) "
            f"and scaled pictures by {difference.grey_levels} grey levels (allowed 1), so nothing "
            "was written; report this "
            "network with its checkpoint."
        )
    return difference


def _phantom_pictures(network: Ensemble) -> np.ndarray:
    """Phantoms (B, H, W, C) uint8, larger than the network's size and not square."""
    channels, side = network.trained.in_channels, network.trained.size
    height = _NATIVE if side is None else max(16, side * 4 // 3)
    images = np.stack([render_phantom("polyp", 0, index, height)[0] for index in _POLYPS])
    if channels != 3:
        images = images[..., np.arange(channels) % 3]
    return np.ascontiguousarray(images[:, :, : height - height // 8])


def _stored_values(pictures: np.ndarray, window: tuple[float, float] | str) -> np.ndarray:
    """Pictures (B, H, W, C) uint8 as float32 values that a window brings to 8 bits."""
    low, high = (0.0, 4095.0) if isinstance(window, str) else window
    share = pictures.astype(np.float32) / 255 * 1.1 - 0.05
    return np.float32(low) + share * np.float32(high - low)


def _load_alone(
    folder: Path,
    tensors: dict[str, Tensor],
) -> dict[str, Tensor]:
    """Run `_load_alone.py` and return what it finds; InputError with its last words where it
    fails."""
    with tempfile.TemporaryDirectory() as scratch:
        given, found = Path(scratch) / "given.safetensors", Path(scratch) / "found.safetensors"
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, given)
        command = [sys.executable, "-P", str(SCRIPT), str(folder.resolve()), str(given), str(found)]
        done = subprocess.run(
            command,
            cwd=scratch,
            env=clean_environment(scratch),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no reason was given"])[-1]
            raise InputError(
                "the exported model does not load without lightning_seg, so nothing was written; "
                f"the reason was: {last}"
            )
        return load_file(found)


def clean_environment(scratch: str) -> dict[str, str]:
    """The environment of a process that finds no cached model code and asks no network."""
    places = {
        "HF_HOME": scratch,
        "HF_MODULES_CACHE": f"{scratch}/modules",
        "HF_HUB_CACHE": f"{scratch}/hub",
    }
    offline = {
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("HF_", "TRANSFORMERS_"))
    }
    return kept | places | offline
