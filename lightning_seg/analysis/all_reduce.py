"""A sum over all devices of this machine, as each step of a training on several of them takes it.

python -m lightning_seg.analysis.all_reduce RANK WORLD_SIZE PORT DEVICE MIB
"""

import os
import signal
import subprocess
import sys
import time
from datetime import timedelta

import torch
import torch.distributed as dist

from lightning_seg.errors import InputError

_TURNS = 5


def measure_all_reduce(
    device: str,
    processes: int,
    mib: int,
    limit: float,
) -> float:
    """GB of the tensor per second; InputError where the sum is wrong, fails, or takes too long.

    Args:
        device: cuda (by NCCL) or cpu (by gloo).
        processes: how many take part, each on a device of its own.
        mib: size of the tensor.
        limit: seconds for all.
    """
    # here: the processes below import this file, and are to start fast
    from lightning_seg.training.processes import free_ports

    port = str(free_ports(1)[0])
    shape = [str(processes), port, device, str(mib)]
    command = [sys.executable, "-m", __name__]
    started = [
        subprocess.Popen(
            [*command, str(rank), *shape],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        for rank in range(processes)
    ]
    end = time.monotonic() + limit
    try:
        said = [one.communicate(timeout=max(0.1, end - time.monotonic())) for one in started]
    except subprocess.TimeoutExpired:
        raise InputError(
            f"an all-reduce of {mib} MiB over {processes} processes did not end within {limit:.0f} s; "
            "NCCL_DEBUG=INFO says where it waits, and NCCL_P2P_DISABLE=1 avoids links between GPUs."
        ) from None
    finally:
        for one in started:
            if one.poll() is None:
                os.killpg(one.pid, signal.SIGKILL)
                one.wait()
    for one, (_, errors) in zip(started, said, strict=True):
        if one.returncode:
            last = (errors.strip().splitlines() or ["no message"])[-1]
            raise InputError(f"an all-reduce over {processes} processes failed: {last}")
    return float(said[0][0])


def main(args: list[str]) -> None:
    """One of the processes; the first prints the rate."""
    rank, world, port, mib = (int(args[i]) for i in (0, 1, 2, 4))
    device = torch.device("cuda", rank) if args[3] == "cuda" else torch.device("cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    address = f"tcp://127.0.0.1:{port}"
    backend = "nccl" if device.type == "cuda" else "gloo"
    wait = timedelta(seconds=60)
    dist.init_process_group(backend, address, wait, world_size=world, rank=rank)
    tensor = torch.ones(mib * 2**18, device=device)
    dist.all_reduce(tensor)
    if not bool((tensor == world).all()):
        raise SystemExit("the sum is wrong")
    _wait_for(device)
    start = time.perf_counter()
    for _ in range(_TURNS):
        dist.all_reduce(tensor)
    _wait_for(device)
    seconds = (time.perf_counter() - start) / _TURNS
    if rank == 0:
        print(mib * 2**20 / seconds / 1e9)
    dist.destroy_process_group()


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main(sys.argv[1:])
