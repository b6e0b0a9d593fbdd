"""What is looked at while a training takes its steps, without a change to it: the parts of a step, and waits for the device."""

import functools
import time
import warnings
from contextlib import ExitStack
from typing import Any

import lightning as L
import torch
from lightning.pytorch.profilers import Profiler
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks._timing import synchronize

PARTS = (
    "loader wait",
    "transfer",
    "forward + loss",
    "backward",
    "optimiser",
    "metrics",
    "logging, callbacks, loop",
)
_PART_OF = {  # what Lightning calls the actions of a step, or a part of that
    "train_dataloader_next": "loader wait",
    "batch_to_device": "transfer",
    "batch_transfer": "transfer",
    "Strategy.training_step": "forward + loss",
    "backward": "backward",
    "optimizer_step": "optimiser",
    "optimizer_zero_grad": "optimiser",
    "metrics": "metrics",
}


class Parts(Profiler):
    """Seconds of each of ``PARTS``, without those of the actions inside; all that has no name of its own falls to the last."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.device = device
        self.stack: list[str] = [PARTS[-1]]
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self.since = time.perf_counter()

    def _turn_page(self) -> None:
        synchronize(self.device)
        now = time.perf_counter()
        self.seconds[self.stack[-1]] += now - self.since
        self.since = now

    def start(self, action_name: str) -> None:
        self._turn_page()
        part = next((part for key, part in _PART_OF.items() if key in action_name), None)
        self.stack.append(part or (self.stack[-1] if self.stack[-1] != "optimiser" else PARTS[-1]))

    def stop(self, action_name: str) -> None:
        self._turn_page()
        self.stack.pop()

    def take(self) -> dict[str, float]:
        """What came together since the last call."""
        self._turn_page()
        found, self.seconds = self.seconds, dict.fromkeys(PARTS, 0.0)
        return found


WARNING = "called a synchronizing CUDA operation"  # of CUDA's sync debug mode, for each wait
COUNTED = 2  # the turn in which waits are counted: in the first, torchmetrics still looks for metrics of a common state


class _Reads(TorchDispatchMode):
    """Counts reads of a tensor's value, which on a GPU wait for all that was queued."""

    found = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        self.found += function in (
            torch.ops.aten._local_scalar_dense.default,
            torch.ops.aten.nonzero.default,
        )
        return function(*args, **(kwargs or {}))


class _Waits:
    """Counts what CUDA's sync debug mode warns of; not its notice, once, that it does not find all."""

    found = 0

    def __enter__(self) -> "_Waits":
        self.caught = warnings.catch_warnings(record=True)
        self.warned = self.caught.__enter__()
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        return self

    def __exit__(self, *error: Any) -> None:
        torch.cuda.set_sync_debug_mode("default")
        self.caught.__exit__(None, None, None)
        self.found = sum(WARNING in str(warning.message) for warning in self.warned or ())


class WatchStep(L.Callback):
    """Takes down the parts of a training's steps and, in turn ``COUNTED`` alone, the host's waits for the device.

    That turn's steps are slower for it. Waits are counted from a step's start to the end of its backward pass: on a GPU as CUDA's
    sync debug mode says, on the CPU the operations that would wait on one.

    Args:
        metrics: the module's method that counts a batch, such as ``scorer.add_training``.
    """

    def __init__(self, metrics: str) -> None:
        self.metrics = metrics
        self.waits, self.turn = 0, 0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.parts = parts = Parts(pl_module.device)
        trainer.profiler = parts  # type: ignore[attr-defined]
        *path, name = self.metrics.split(".")
        owner = functools.reduce(getattr, path, pl_module)
        inner = getattr(owner, name)

        def counted(*args: Any) -> Any:
            with parts.profile("metrics"):
                return inner(*args)

        setattr(owner, name, counted)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if self.turn == COUNTED:
            self.open = ExitStack()
            self.counter = self.open.enter_context(
                _Waits() if pl_module.device.type == "cuda" else _Reads()
            )

    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        if self.turn == COUNTED:
            self.open.close()
            self.waits += self.counter.found

    def begin(self) -> None:
        """A turn begins."""
        self.turn += 1
        self.take()

    def take(self) -> dict[str, float]:
        """What came together since the last call."""
        found = self.parts.take() | {"waits": self.waits}
        self.waits = 0
        return found


METRICS = {"ours": "scorer.add_training", "plain": "score"}  # of which module
