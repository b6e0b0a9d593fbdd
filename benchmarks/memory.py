"""Memory of training: what a step holds, by network and batch, counted on tensors without contents; and on a GPU, measured.

The count is that of all tensors, to a thousandth; it needs no hardware, and knows neither cuDNN's scratch nor the fragments of
the allocator: on a GPU both stand side by side.
"""

import gc
from collections.abc import Callable, Generator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from benchmarks._live import hollow, step_memory, without_contents
from benchmarks._section import Bars, Section, table
from lightning_seg.models import Output, create, find
from lightning_seg.models.frame.blocks import AttentionMap
from lightning_seg.runs.gpus import default_device
from lightning_seg.training.activation_checkpointing import checkpoint_activations
from lightning_seg.training.losses import WeightedLoss

Row = dict[str, Any]
GPU = 80e9  # bytes
SIZE, BATCHES = 256, (16, 64)
MEASURED = 16  # images on a real GPU


@dataclass(frozen=True)
class Candidate:
    """A network, built when it is wanted."""

    name: str
    make: Callable[[], nn.Module]


def candidates(smoke: bool = False) -> list[Candidate]:
    """UNet-A's six from scratch and others of the project, what spares memory switched on and off, and peers."""
    six = ("unet", "attention_unet", "resunet", "transunet", "unetplusplus", "unet3plus")
    if smoke:
        tiny: dict[str, Any] = getattr(find("unet"), "tiny", {})
        return [Candidate("unet", partial(create, "unet", **tiny))]
    found = [Candidate(f"{name}, from scratch", partial(create, name)) for name in six]
    found += [
        Candidate(f"{name}, activation checkpointing", partial(_checkpointing, name))
        for name in six
    ]
    for name, encoder in (("unet", "mobilenetv2_100"), ("attention_unet", "convnext_tiny.fb_in1k")):
        found.append(
            Candidate(
                f"{name} x {encoder.partition('.')[0]}", partial(create, name, encoder=encoder)
            )
        )
    found += [Candidate("pam_unet, maps never formed", partial(create, "pam_unet"))]
    found += [Candidate("pam_unet, maps formed and held", partial(_forming, "pam_unet"))]
    return [*found, Candidate("sa_unet_v2", partial(create, "sa_unet_v2")), *_peers()]


def _checkpointing(architecture: str) -> nn.Module:
    net = create(architecture)
    checkpoint_activations(net)
    return net


def _forming(architecture: str) -> nn.Module:
    """As if somebody looked at every attention map."""
    net = create(architecture)
    for module in net.modules():
        if isinstance(module, AttentionMap):
            module.register_forward_hook(lambda *_: None)
    return net


def _peers() -> list[Candidate]:
    import segmentation_models_pytorch as smp
    from monai.networks.nets import AttentionUnet, BasicUNetPlusPlus

    widths = (64, 128, 256, 512, 1024)
    return [
        Candidate(
            "smp.Unet x mobilenetv2_100",
            partial(smp.Unet, "tu-mobilenetv2_100", encoder_weights=None),
        ),
        Candidate(
            "smp.UnetPlusPlus x resnet34",
            partial(smp.UnetPlusPlus, "tu-resnet34", encoder_weights=None),
        ),
        Candidate("monai AttentionUnet", partial(AttentionUnet, 2, 3, 1, widths, (2, 2, 2, 2))),
        Candidate("monai BasicUNetPlusPlus", partial(_nested, BasicUNetPlusPlus)),
    ]


class _Last(nn.Module):
    """The one map of a network that gives a list of them."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.net(image)[-1]


def _nested(kind: Callable[..., nn.Module]) -> nn.Module:
    return _Last(kind(2, 3, 1, (64, 128, 256, 512, 1024, 64)))


def run(smoke: bool = False, compiled: bool = False) -> Section:
    """The section of the results; ``smoke``: one tiny network, ``compiled`` changes nothing."""
    rows = list(count(smoke))
    device = torch.device("cpu") if smoke else default_device()
    real = list(measure(device)) if device.type == "cuda" else []
    return section(rows, real)


def count(smoke: bool = False) -> Generator[Row]:
    """Bytes of a step of each candidate, batch and precision."""
    size, batches = (32, (1, 2)) if smoke else (SIZE, BATCHES)
    for candidate in candidates(smoke):
        for batch in batches:
            for precision in ("float32", "bfloat16"):
                with without_contents():
                    net = hollow(candidate.make).train()
                    found = step_memory(net, batch, size, precision == "bfloat16")
                parameters = sum(p.numel() for p in net.parameters())
                row = {
                    "network": candidate.name,
                    "batch": batch,
                    "size": size,
                    "precision": precision,
                }
                yield row | {"parameters": parameters, **found}


def measure(device: torch.device, smoke: bool = False) -> Generator[Row]:
    """What a real GPU's allocator says of some steps, beside the count, in bfloat16."""
    size, batch = (32, 2) if smoke else (SIZE, MEASURED)
    for candidate in candidates(smoke):
        with without_contents():
            counted = step_memory(hollow(candidate.make).train(), batch, size, True)["peak"]
        row = {"network": candidate.name, "batch": batch, "size": size, "counted": counted}
        try:
            yield row | {"allocated": _allocated(candidate.make, batch, size, device)}
        except torch.OutOfMemoryError as error:
            yield row | {"error": str(error).splitlines()[0]}
        gc.collect()
        torch.cuda.empty_cache()


def _allocated(
    make: Callable[[], nn.Module], batch: int, size: int, device: torch.device
) -> int | None:
    """Bytes at the peak of three steps; None on the CPU, which does not tell."""
    cuda = device.type == "cuda"
    net = make().to(device).to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    optimizer, loss_of = (
        torch.optim.AdamW(net.parameters(), fused=True),
        WeightedLoss({"bce": 0.5, "dice": 0.5}),
    )
    image = torch.rand(batch, 3, size, size, device=device).contiguous(
        memory_format=torch.channels_last
    )
    if cuda:
        torch.cuda.reset_peak_memory_stats(device)
    for _ in range(3 if cuda else 1):
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.bfloat16) if cuda else ExitStack():
            output = net(image)
        maps = [output.logits, *output.deep] if isinstance(output, Output) else [output]
        torch.stack([loss_of(logits.float(), image[:, :1]) for logits in maps]).sum().backward()
        optimizer.step()
    return torch.cuda.max_memory_allocated(device) if cuda else None


def section(rows: list[Row], real: list[Row]) -> Section:
    """Markdown, all numbers, and a chart."""
    columns = list(dict.fromkeys((row["batch"], row["precision"]) for row in rows))
    by_name: dict[str, dict[Any, Row]] = {}
    for row in rows:
        by_name.setdefault(row["network"], {})[row["batch"], row["precision"]] = row
    lines = []
    for name, found in by_name.items():
        first = next(iter(found.values()))
        cells = [name, f"{first['parameters']:,}", f"{first['held'] / 1e9:.2f}"]
        lines.append([*cells, *(_gigabytes(found[column]["peak"]) for column in columns)])
    heads = [
        "network",
        "parameters",
        "held between steps, GB",
        *(f"{b} images, {p}, GB" for b, p in columns),
    ]
    batch, precision = columns[-1]
    bars = {name: [found[batch, precision]["peak"] / 1e9] for name, found in by_name.items()}
    chart = Bars(
        f"Peak of a training step, {batch} images of {rows[0]['size']} px, {precision}",
        "GB",
        bars,
        GPU / 1e9,
    )
    parts = [_caption(rows[0]), table(heads, lines), *([_beside(real)] if real else [])]
    return Section("\n\n".join(parts), {"counted": rows, "measured": real}, {"peak": chart})


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.1f}" if count < GPU else f"**{count / 1e9:.1f}**"


def _beside(real: list[Row]) -> str:
    lines = [[row["network"], f"{row['counted'] / 1e9:.2f}", _read(row)] for row in real]
    heads = ("network", "counted, GB", "CUDA's allocator, GB")
    return f"{real[0]['batch']} images in bfloat16, on this GPU:\n\n{table(heads, lines)}"


def _read(row: Row) -> str:
    return row.get("error") or (
        "-" if row["allocated"] is None else f"{row['allocated'] / 1e9:.2f}"
    )


def _caption(row: Row) -> str:
    return (
        f"The most that a training step holds at {row['size']} x {row['size']}: weights, gradients and AdamW's state in float32, what "
        "the forward pass keeps for the backward pass, and what either makes on its way. Counted, to a thousandth, on tensors without "
        "contents; without cuDNN's scratch and the allocator's fragments. bfloat16: mixed precision, the project's default where the "
        "device has it, as a CPU does it: on a GPU layer norm and softmax stay in float32, and padding by replication does not. "
        f"**Bold**: does not fit {GPU / 1e9:.0f} GB."
    )
