"""Every architecture of the registry as an ONNX file: what sizes it takes, and how far onnxruntime's logits are from torch's."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lightning_seg import models
from lightning_seg.data.sources.phantom import render_phantom
from lightning_seg.errors import InputError
from lightning_seg.export.onnx import OPSET, export_onnx
from lightning_seg.export.verify import LOGITS
from lightning_seg.training.module import SegmentationModule

SMOKE = ("unet", "dca_unet")


def run(smoke: bool = False, compiled: bool = False) -> str:
    """The section of the results, in Markdown; ``smoke``: small forms of two networks, ``compiled`` changes nothing."""
    size = 32 if smoke else 64
    lines = [
        "| network | parameters | batch | height and width | largest logit | largest difference | MiB |"
    ]
    lines.append("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        for name in SMOKE if smoke else models.names():
            lines.append(
                row(
                    name,
                    getattr(models.find(name), "tiny", {}) if smoke else {},
                    size,
                    Path(scratch),
                )
            )
            print(lines[-1], flush=True)
    caption = (
        f"Untrained{', small forms' if smoke else ', default widths'}, batch norm's statistics from phantoms, for {size} x {size}, "
        f"opset {OPSET}. Verified by the export itself on phantoms at three sizes, alone and in twos, with onnxruntime on the CPU; "
        f"{LOGITS:g} is allowed."
    )
    return f"{caption}\n\n" + "\n".join(lines)


def row(name: str, options: dict[str, Any], size: int, scratch: Path) -> str:
    """The line of one architecture in the table."""
    checkpoint, output = scratch / f"{name}.ckpt", scratch / f"{name}.onnx"
    parameters = write_checkpoint(checkpoint, name, options, size)
    try:
        shapes, _, verified = export_onnx(checkpoint, output)
    except InputError as error:
        return f"| {name} | {parameters / 1e6:.1f} M | not written | {error} | | | |"
    sides = f"{shapes.side} only" if shapes.side else "any"
    because = f" ({shapes.reason})" if shapes.reason else ""
    found, megabytes = verified.found, output.stat().st_size / 2**20
    output.unlink()
    batch = "any" if shapes.batch else "1"
    numbers = f"{found.largest:.2g} | {found.max_difference:.1e} | {megabytes:.1f}"
    return f"| {name} | {parameters / 1e6:.1f} M | {batch} | {sides}{because} | {numbers} |"


def write_checkpoint(file: Path, architecture: str, options: dict[str, Any], size: int) -> int:
    """A checkpoint of an untrained network; returns its number of parameters."""
    given = dict(options)
    encoder = given.pop("encoder", None)
    torch.manual_seed(0)
    module = SegmentationModule(architecture, encoder=encoder, options=given, classes=["polyp"])
    _settle(module, size)
    content = {
        "state_dict": module.state_dict(),
        "hyper_parameters": dict(module.hparams),
        "datamodule_hyper_parameters": {"dataset": "phantom_polyp", "size": size},
    }
    torch.save(content, file)
    return sum(parameter.numel() for parameter in module.net.parameters())


@torch.no_grad()
def _settle(module: SegmentationModule, size: int) -> None:
    """Batch norm's statistics from phantoms: with those it starts from, logits vanish or explode, and differences with them."""
    for norm in module.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            norm.momentum = None  # the mean over all batches
    pictures = np.stack([render_phantom("polyp", 7, index, 2 * size)[0] for index in range(8)])
    module.train()(torch.from_numpy(pictures).permute(0, 3, 1, 2))
    module.eval()
