"""Several ways to do one thing, timed in turn; and what a device can do at most."""

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch

WARM_UP = 2
TENSOR_FLOAT = "float32 (TF32 products)"  # on a GPU that computes in bfloat16, too


def has_bfloat16(device: torch.device) -> bool:
    """In hardware, where `fit` uses it unasked; elsewhere it is emulated."""
    from lightning_seg.training.precision import automatic_precision  # which imports Lightning

    return automatic_precision(device.type)[0] == "bf16-mixed"


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def in_turn(
    ways: Mapping[str, Callable[[], Any]],
    repetitions: int,
    device: torch.device | None = None,
    warm_up: int = WARM_UP,
) -> dict[str, list[float]]:
    """Seconds of each way, once per repetition, each time another one first: what disturbs the machine disturbs them all."""
    names, device = list(ways), device or torch.device("cpu")
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for repetition in range(-warm_up, repetitions):
        start = repetition % len(names)
        for name in names[start:] + names[:start]:
            synchronize(device)
            begin = time.perf_counter()
            ways[name]()
            synchronize(device)
            if repetition >= 0:
                seconds[name].append(time.perf_counter() - begin)
    return seconds


def matrix_rates(device: torch.device, smoke: bool = False) -> dict[str, list[float]]:
    """FLOP/s of large square matrix products, by precision, float32 as a training has it: more than any network reaches."""
    cuda, bfloat16 = device.type == "cuda", has_bfloat16(device)
    side, count = (
        (64, 1) if smoke else (8192, 20) if cuda else (2048, 1)
    )  # on a GPU one alone is over in a millisecond
    kinds = {TENSOR_FLOAT if cuda and bfloat16 else "float32": torch.float32}
    kinds |= {"bfloat16": torch.bfloat16} if bfloat16 else {}
    factors = {
        name: torch.rand(side, side, device=device, dtype=dtype) for name, dtype in kinds.items()
    }

    def products(factor: torch.Tensor) -> None:
        for _ in range(count):
            factor @ factor

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        ways = {name: partial(products, factor) for name, factor in factors.items()}
        seconds = in_turn(ways, 2 if smoke else 7, device)
    finally:
        torch.set_float32_matmul_precision(before)
    return {name: [2 * count * side**3 / s for s in found] for name, found in seconds.items()}
