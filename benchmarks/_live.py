"""Bytes that tensors hold while code runs, counted exactly; on tensors without contents, so that no batch is too large to count."""

import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lightning_seg.models import Output
from lightning_seg.training.losses import WeightedLoss


class Live(TorchDispatchMode):
    """Counts the memory of every tensor that an operation makes, from then until nothing holds it.

    Attributes:
        now, peak: bytes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.known: set[int] = set()

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        made = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor):
                self.hold(tensor.untyped_storage())
        return made

    def hold(self, storage: Any) -> None:
        """Count this memory too, where it was there before."""
        key, size = storage._cdata, storage.nbytes()
        if key in self.known:
            return
        self.known.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._release, key, size)

    def _release(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.now -= size


@contextmanager
def without_contents() -> Iterator[None]:
    """Tensors made here have shapes and take no memory; what computes with them takes no time."""
    with FakeTensorMode():
        yield


def hollow(make: Callable[[], nn.Module]) -> nn.Module:
    """A network whose parameters have no contents; within `without_contents`."""
    with unset_fake_temporarily(), torch.device("meta"):
        net = make()
    for module in net.modules():
        groups: list[dict[str, Any]] = [module._parameters, module._buffers]
        for group in groups:
            for name, value in group.items():
                if value is not None:
                    empty = torch.empty(value.shape, dtype=value.dtype)
                    group[name] = nn.Parameter(empty) if isinstance(value, nn.Parameter) else empty
    return net


def step_memory(net: nn.Module, batch: int, size: int, bfloat16: bool) -> dict[str, int]:
    """Bytes of a training step as the project takes it: float32 weights, gradients and state of the optimiser, loss in float32.

    Returns:
        held: between steps. forward: what the forward pass leaves for the backward pass. peak: the most at any moment.
    """
    loss_of, live = WeightedLoss({"bce": 0.5, "dice": 0.5}), Live()
    with live:
        for tensor in (*net.parameters(), *net.buffers()):
            live.hold(tensor.untyped_storage())
        image = torch.rand(batch, 3, size, size).contiguous(memory_format=torch.channels_last)
        mask, update = image[:, :1].clone(), torch.optim.AdamW(net.parameters(), fused=True)
        for _ in range(2):  # the first step makes the optimiser's state
            update.zero_grad()
            before = live.now
            with torch.autocast("cpu", torch.bfloat16) if bfloat16 else ExitStack():
                output = net(image)
            output = output if isinstance(output, Output) else Output(output)
            loss = sum(
                (loss_of(deep.float(), mask) for deep in output.deep),
                loss_of(output.logits.float(), mask),
            )
            loss = loss if output.penalty is None else loss + output.penalty.float()
            del output
            forward = live.now - before
            loss.backward()
            update.step()
            del loss
    return {"held": before - image.nbytes - mask.nbytes, "forward": forward, "peak": live.peak}
