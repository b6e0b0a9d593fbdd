"""Several ways to do one thing, timed in turn; and what a device can do at most."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import torch

from lightning_seg.acceleration import automatic_precision

WARM_UP = 2


def find_device() -> torch.device:
    """The GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def has_bfloat16(device: torch.device) -> bool:
    """In hardware, where `fit` uses it unasked; elsewhere it is emulated."""
    return automatic_precision(device.type)[0] == "bf16-mixed"


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def in_turn(
    ways: Mapping[str, Callable[[], Any]], repetitions: int, device: torch.device | None = None, warm_up: int = WARM_UP
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
    """FLOP/s of a large square matrix product, by precision: more than any network reaches."""
    side = 64 if smoke else 8192 if device.type == "cuda" else 2048
    kinds = {"float32": torch.float32} | ({"bfloat16": torch.bfloat16} if has_bfloat16(device) else {})
    factors = {name: torch.rand(side, side, device=device, dtype=dtype) for name, dtype in kinds.items()}

    def product(name: str) -> Callable[[], Any]:
        return lambda: factors[name] @ factors[name]

    seconds = in_turn({name: product(name) for name in kinds}, 2 if smoke else 7, device)
    return {name: [2 * side**3 / s for s in found] for name, found in seconds.items()}
