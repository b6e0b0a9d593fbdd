"""Where the networks of one process run: on a GPU, or in threads of the CPU with a batch each."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import TypeVar

import torch

from lightning_seg.errors import InputError
from lightning_seg.inference.ensemble import Ensemble, find_batch_size
from lightning_seg.inference.prefetch import prefetched
from lightning_seg.inference.stage_clock import StageClock
from lightning_seg.runs.gpus import check_gpus_usable

A = TypeVar("A")
B = TypeVar("B")


class Workers:
    """Copies of a network, one for each device.

    Threads of the CPU share one copy, and get a part of the threads of torch: pictures side by
    side use cores better than the threads within one small convolution.

    Args:
        network: on the CPU.
        devices: may name a device several times.

    Attributes:
        clock: of the stages that work beside each other.
    """

    def __init__(
        self,
        network: Ensemble,
        devices: Sequence[torch.device],
    ) -> None:
        self.networks = [
            network if device.type == "cpu" else network.copy_to(device) for device in devices
        ]
        self._threads = max(1, torch.get_num_threads() // len(devices))
        self._free: SimpleQueue[Ensemble] = SimpleQueue()
        for one in self.networks:
            self._free.put(one)
        self.clock = StageClock()
        self._batch_sizes: dict[tuple[int, ...], int] = {}

    @property
    def first(self) -> Ensemble:
        """One of them."""
        return self.networks[0]

    def batch_size(self, shape: tuple[int, ...]) -> int:
        """How many images (H, W, C) at once, see `find_batch_size`; it is found once."""
        if shape not in self._batch_sizes:
            self._batch_sizes[shape] = find_batch_size(self.first, shape)
        return self._batch_sizes[shape]

    def map(
        self,
        work: Callable[[Ensemble, A], B],
        items: Iterable[A],
    ) -> Iterator[B]:
        """``work(network, item)`` of each item, in order, as many at once as there are devices."""

        def one(item: A) -> B:
            network = self._free.get()
            try:
                return timed((network, item))
            finally:
                self._free.put(network)

        def compute(both: tuple[Ensemble, A]) -> B:
            return work(*both)

        count = len(self.networks)
        timed = self.clock.timed("network", count, compute)
        with ThreadPoolExecutor(
            count, initializer=torch.set_num_threads, initargs=(self._threads,)
        ) as pool:
            yield from prefetched(pool, one, items, count + 1)


def find_devices(text: str) -> list[torch.device]:
    """``auto``: all GPUs, or else the CPU; ``cpu``: each thread that torch may use; or a list such
    as ``cuda:0,cuda:1``.

    Errors: InputError for a device that is not there, and for ``auto`` where torch cannot use the
    GPUs of this machine.
    """
    if text == "auto":
        check_gpus_usable()
        text = ",".join(f"cuda:{index}" for index in range(torch.cuda.device_count())) or "cpu"
    if text == "cpu":
        return [torch.device("cpu")] * torch.get_num_threads()
    try:
        devices = [torch.device(name.strip()) for name in text.split(",")]
        for device in devices:
            torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"there is no device {text!r} ({reason}); give auto, cpu, or such as cuda:0,cuda:1."
        ) from error
    return devices
