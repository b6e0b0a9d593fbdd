"""A training step of the papers' own networks at their own sizes, beside what a matrix product reaches on this device."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch

from benchmarks._section import Bars, Section, spread, table
from benchmarks._timing import has_bfloat16, in_turn, matrix_rates
from lightning_seg.models.frame.listing import count
from lightning_seg.runs.gpus import default_device
from lightning_seg.training.heap import keep_freed_memory
from lightning_seg.training.module import SegmentationModule
from lightning_seg.training.precision import BFLOAT16_UNITS

REPETITIONS, SMOKE_REPETITIONS = 5, 2
PASSES = 3  # forward, and two of its size backward
Limits = dict[str, float]  # precision -> FLOP/s of a large matrix product


@dataclass(frozen=True)
class Trained:
    """A network with the options, the batch and the size of its recipe."""

    name: str
    architecture: str
    size: int
    batch: int
    options: dict[str, Any] = field(default_factory=dict)
    encoder: str | None = None


NETWORKS = (
    Trained("SA-UNetv2", "sa_unet_v2", 592, 2),
    Trained("PAM-UNet without attention", "pam_unet", 128, 8, {"attention": "none"}),
    Trained("PAM-UNet", "pam_unet", 128, 8, {"attention": "pla"}),
    Trained("PAM-UNet, regularised", "pam_unet", 128, 8, {"attention": "pla", "regularizer": 0.01}),
    Trained("U-Net x MobileNetV2", "unet", 256, 8, encoder="mobilenetv2_100"),
)
SMOKE_NETWORKS = (Trained("SA-UNetv2", "sa_unet_v2", 32, 2),)


def run(smoke: bool = False, compiled: bool = False) -> Section:
    """The section of the results; ``smoke``: one network, small, ``compiled`` changes nothing."""
    device = torch.device("cpu") if smoke else default_device()
    keep_freed_memory()  # as `fit` does on a CPU
    limits = {name: float(np.median(rates)) for name, rates in matrix_rates(device, smoke).items()}
    repetitions = SMOKE_REPETITIONS if smoke else REPETITIONS
    networks = SMOKE_NETWORKS if smoke else NETWORKS
    rows = [row for network in networks for row in _rows(network, device, limits, repetitions)]
    heads = ("network", "size", "batch", "precision", "ms an image", "GFLOP/s", "% of the limit")
    bars = {f"{row['network']}, {row['precision']}": _shares(row) for row in rows}
    chart = Bars("Training steps", "% of a large matrix product's rate", bars)
    text = f"{_caption(limits, repetitions)}\n\n{table(heads, map(_cells, rows))}"
    return Section(text, {"rows": rows, "limits": limits}, {"limit": chart})


def _rows(
    network: Trained,
    device: torch.device,
    limits: Limits,
    repetitions: int,
) -> Iterator[dict[str, Any]]:
    """One per precision, measured in turn."""
    torch.manual_seed(0)
    module = SegmentationModule(
        network.architecture, encoder=network.encoder, options=network.options
    )
    module.to(device).train()
    image = torch.rand(network.batch, 3, network.size, network.size, device=device)
    mask = (image[:, :1] > 0.5).float()
    precisions = ["32-true", *(["bf16-mixed"] if has_bfloat16(device) else [])]
    steps: dict[str, Callable[[], None]] = {
        precision: partial(_step, module, image, mask, precision) for precision in precisions
    }
    macs = count(network.architecture, network.size, encoder=network.encoder, **network.options)[1]
    for (precision, seconds), limit in zip(
        in_turn(steps, repetitions, device, warm_up=1).items(), limits.values(), strict=True
    ):
        yield {
            "network": network.name,
            "size": network.size,
            "batch": network.batch,
            "precision": precision,
            "seconds": seconds,
            "flop": 2 * PASSES * macs * network.batch,
            "limit": limit,
        }


def _step(
    module: SegmentationModule,
    image: torch.Tensor,
    mask: torch.Tensor,
    precision: str,
) -> None:
    mixed = torch.autocast(image.device.type, torch.bfloat16)
    module.zero_grad()
    with mixed if precision == "bf16-mixed" else nullcontext():
        output = module(image)
        loss = module.loss(output.logits, mask)
    loss = loss if output.penalty is None else loss + output.penalty
    loss.backward()


def _shares(row: dict[str, Any]) -> list[float]:
    """Per cent of the matrix product's rate, a repetition each."""
    return [100 * row["flop"] / seconds / row["limit"] for seconds in row["seconds"]]


def _cells(row: dict[str, Any]) -> list[str]:
    seconds = row["seconds"]
    return [
        row["network"],
        str(row["size"]),
        str(row["batch"]),
        row["precision"],
        spread([1000 * one / row["batch"] for one in seconds], 0),
        spread([row["flop"] / one / 1e9 for one in seconds], 0),
        spread(_shares(row), 0),
    ]


def _caption(limits: Limits, repetitions: int) -> str:
    most = ", ".join(f"{name} {rate / 1e9:.0f} GFLOP/s" for name, rate in limits.items())
    text = (
        "Forward, loss and backward on a random batch, without the optimiser; median [quartiles] of "
        f"{repetitions} repetitions in turn. A step is counted as six times the multiply-adds. The limit "
        f"is a large matrix product: {most}."
    )
    if len(limits) == 1:
        text += f" No bfloat16: this processor has none of {', '.join(BFLOAT16_UNITS)}."
    return text
