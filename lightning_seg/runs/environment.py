"""Where and with what a number was made: commit, hardware, versions."""

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from lightning_seg.files.documents import read_json
from lightning_seg.tables import count_text

ROOT = Path(__file__).parent.parent.parent
PACKAGES = ("torch", "timm", "lightning", "numpy")
RECORDED = ("experiments/results", "benchmarks/results", "benchmarks/RESULTS.md")
FILE = "environment.json"  # of a run, kept by `lightning_seg.callbacks.run_record`


def environment(device: torch.device, commit: str | None = None) -> dict[str, str]:
    """Facts in the order in which they are printed; ``commit`` where the folder is no checkout that
    could say it."""
    threads = count_text(torch.get_num_threads(), "thread")
    cpu = f"{cpu_model()}, {count_text(os.cpu_count() or 1, 'core')}, {threads} used"
    hardware = (
        {"gpu": torch.cuda.get_device_name(device), "cpu": cpu}
        if device.type == "cuda"
        else {"cpu": cpu}
    )
    cuda = {"cuda": str(torch.version.cuda)} if device.type == "cuda" else {}
    versions = {"python": platform.python_version()} | {
        name: package_version(name) for name in PACKAGES
    }
    return {"commit": commit or project_commit()} | hardware | versions | cuda


def read_environment(run: Path) -> dict[str, Any]:
    """``command`` and ``sittings`` of a run; empty for a run that was made before they were
    kept."""
    file = run / FILE
    return read_json(file) if file.is_file() else {}


def hardware(sitting: dict[str, Any]) -> str:
    """The processor that did the work, in words: ``2 x NVIDIA H200``, ``AMD EPYC, 2 cores, 1 thread
    used``."""
    name = str(sitting.get("gpu") or sitting.get("cpu", ""))
    return f"{sitting['devices']} x {name}" if sitting.get("devices", 1) > 1 else name


def package_version(package: str) -> str:
    """The version of what is installed, or ``absent``."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


def project_commit() -> str:
    """The commit's first 12 digits, ``-dirty`` where files differ from it; recorded results are no
    part of what was run. An installed wheel has none, whatever folder it lies in."""
    if not (ROOT / ".git").exists():
        return "unknown"
    try:
        changed = _git(
            "status",
            "--porcelain",
            "--untracked-files=no",
            "--",
            ".",
            *(f":(exclude){place}" for place in RECORDED),
        )
        return _git("describe", "--always", "--abbrev=12", "--exclude=*") + (
            "-dirty" if changed else ""
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*command: str) -> str:
    return subprocess.run(
        ["git", *command], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()


def machine_load() -> float:
    """The number of processes that wanted a core in the last minute; 0 where the system does not tell."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


def cpu_model() -> str:
    return _cpu_info("model name") or platform.processor() or platform.machine()


def cpu_has(flag: str) -> bool:
    """Tell whether the processor says that it has ``flag``, such as ``avx512_bf16``; False where Linux
    does not tell."""
    return flag in _cpu_info("flags").split()


def _cpu_info(key: str) -> str:
    """The value of ``key`` for the first core in Linux's /proc/cpuinfo, or an empty string."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), "")
