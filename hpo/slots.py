"""How many trials run at once on this machine, and what each may use: one GPU, or a share of the cores."""

import os
from dataclasses import dataclass

from lightning_seg.errors import InputError


@dataclass(frozen=True)
class WorkerSlot:
    """The place of one worker: its environment variables."""

    number: int
    environment: dict[str, str]


def slots(workers: str, per_gpu: int = 1, devices: int = 1) -> list[WorkerSlot]:
    """``workers`` is auto or a number; with GPUs, auto is ``per_gpu`` for each GPU (each ``devices`` GPUs), else one."""
    gpus = visible_gpus()
    groups = [gpus[i : i + devices] for i in range(0, len(gpus) - devices + 1, devices)]
    if gpus and not groups:
        raise InputError(
            f"a trial is to use {devices} GPUs, but {len(gpus)} can be seen; lower --devices-per-trial."
        )
    number = _number(workers, len(groups) * per_gpu or 1)
    if groups:
        if number > len(groups) * per_gpu:
            raise InputError(
                f"{number} workers do not fit on {len(groups)} places of GPUs; give --per-gpu {-(-number // len(groups))}."
            )
        return [
            WorkerSlot(i, {"CUDA_VISIBLE_DEVICES": ",".join(groups[i % len(groups)])})
            for i in range(number)
        ]
    threads = str(max(1, cores() // (number * devices)))
    return [WorkerSlot(i, {"OMP_NUM_THREADS": threads}) for i in range(number)]


def _number(workers: str, automatic: int) -> int:
    if workers == "auto":
        return automatic
    if not workers.isdigit() or int(workers) < 1:
        raise InputError(f"--workers is {workers!r}; give auto, or how many trials to run at once.")
    return int(workers)


def visible_gpus() -> list[str]:
    """The names of the GPUs that this process may use, as CUDA_VISIBLE_DEVICES takes them."""
    import torch

    count = torch.cuda.device_count()
    named = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return named[:count] if named else [str(i) for i in range(count)]


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
