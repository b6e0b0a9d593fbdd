"""NVIDIA GPUs as their driver tells of them, beside what torch can use."""

import os
import re
import subprocess
from pathlib import Path

import torch

from lightning_seg.errors import InputError

_HIDDEN = ("", "-1", "NoDevFiles")  # values of CUDA_VISIBLE_DEVICES that ask for no GPU
_VERSION = Path("/proc/driver/nvidia/version")


def gpu_files() -> list[Path]:
    """``/dev/nvidia0`` and its like, as far as this process may open them."""
    numbered = Path("/dev").glob("nvidia[0-9]*")
    return sorted(file for file in numbered if _may_open(file))


def _may_open(file: Path) -> bool:
    # a Slurm job without GPUs sees those of its node, and may not open them
    try:
        os.close(os.open(file, os.O_RDWR))
    except OSError:
        return False
    return True


def driver_version() -> str:
    """The driver's version, such as 535.104.05, or ``unknown``."""
    try:
        line = _VERSION.read_text(encoding="utf-8").splitlines()[0]
    except (OSError, IndexError):
        line = _nvidia_smi("--query-gpu=driver_version")
    found = re.search(r"\d+\.\d+(\.\d+)?", line)
    return found.group() if found else "unknown"


def _nvidia_smi(query: str) -> str:
    command = ["nvidia-smi", query, "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10).stdout
    except (OSError, subprocess.SubprocessError):
        return ""


def wheel_cuda() -> str:
    """The platform that torch was built for: ``CUDA 13.2``, or ``the CPU alone``."""
    return f"CUDA {torch.version.cuda}" if torch.version.cuda else "the CPU alone"


def check_gpus_usable() -> None:
    """InputError where this machine has GPUs that torch cannot use, and nobody asked for the CPU.

    torch itself falls back to the CPU with a warning, and a run would take days in silence.
    """
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in _HIDDEN
    if hidden or torch.cuda.is_available():
        return
    files = gpu_files()
    if files:
        raise InputError(
            f"this machine has {len(files)} NVIDIA GPUs (driver {driver_version()}), but torch "
            f"{torch.__version__}, built for {wheel_cuda()}, cannot use them{_torch_reason()}; install a "
            "newer driver or a torch wheel for this one, or ask for the CPU: CUDA_VISIBLE_DEVICES=-1."
        )


def default_device() -> torch.device:
    """The GPU, or the CPU of a machine that has none; InputError where torch cannot use its GPUs."""
    check_gpus_usable()
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _torch_reason() -> str:
    """The words of torch itself, as a remark in brackets."""
    try:
        torch.cuda.init()
    except Exception as error:
        sentences = str(error).strip().splitlines() or [type(error).__name__]
        return f" ({sentences[0].split('. ')[0].rstrip('.')})"
    return ""
