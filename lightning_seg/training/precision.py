"""Use of the hardware at hand: the precision of a training that names none, and compilation."""

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
        devices = map(torch.cuda.get_device_capability, range(torch.cuda.device_count()))
        if all(capability >= (8, 0) for capability in devices):
            return "bf16-mixed", f"{torch.cuda.get_device_name()} computes in bfloat16"
        return "32-true", "not every GPU here computes in bfloat16"
    units = [flag for flag in BFLOAT16_UNITS if cpu_has(flag)]
    if units and accelerator in ("auto", "cpu"):
        return "bf16-mixed", f"this CPU has {units[0]}"
    return "32-true", "no units for bfloat16 were found"


def widen_depthwise(net: nn.Module) -> None:
    """Let depthwise convolutions train in float32 amid a CPU's mixed precision, in place.

    Those of 3 x 3 and stride 1 stay. For the others oneDNN has no fast gradient in bfloat16: it
    takes 1.5 to 14 times as long as in float32.
    """
    for conv in net.modules():
        slow = isinstance(conv, nn.Conv2d) and _slow_in_bfloat16(conv)
        if slow and not isinstance(conv.forward, partial):
            # by the instance, as `checkpoint_activations` does: names of parameters stay
            conv.forward = partial(_in_float32, conv.forward)


def _slow_in_bfloat16(conv: nn.Conv2d) -> bool:
    depthwise = 1 < conv.groups == conv.in_channels == conv.out_channels
    plain = conv.stride == conv.dilation == (1, 1) and conv.kernel_size == (3, 3)
    return depthwise and not plain


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
    """InputError where torch.compile cannot write its C++ for a CPU, or Triton for a GPU."""
    variable, compilers = "CXX", ("g++", "clang++")
    if device.type == "cuda":
        variable, compilers = "CC", ("gcc", "clang")
    named = os.environ.get(variable, "")
    known = [named, *compilers] if named else compilers
    if not any(map(shutil.which, known)):
        raise InputError(
            f"model.compile needs a compiler, and neither {' nor '.join(compilers)} is installed "
            f"(nor does ${variable} name one); install one, or set model.compile: false."
        )
    if device.type == "cuda" and importlib.util.find_spec("triton") is None:
        raise InputError(
            "model.compile needs triton on a GPU; pip install triton, or set model.compile: false."
        )


def compile_network(net: nn.Module, how: bool | str) -> None:
    """Let torch.compile translate ``net`` at its next calls, in place; parameters keep their names.

    Args:
        how: of `MODES`; True: the default mode.
    """
    # the compiler's own switch, which was not there when determinism was chosen
    import torch._inductor.config

    torch._inductor.config.deterministic = torch.are_deterministic_algorithms_enabled()
    if how == "dynamic":
        net.compile(backend=BACKEND, dynamic=True)
    else:
        net.compile(backend=BACKEND, mode=how if isinstance(how, str) else None)


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
