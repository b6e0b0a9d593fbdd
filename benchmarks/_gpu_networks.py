"""The first two phases of a GPU session: does every network train in mixed precision, and how fast do UNet-A's 24?"""

import gc
import itertools
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from benchmarks._record import Record
from benchmarks._timing import synchronize
from lightning_seg import models
from lightning_seg.training.losses import WeightedLoss

if TYPE_CHECKING:
    from benchmarks.gpu_session import Session

DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}
UNET_A = ("unet", "attention_unet", "resunet", "transunet", "unetplusplus", "unet3plus")
ENCODERS = (
    "convnext_tiny.fb_in1k",
    "efficientnet_b0",
    "swin_tiny_patch4_window7_224",
    None,
)  # from scratch: the slowest
SMOKE_ENCODERS = ("test_convnext", None)
# whether deterministic algorithms are asked for: not by `fit` on a GPU, unless it is told to
SETTINGS = {"as_recipes_run": False, "deterministic": True}
BLOCKS = 3
SECONDS = 0.6  # of timed steps per network and setting


class Training:
    """Steps of mixed-precision training, as Lightning takes them, on one random batch that stays on the device."""

    def __init__(
        self, net: nn.Module, batch: int, size: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.net = net.train().to(device).to(memory_format=torch.channels_last)
        self.image = torch.rand(batch, 3, size, size, device=device).contiguous(
            memory_format=torch.channels_last
        )
        self.mask = (self.image[:, :1] > 0.5).float()
        self.loss = WeightedLoss({"bce": 0.5, "dice": 0.5})
        self.optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, fused=True)
        self.scaler = torch.amp.GradScaler(
            device.type, init_scale=1024, enabled=dtype == torch.float16
        )
        self.device, self.dtype = device, dtype

    def step(self, unscale: bool = False) -> Tensor:
        """The loss; gradients stay until the next step, as they are or divided by the loss's scale."""
        self.optimizer.zero_grad()
        with torch.autocast(self.device.type, self.dtype):
            output = self.net(self.image)
            output = output if isinstance(output, models.Output) else models.Output(output)
            loss = self.loss.supervised([output.logits, *output.deep], self.mask)
        if output.penalty is not None:
            loss = loss + output.penalty.float()
        self.scaler.scale(loss).backward()
        if unscale:  # else the fused optimiser does so on its way
            self.scaler.unscale_(self.optimizer)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return loss.detach()


def architectures(session: "Session", record: Record, deadline: float) -> bool:
    """One step of every network at 128 pixels, batch 2, in both precisions; what fails is a row like any other."""
    size = 32 if session.smoke else 128
    record.update(size=size, batch=2, failed=[])
    for name, dtype in itertools.product(models.names(), DTYPES):
        if time.monotonic() > deadline:
            return False
        with _tidy():
            row = _attempt(session, name, size, dtype)
        record.add(architecture=name, dtype=dtype, **row)
        if "error" in row:
            record.update(failed=[*record.content["failed"], f"{name} {dtype}"])
    return True


def _attempt(session: "Session", name: str, size: int, dtype: str) -> dict[str, Any]:
    start = time.monotonic()
    try:
        options = getattr(models.find(name), "tiny", {}) if session.smoke else {}
        training = Training(
            _build(session, name, **options), 2, size, session.device, DTYPES[dtype]
        )
        loss = training.step(unscale=True).item()
    except Exception as error:  # of whatever kind: it is what this phase is to find
        return {"error": f"{type(error).__name__}: {str(error)[:500]}"}
    named = training.net.named_parameters()
    broken = [key for key, p in named if p.grad is not None and not bool(p.grad.isfinite().all())]
    result = {
        "loss": loss,
        "seconds": round(time.monotonic() - start, 2),
        "peak_mib": _peak(session.device),
    }
    if broken:
        return result | {
            "error": f"gradients of {len(broken)} parameters are not finite, first {broken[0]}"
        }
    return (
        result
        if loss == loss and abs(loss) < float("inf")
        else result | {"error": "the loss is not finite"}
    )


def _build(session: "Session", name: str, **options: Any) -> nn.Module:
    """By its constructor: `models.create` checks types with a package that this phase does without."""
    torch.manual_seed(0)
    with session.device:
        return models.find(name)(**options)


def throughput(session: "Session", record: Record, deadline: float) -> bool:
    """Training images per second, float16 with loss scaling: all networks as the project's runs are, then deterministically."""
    size, batch = (32, 2) if session.smoke else (256, 64)
    record.update(size=size, precision="16-mixed", deterministic=SETTINGS)
    encoders = SMOKE_ENCODERS if session.smoke else ENCODERS
    for setting, name, encoder in itertools.product(SETTINGS, UNET_A, encoders):
        if time.monotonic() > deadline:
            return False
        found = _fitting(session, name, encoder, size, batch, SETTINGS[setting])
        record.add(setting=setting, architecture=name, encoder=encoder, **found)
    return True


def _fitting(
    session: "Session", name: str, encoder: str | None, size: int, batch: int, deterministic: bool
) -> dict[str, Any]:
    """The rates at ``batch``, halved until it fits into memory."""
    while True:
        try:
            with _tidy():
                return {
                    "batch": batch,
                    **_speed(session, name, encoder, size, batch, deterministic),
                }
        except torch.OutOfMemoryError:
            if batch == 1:
                return {"batch": 1, "error": "out of memory"}
            batch //= 2
        except Exception as error:
            return {"batch": batch, "error": f"{type(error).__name__}: {str(error)[:500]}"}


def _speed(
    session: "Session", name: str, encoder: str | None, size: int, batch: int, deterministic: bool
) -> dict[str, Any]:
    own = {"encoder", "widths"} if encoder else {"encoder"}  # the widths of its own encoder
    tiny: dict[str, Any] = getattr(models.find(name), "tiny") if session.smoke else {}  # noqa: B009
    small = {key: value for key, value in tiny.items() if key not in own}
    training = Training(
        _build(session, name, encoder=encoder, **small), batch, size, session.device, torch.float16
    )
    parameters = sum(p.numel() for p in training.net.parameters())
    with determinism(deterministic):
        rate = _rate(training, batch, 0.0 if session.smoke else SECONDS)
    return {"parameters": parameters, **rate, "peak_mib": _peak(session.device)}


def _rate(training: Training, batch: int, seconds: float) -> dict[str, Any]:
    """Images per second: the median of some blocks of steps, and each block; the first steps choose kernels and do not count."""
    for _ in range(1 if seconds == 0 else 3):
        training.step()
    steps = max(1, round(seconds / BLOCKS / _seconds(training, 1)))
    blocks = [round(steps * batch / _seconds(training, steps), 2) for _ in range(BLOCKS)]
    return {
        "images_per_second": sorted(blocks)[BLOCKS // 2],
        "blocks": blocks,
        "steps_per_block": steps,
    }


def _seconds(training: Training, steps: int) -> float:
    synchronize(training.device)
    start = time.perf_counter()
    for _ in range(steps):
        training.step()
    synchronize(training.device)
    return time.perf_counter() - start


def _peak(device: torch.device) -> int | None:
    return torch.cuda.max_memory_allocated(device) // 2**20 if device.type == "cuda" else None


@contextmanager
def determinism(wanted: bool) -> Iterator[None]:
    """As Lightning's ``deterministic: warn``, or cuDNN's choice of the fastest kernel; afterwards as before."""
    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    benchmark = torch.backends.cudnn.benchmark
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            torch.use_deterministic_algorithms(wanted, warn_only=True)
            torch.backends.cudnn.benchmark = not wanted
            yield
        finally:
            torch.use_deterministic_algorithms(before[0], warn_only=before[1])
            torch.backends.cudnn.benchmark = benchmark


@contextmanager
def _tidy() -> Iterator[None]:
    """Each network starts with all memory, whatever the one before it left, and leaves none behind."""
    free_memory()
    try:
        yield
    finally:
        free_memory()


def free_memory() -> None:
    """What nothing holds any more goes back to the GPU; the count of its peak starts anew."""
    if torch.cuda.is_available():
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
