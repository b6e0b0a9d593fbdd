"""``lightning-seg doctor``: what of this machine would break or slow a run, on one page.

Exit code 1 where something would break one.
"""

import argparse
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from lightning.fabric.plugins.environments import LightningEnvironment

from lightning_seg import __version__
from lightning_seg.analysis.all_reduce import measure_all_reduce
from lightning_seg.data.cores import container_cores, usable_cores
from lightning_seg.data.datamodule import default_workers
from lightning_seg.data.store.folders import default_folder
from lightning_seg.errors import InputError
from lightning_seg.files import write_whole
from lightning_seg.options import OptionParser
from lightning_seg.runs.environment import cpu_model, package_version
from lightning_seg.runs.gpus import check_gpus_usable, driver_version, gpu_files, wheel_cuda
from lightning_seg.tables import count_text
from lightning_seg.training.devices import cluster_environment
from lightning_seg.training.precision import automatic_precision

OPTIONAL = {  # package -> what needs it
    "optuna": "python -m hpo, sweeps",
    "psycopg": "studies in PostgreSQL",
    "starlette": "lightning-seg serve",
    "transformers": "export hf",
    "onnx": "export onnx",
    "onnxruntime": "export onnx",
    "SimpleITK": "DICOM series",
    "segmentation-models-pytorch": "benchmarks against peers",
    "triton": "model.compile on a GPU",
}
_GROUPS = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT")
_GIB = 2**30


@dataclass(frozen=True)
class Finding:
    """A line of the page. ``verdict``: ok; warn, what slows a run or surprises; fail, what breaks
    one."""

    section: str
    name: str
    found: str
    verdict: str = "ok"
    cure: str = ""


def main(args: list[str]) -> None:
    """Print the page; exit code 1 where a line of it is a failure."""
    options = _doctor_parser().parse_args(args)
    findings: list[Finding] = []
    section = ""
    for finding in examine_machine(Path(options.runs), options.limit_seconds):
        findings.append(finding)
        if finding.section != section:
            section = finding.section
            print(f"\n{section}")
        print(_line(finding), flush=True)
        if options.output:
            content = {"findings": [asdict(one) for one in findings]}
            write_whole(options.output, f"{json.dumps(content, indent=1)}\n".encode())
    counts = {word: sum(one.verdict == word for one in findings) for word in ("fail", "warn")}
    print(f"\n{counts['fail']} would break a run, {counts['warn']} to know of")
    if counts["fail"]:
        raise SystemExit(1)


def _doctor_parser() -> argparse.ArgumentParser:
    parser = OptionParser(prog="lightning-seg doctor", description=__doc__)
    add = parser.add_argument
    add("--runs", default="runs", help="folder of all runs")
    add("--output", type=Path, metavar="FILE", help="the page as JSON too, whole after every line")
    limit = "seconds for the sum over all GPUs (default 60)"
    add("--limit_seconds", type=float, default=60.0, help=limit)
    return parser


def _line(finding: Finding) -> str:
    mark = {"ok": "ok  ", "warn": "WARN", "fail": "FAIL"}[finding.verdict]
    cure = f"\n{'':37}{finding.cure}" if finding.cure else ""
    found = finding.found.replace("\n", f"\n{'':37}")
    return f"  {mark}  {finding.name:28} {found}{cure}"


def examine_machine(runs: Path, limit: float = 60.0) -> Iterator[Finding]:
    """The lines of the page, one by one; an examination that fails itself is a failure of the
    page."""
    sections: dict[str, Callable[[], Iterator[Finding]]] = {
        "software": _software,
        "GPUs": _gpus,
        "several devices": lambda: _together(limit),
        "processor and memory": _processor,
        "places": lambda: _places(runs),
        "who starts processes": _processes,
        "encoder weights and data": _weight_findings,
        "optional parts": _optional,
    }
    for section, look in sections.items():
        try:
            yield from look()
        except Exception as error:
            told = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            yield Finding(section, "examination", told, "fail")


def _software() -> Iterator[Finding]:
    section = "software"
    names = ("lightning", "timm", "numpy", "albumentations")
    versions = ", ".join(f"{name} {package_version(name)}" for name in names)
    yield Finding(section, "lightning_seg", f"{__version__}; {versions}")
    yield Finding(section, "torch", f"{torch.__version__}, built for {wheel_cuda()}")


def _gpus() -> Iterator[Finding]:
    section, files = "GPUs", gpu_files()
    if files:
        yield Finding(
            section, "driver", f"{driver_version()}, {count_text(len(files), 'device file')}"
        )
    try:
        check_gpus_usable()
    except InputError as error:
        yield Finding(section, "torch and driver", str(error), "fail")
        return
    if not torch.cuda.is_available():
        hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
        note = f" (CUDA_VISIBLE_DEVICES={hidden!r})" if hidden is not None else ""
        mac = torch.backends.mps.is_available()
        where = "that of Apple (mps)" if mac else "none: runs compute on the CPU"
        yield Finding(section, "number", f"{where}{note}")
        return
    for index in range(torch.cuda.device_count()):
        yield _gpu(index)
    if torch.cuda.device_count() > 1:
        yield Finding(section, "topology", _topology())


def _gpu(index: int) -> Finding:
    """A GPU with its memory, and whether its product of two matrices is right."""
    facts = torch.cuda.get_device_properties(index)
    name = f"GPU {index}"
    free, whole = (value / _GIB for value in torch.cuda.mem_get_info(index))
    about = f"{facts.name}, {free:.1f} of {whole:.1f} GiB free"
    kernels = [one for one in torch.cuda.get_arch_list() if one.startswith("sm_")]
    oldest = min((int(one.removeprefix("sm_").rstrip("af")) for one in kernels), default=0)
    if 10 * facts.major + facts.minor < oldest:
        cure = f"this torch has kernels from sm_{oldest} on; install a wheel for older GPUs"
        return Finding("GPUs", name, about, "fail", cure)
    a, b = torch.rand(2, 512, 512)
    error = (a.to(f"cuda:{index}") @ b.to(f"cuda:{index}")).cpu() - a @ b
    if not float(error.abs().max()) < 1:
        cure = "its product of two matrices is wrong; leave it out by CUDA_VISIBLE_DEVICES"
        return Finding("GPUs", name, about, "fail", cure)
    if free < 0.9 * whole:
        cure = "other programs hold its memory: nvidia-smi names them"
        return Finding("GPUs", name, f"{about}, product right", "warn", cure)
    return Finding("GPUs", name, f"{about}, product right")


def _topology() -> str:
    try:
        command = ["nvidia-smi", "topo", "-m"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
        return done.stdout.split("Legend")[0].rstrip() or "nvidia-smi tells nothing"
    except (OSError, subprocess.SubprocessError):
        return "nvidia-smi is not here"


def _together(limit: float) -> Iterator[Finding]:
    section = "several devices"
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count == 1:
        yield Finding(section, "all-reduce", "one GPU: nothing to sum over")
        return
    device, processes, mib = ("cuda", count, 256) if count else ("cpu", 2, 16)
    how = "GPUs (NCCL)" if count else "processes of the CPU (gloo)"
    start = time.monotonic()
    try:
        rate = measure_all_reduce(device, processes, mib, limit)
    except InputError as error:
        yield Finding(section, "all-reduce", str(error), "fail" if count else "warn")
        return
    spent = time.monotonic() - start
    found = f"{mib} MiB over {processes} {how}: {rate:.1f} GB/s, {spent:.0f} s with its start"
    slow = count > 0 and rate < 2
    cure = "slower than PCI Express: see the topology above" if slow else ""
    yield Finding(section, "all-reduce", found, "warn" if slow else "ok", cure)


def _processor() -> Iterator[Finding]:
    section, cores = "processor and memory", usable_cores()
    yield Finding(section, "processor", cpu_model())
    threads = os.environ.get("OMP_NUM_THREADS", "not set")
    found = f"{cores} of {os.cpu_count()}, OMP_NUM_THREADS {threads}, {default_workers()} loading processes"
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    few = gpus > 0 and cores < 4 * gpus
    cure = f"fewer than 4 for each of {gpus} GPUs: --cpus-per-task of srun" if few else ""
    yield Finding(section, "cores", found, "warn" if few else "ok", cure)
    if container_cores() < (os.cpu_count() or 1):
        yield Finding(section, "container", f"may use {container_cores():g} cores")
    if torch.get_num_threads() > cores:
        found = f"{torch.get_num_threads()}, more than cores"
        cure = f"they wait for each other: OMP_NUM_THREADS={cores}"
        yield Finding(section, "threads of torch", found, "warn", cure)
    precision, why = automatic_precision("auto")
    yield Finding(section, "precision", f"{precision} ({why})")
    shared = Path("/dev/shm")
    if shared.is_dir():
        free = shutil.disk_usage(shared).free / _GIB
        # the 64 MiB that docker gives unasked are too few for a few batches
        verdict = "fail" if free < 0.1 and default_workers() else "warn" if free < 1 else "ok"
        cure = "" if verdict == "ok" else "loading processes end by a bus error: docker --shm-size"
        yield Finding(section, "/dev/shm", f"{free:.2f} GiB free", verdict, cure)


def _places(runs: Path) -> Iterator[Finding]:
    from huggingface_hub.constants import HF_HUB_CACHE

    section = "places"
    yield _folder_finding(section, "runs", runs, writes=True)
    yield _folder_finding(section, "cache of data", default_folder(), writes=True)
    yield _folder_finding(section, "temporary files", Path(tempfile.gettempdir()), writes=True)
    yield _folder_finding(section, "hub cache", Path(HF_HUB_CACHE), writes=False)


def _folder_finding(
    section: str,
    name: str,
    folder: Path,
    writes: bool,
) -> Finding:
    """A folder with the space that is left: its own, or that of the nearest one that exists."""
    there = next(one for one in (folder.absolute(), *folder.absolute().parents) if one.exists())
    free = shutil.disk_usage(there).free / _GIB
    found = f"{folder} {'' if there == folder.absolute() else '(to be made) '}{free:.1f} GiB free"
    if writes and not os.access(there, os.W_OK):
        return Finding(section, name, found, "fail", f"{there} cannot be written")
    if writes and free < 1:
        return Finding(section, name, found, "fail", "less than 1 GiB: a run writes checkpoints")
    return Finding(section, name, found)


def _processes() -> Iterator[Finding]:
    section = "who starts processes"
    slurm = {
        k: v for k, v in sorted(os.environ.items()) if k.startswith(("SLURM_", "TORCHELASTIC"))
    }
    told = [f"{key}={value}" for key, value in slurm.items() if _tells(key)]
    told += [f"{key}={os.environ[key]}" for key in _GROUPS if key in os.environ]
    yield Finding(section, "variables", ", ".join(told) or "none of Slurm, torchrun or ranks")
    try:
        environment = cluster_environment()
    except InputError as error:
        yield Finding(section, "world size", str(error), "fail")
        return
    if isinstance(environment, LightningEnvironment):
        found = "that of --trainer.devices: this command starts its own processes"
    else:
        found = f"{environment.world_size()}, started from outside ({type(environment).__name__})"
    yield Finding(section, "world size", found)


def _tells(variable: str) -> bool:
    words = ("JOB_ID", "STEP_ID", "NTASKS", "PROCID", "LOCALID", "NNODES", "CPUS_PER_TASK", "GPUS")
    return any(word in variable for word in words)


def _weight_findings() -> Iterator[Finding]:
    from huggingface_hub.constants import HF_HUB_CACHE, HF_HUB_OFFLINE

    section = "encoder weights and data"
    name = "LIGHTNING_SEG_WEIGHTS"
    given = os.environ.get(name)
    if given and not Path(given).is_dir():
        yield Finding(section, name, f"{given} is no folder", "fail", "correct or unset it")
    else:
        files = sorted(file.stem for file in Path(given).glob("*.safetensors")) if given else []
        found = f"{given}: {', '.join(files) or 'no *.safetensors'}" if given else "not set"
        yield Finding(section, name, found)
    cached = sorted(Path(HF_HUB_CACHE).glob("models--timm--*"))
    names = ", ".join(folder.name.removeprefix("models--timm--") for folder in cached)
    yield Finding(section, "in the hub cache", names or "none")
    hub = "not asked (HF_HUB_OFFLINE)" if HF_HUB_OFFLINE else _hub()
    yield Finding(section, "hub", hub)
    data = os.environ.get("LIGHTNING_SEG_DATA")
    if data and not Path(data).is_dir():
        yield Finding(section, "LIGHTNING_SEG_DATA", f"{data} is no folder", "fail")
        return
    folders = sorted(one.name for one in Path(data).iterdir() if one.is_dir()) if data else []
    found = f"{data}: {', '.join(folders) or 'no folder'}" if data else "not set"
    yield Finding(section, "LIGHTNING_SEG_DATA", found)


def _hub() -> str:
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    try:
        url = hf_hub_url("timm/resnet18.a1_in1k", "model.safetensors")
        get_hf_file_metadata(url, timeout=3)
    except Exception:
        return "not within reach: weights must be on this machine"
    return "within reach"


def _optional() -> Iterator[Finding]:
    for package, use in OPTIONAL.items():
        yield Finding("optional parts", package, f"{package_version(package)} ({use})")
