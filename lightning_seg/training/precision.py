"""What uses the hardware at hand: the precision of a training that names none, its exceptions, and compilation of the network."""

import importlib.util
import os
import shutil
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from lightning_seg.errors import InputError, unknown
from lightning_seg.runs.environment import cpu_has

BFLOAT16_UNITS = ("amx_bf16", "avx512_bf16")  # of a CPU, as Linux names them
MODES = ("dynamic", "default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")
BACKEND = "inductor"  # torch.compile's own default


def automatic_precision(accelerator: Any) -> tuple[str, str]:
    """``bf16-mixed`` where the processor has units for bfloat16, else ``32-true``; and why.

    Args:
        accelerator: of the trainer; one that is not known here gets ``32-true``.
    """
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        devices = range(torch.cuda.device_count())
        if all(torch.cuda.get_device_capability(device) >= (8, 0) for device in devices):
            return "bf16-mixed", f"{torch.cuda.get_device_name()} computes in bfloat16"
        return "32-true", "not every GPU here computes in bfloat16"
    units = (
        [flag for flag in BFLOAT16_UNITS if cpu_has(flag)] if accelerator in ("auto", "cpu") else []
    )
    return (
        ("bf16-mixed", f"this CPU has {units[0]}")
        if units
        else ("32-true", "no units for bfloat16 were found")
    )


def widen_depthwise(net: nn.Module) -> None:
    """Let depthwise convolutions train in float32 amid a CPU's mixed precision, in place; but for 3 x 3 ones of stride 1.

    oneDNN has no fast gradient in bfloat16 for the others: it takes 1.5 to 14 times as long as in float32.
    """
    for conv in net.modules():
        if (
            isinstance(conv, nn.Conv2d)
            and _slow_in_bfloat16(conv)
            and not isinstance(conv.forward, partial)
        ):
            # by the instance, as `recomputation` does: names of parameters stay
            conv.forward = partial(_in_float32, conv.forward)  # type: ignore[method-assign]


def _slow_in_bfloat16(conv: nn.Conv2d) -> bool:
    depthwise = 1 < conv.groups == conv.in_channels == conv.out_channels
    return depthwise and (conv.kernel_size, conv.stride, conv.dilation) != ((3, 3), (1, 1), (1, 1))


def _in_float32(forward: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    if not (torch.is_autocast_enabled("cpu") and torch.is_grad_enabled()):
        return forward(x)
    with torch.autocast("cpu", enabled=False):
        return forward(x.float()).to(x.dtype)


def check_compile(how: bool | str) -> None:
    """InputError where ``model.compile`` is neither true nor false nor one of `MODES`."""
    if isinstance(how, str) and how not in MODES:
        raise unknown("mode of model.compile", how, [*MODES, "true", "false"])


def check_compiler(device: torch.device) -> None:
    """InputError where torch.compile cannot work for ``device``: it writes C++ for a CPU, and Triton for a GPU."""
    variable, compilers = (
        ("CC", ("gcc", "clang")) if device.type == "cuda" else ("CXX", ("g++", "clang++"))
    )
    if not any(shutil.which(name) for name in (os.environ.get(variable, ""), *compilers) if name):
        raise InputError(
            f"model.compile needs a compiler, and neither {' nor '.join(compilers)} is installed (nor does ${variable} name one); "
            "install one, or set model.compile: false."
        )
    if device.type == "cuda" and importlib.util.find_spec("triton") is None:
        raise InputError(
            "model.compile needs triton on a GPU; pip install triton, or set model.compile: false."
        )


def compile_network(net: nn.Module, how: bool | str) -> None:
    """Let torch.compile translate ``net`` at its next calls, in place: the names of its parameters stay.

    Args:
        how: of `MODES`; True: the default mode.
    """
    mode = how if isinstance(how, str) and how != "dynamic" else None
    net.compile(backend=BACKEND, mode=mode, dynamic=True if how == "dynamic" else None)


class CompileCost(L.Callback):
    """Prints what compilation cost: the time of the first step, beside that of the second."""

    def __init__(self) -> None:
        self.start = 0.0
        self.seconds: list[float] = []

    def on_train_batch_start(
        self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        self.start = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if len(self.seconds) == 2:
            return
        if pl_module.device.type == "cuda":
            torch.cuda.synchronize()
        self.seconds.append(time.perf_counter() - self.start)
        if len(self.seconds) == 2 and trainer.is_global_zero:
            first, second = self.seconds
            print(
                f"compile: {first - second:.1f} s (first step {first:.1f} s, second {second:.2f} s)"
            )
