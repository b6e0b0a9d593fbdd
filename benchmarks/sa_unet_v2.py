"""SA-UNetv2 on one image of DRIVE's padded size on the CPU: plain torch against the way the project predicts.

The paper (Guo et al. 2025) gives 0.95 s for one image of 592 x 592 on two Xeon cores: other hardware, so only for orientation.
"""

import copy
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from benchmarks._section import Bars, Section, ratios, spread
from benchmarks._timing import has_bfloat16, in_turn
from lightning_seg.training.module import SegmentationModule
from lightning_seg.training.precision import BFLOAT16_UNITS

SIZE, SMOKE_SIZE = 592, 32
PAPER_SECONDS = 0.95
REPETITIONS, SMOKE_REPETITIONS = 30, 2

Variant = Callable[[], Tensor]  # -> probabilities (1, 1, H, W)


@dataclass(frozen=True)
class Measured:
    """Seconds of each repetition, and the largest change of a probability against the plain forward pass."""

    seconds: list[float]
    difference: float


def run(smoke: bool = False, compiled: bool = False) -> Section:
    """The section of the results; ``smoke``: tiny and twice, ``compiled``: with a row for torch.compile."""
    size, repetitions = (SMOKE_SIZE, SMOKE_REPETITIONS) if smoke else (SIZE, REPETITIONS)
    torch.manual_seed(0)
    image = torch.rand(1, 3, size, size)
    measured = measure(variants(image, compiled), repetitions)
    first, *others = measured
    faster = {name: ratios(measured[first].seconds, measured[name].seconds) for name in others}
    chart = Bars("SA-UNetv2, one image, against plain torch", "times as fast", faster, 1.0)
    data = {name: dataclasses.asdict(found) for name, found in measured.items()}
    return Section(f"{_caption(size, repetitions)}\n\n{table(measured)}", data, {"speed": chart})


def variants(image: Tensor, compiled: bool = False) -> dict[str, Variant]:
    """What is compared, by name; the first is the plain forward pass."""
    torch.manual_seed(0)
    module = SegmentationModule("sa_unet_v2", normalization="unit").eval()
    net = copy.deepcopy(module.net).to(memory_format=torch.contiguous_format)

    @torch.no_grad()
    def plain() -> Tensor:
        return net(image).sigmoid()

    def project(module: SegmentationModule = module) -> Tensor:
        with torch.inference_mode():
            return module.predict_step({"image": image}, 0)

    def bfloat16() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return project()

    found: dict[str, Variant] = {"plain: eager, float32, NCHW, no gradients": plain}
    found["project: inference mode, channels last"] = project
    if has_bfloat16(image.device):
        found["project, bfloat16 autocast"] = bfloat16
    if compiled:
        other = copy.deepcopy(module)
        other.net.compile()
        found["project, torch.compile"] = partial(project, other)
    return found


def measure(variants: dict[str, Variant], repetitions: int) -> dict[str, Measured]:
    """Each variant once per repetition, in turn, each time another one first: what disturbs the machine disturbs them all."""
    names = list(variants)
    reference = variants[names[0]]()
    differences = {name: float((variants[name]() - reference).abs().max()) for name in names}
    seconds = in_turn(variants, repetitions)
    return {name: Measured(seconds[name], differences[name]) for name in names}


def table(measured: dict[str, Measured]) -> str:
    """One line per variant; ratios are those within a repetition."""
    first = next(iter(measured))
    plain = np.array(measured[first].seconds)
    columns = (
        "variant",
        "times as fast as plain",
        f"seconds (paper: {PAPER_SECONDS} on two Xeon cores)",
    )
    lines = [f"| {' | '.join(columns)} | largest change of a probability |", "|---|---|---|---|"]
    for name, result in measured.items():
        seconds = np.array(result.seconds)
        ratio = "1" if name == first else spread(plain / seconds, 2)
        lines.append(f"| {name} | {ratio} | {spread(seconds, 3)} | {result.difference:.1e} |")
    return "\n".join(lines)


def _caption(size: int, repetitions: int) -> str:
    text = (
        f"SA-UNetv2 (260,521 parameters, random weights), one image of {size} x {size}, from image to probabilities. "
        f"Median [quartiles] of {repetitions} interleaved repetitions."
    )
    if not has_bfloat16(torch.device("cpu")):
        text += f" No bfloat16: this processor has none of {', '.join(BFLOAT16_UNITS)}."
    return text
