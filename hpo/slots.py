"""How many trials run at once on this machine, and what each may use: GPUs and a share of the
cores."""

import os
from dataclasses import dataclass

from lightning_seg.data.cores import PART, cores_of_each
from lightning_seg.errors import InputError
from lightning_seg.tables import count_text
from lightning_seg.training.processes import free_ports


@dataclass(frozen=True)
class WorkerSlot:
    """The place of one worker: its environment variables."""

    number: int
    environment: dict[str, str]


def slots(workers: str, per_gpu: int = 1, devices: int = 1) -> list[WorkerSlot]:
    """The places of this machine.

    Args:
        workers: auto or a number; with GPUs, auto is ``per_gpu`` for each ``devices`` of them, else
            one.
        per_gpu: trials on each GPU.
        devices: GPUs (processes on the CPU) of each trial.
    """
    gpus = visible_gpus()
    groups = [gpus[i : i + devices] for i in range(0, len(gpus) - devices + 1, devices)]
    if gpus and not groups:
        raise InputError(
            f"a trial is to use {devices} GPUs, but {len(gpus)} can be seen; lower --devices-per-trial."
        )
    number = _number(workers, len(groups) * per_gpu or 1)
    if groups and number > len(groups) * per_gpu:
        raise InputError(
            f"{count_text(number, 'worker')} cannot be placed on {count_text(len(groups), 'place')} of GPUs; "
            f"give --per-gpu {-(-number // len(groups))}."
        )
    ports = free_ports(number) if devices > 1 else []
    found = []
    for i in range(number):
        environment = _share(number, devices)
        if groups:
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(groups[i % len(groups)])
        if ports:
            environment["MASTER_PORT"] = str(ports[i])
        found.append(WorkerSlot(i, environment))
    return found


def _share(workers: int, devices: int) -> dict[str, str]:
    """Cores for loading processes and threads, so that all trials together have what there is."""
    threads = cores_of_each(workers * devices)
    return {"OMP_NUM_THREADS": str(threads), PART: str(cores_of_each(workers))}


def _number(workers: str, automatic: int) -> int:
    if workers == "auto":
        return automatic
    if not workers.isdigit() or int(workers) < 1:
        raise InputError(f"--workers is {workers!r}; give auto, or how many trials to run at once.")
    return int(workers)


def visible_gpus() -> list[str]:
    """The names of the GPUs that this process may use, as CUDA_VISIBLE_DEVICES takes them.

    Errors: InputError where there are GPUs that torch cannot use.
    """
    import torch

    from lightning_seg.runs.gpus import check_gpus_usable

    check_gpus_usable()
    count = torch.cuda.device_count()
    named = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return named[:count] if named else [str(i) for i in range(count)]
