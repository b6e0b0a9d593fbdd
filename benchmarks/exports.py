"""Every architecture of the registry as an ONNX file: what sizes it takes, and how far onnxruntime's logits are from torch's."""

import tempfile
from pathlib import Path
from typing import Any

import torch

from lightning_seg import models
from lightning_seg.errors import InputError
from lightning_seg.export.onnx import OPSET, export_onnx
from lightning_seg.export.verify import LOGITS
from lightning_seg.module import SegmentationModule

SMOKE = ("unet", "dca_unet")


def run(smoke: bool = False, compiled: bool = False) -> str:
    """The section of the results, in Markdown; ``smoke``: small forms of two networks, ``compiled`` changes nothing."""
    size = 32 if smoke else 64
    lines = ["| network | parameters | batch | height and width | largest difference of logits | MiB |"]
    lines.append("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        for name in SMOKE if smoke else models.names():
            lines.append(row(name, getattr(models.find(name), "tiny", {}) if smoke else {}, size, Path(scratch)))
            print(lines[-1], flush=True)
    caption = (
        f"Random weights{', small forms' if smoke else ', default widths'}, made for {size} x {size}, opset {OPSET}, verified by the "
        f"export itself on phantoms at three sizes, alone and in twos, with onnxruntime on the CPU; {LOGITS:g} is allowed."
    )
    return f"{caption}\n\n" + "\n".join(lines)


def row(name: str, options: dict[str, Any], size: int, scratch: Path) -> str:
    """The line of one architecture in the table."""
    checkpoint, output = scratch / f"{name}.ckpt", scratch / f"{name}.onnx"
    parameters = write_checkpoint(checkpoint, name, options, size)
    try:
        shapes, _, verified = export_onnx(checkpoint, output)
    except InputError as error:
        return f"| {name} | {parameters / 1e6:.1f} M | not written | | {error} | |"
    sides = f"{shapes.side} only" if shapes.side else "any"
    because = f" ({shapes.reason})" if shapes.reason else ""
    megabytes, difference = output.stat().st_size / 2**20, verified.found.max_difference
    output.unlink()
    batch = "any" if shapes.batch else "1"
    return f"| {name} | {parameters / 1e6:.1f} M | {batch} | {sides}{because} | {difference:.1e} | {megabytes:.1f} |"


def write_checkpoint(file: Path, architecture: str, options: dict[str, Any], size: int) -> int:
    """A checkpoint of an untrained network; returns its number of parameters."""
    given = dict(options)
    encoder = given.pop("encoder", None)
    torch.manual_seed(0)
    module = SegmentationModule(architecture, encoder=encoder, options=given, classes=["polyp"])
    content = {
        "state_dict": module.state_dict(),
        "hyper_parameters": dict(module.hparams),
        "datamodule_hyper_parameters": {"dataset": "phantom_polyp", "size": size},
    }
    torch.save(content, file)
    return sum(parameter.numel() for parameter in module.net.parameters())
