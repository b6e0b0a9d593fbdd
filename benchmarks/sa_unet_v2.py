"""SA-UNetv2 on one image of DRIVE's padded size on the CPU: plain torch against the way the project predicts.

The paper (Guo et al. 2025) gives 0.95 s for one image of 592 x 592 on two Xeon cores: other hardware, so only for orientation.
"""

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from benchmarks._environment import cpu_has
from lightning_seg.module import SegmentationModule

SIZE, SMOKE_SIZE = 592, 32
PAPER_SECONDS = 0.95
REPETITIONS, SMOKE_REPETITIONS = 30, 2
WARM_UP = 2
BFLOAT16_FLAGS = ("avx512_bf16", "amx_bf16")

Variant = Callable[[], Tensor]  # -> probabilities (1, 1, H, W)


@dataclass(frozen=True)
class Measured:
    """Seconds of each repetition, and the largest change of a probability against the plain forward pass."""

    seconds: list[float]
    difference: float


def run(smoke: bool = False, compiled: bool = False) -> str:
    """The section of the results, in Markdown; ``smoke``: tiny and twice, ``compiled``: with a row for torch.compile."""
    size, repetitions = (SMOKE_SIZE, SMOKE_REPETITIONS) if smoke else (SIZE, REPETITIONS)
    torch.manual_seed(0)
    image = torch.rand(1, 3, size, size)
    measured = measure(variants(image, compiled), repetitions)
    return f"{_caption(size, repetitions)}\n\n{table(measured)}"


def variants(image: Tensor, compiled: bool = False) -> dict[str, Variant]:
    """What is compared, by name; the first is the plain forward pass."""
    torch.manual_seed(0)
    module = SegmentationModule("sa_unet_v2", normalization="unit").eval()
    net = copy.deepcopy(module.net).to(memory_format=torch.contiguous_format)

    def plain() -> Tensor:
        return net(image).detach().sigmoid()

    def project(module: SegmentationModule = module) -> Tensor:
        with torch.inference_mode():
            return module.predict_step({"image": image}, 0)

    def bfloat16() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return project()

    found: dict[str, Variant] = {"plain: eager, float32, NCHW, gradients recorded": plain}
    found["project: inference mode, channels last"] = project
    if any(map(cpu_has, BFLOAT16_FLAGS)):  # elsewhere it is emulated
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
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for repetition in range(-WARM_UP, repetitions):
        start = repetition % len(names)
        for name in names[start:] + names[:start]:
            begin = time.perf_counter()
            variants[name]()
            if repetition >= 0:
                seconds[name].append(time.perf_counter() - begin)
    return {name: Measured(seconds[name], differences[name]) for name in names}


def table(measured: dict[str, Measured]) -> str:
    """One line per variant; ratios are those within a repetition."""
    first = next(iter(measured))
    plain = np.array(measured[first].seconds)
    columns = ("variant", "times as fast as plain", f"seconds (paper: {PAPER_SECONDS} on two Xeon cores)")
    lines = [f"| {' | '.join(columns)} | largest change of a probability |", "|---|---|---|---|"]
    for name, result in measured.items():
        seconds = np.array(result.seconds)
        ratio = "1" if name == first else _spread(plain / seconds, 2)
        lines.append(f"| {name} | {ratio} | {_spread(seconds, 3)} | {result.difference:.1e} |")
    return "\n".join(lines)


def _spread(values: np.ndarray, digits: int) -> str:
    lower, median, upper = np.quantile(values, [0.25, 0.5, 0.75])
    return f"{median:.{digits}f} [{lower:.{digits}f}, {upper:.{digits}f}]"


def _caption(size: int, repetitions: int) -> str:
    text = (
        f"SA-UNetv2 (260,521 parameters, random weights), one image of {size} x {size}, from image to probabilities. "
        f"Median [quartiles] of {repetitions} interleaved repetitions."
    )
    if not any(map(cpu_has, BFLOAT16_FLAGS)):
        text += f" No bfloat16: this processor has none of {', '.join(BFLOAT16_FLAGS)}."
    return text
