"""``lightning-seg profile``: what networks cost. Parameters, multiply-adds, memory and time of
inference in float32, side by side.

A network is named as ``unet``, or with options as ``pam_unet:attention=none`` and
``unet:widths=[8,16,32],skip=dca``.
"""

import argparse
import json
import os
import platform
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor, nn
from torch.profiler import ProfilerActivity

from lightning_seg.errors import InputError
from lightning_seg.models import create
from lightning_seg.models.frame.listing import count
from lightning_seg.options import OptionParser
from lightning_seg.plots import Axis, Plot, write_picture
from lightning_seg.runs.gpus import default_device
from lightning_seg.tables import Table, count_text, number_text

CONVENTION = (
    "parameters: all, without buffers. GMACs: 10^9 multiply-adds of one image, half of "
    "torch.utils.flop_counter: convolutions and "
    "matrix products, those of attention included; no norms, activations or interpolation. "
    "memory: weights, image and the most "
    "that one forward pass of one image holds at once, {memory}. time: a forward pass in eager "
    "mode, median [quartiles] of at "
    "most {repeats} runs."
)
_MEMORY = {
    "cuda": "as CUDA's allocator counts it",
    "cpu": "as torch's profiler counts its tensors (oneDNN's scratch is not among them)",
}
_SPEC = re.compile(r"(?P<name>[\w.]+(?::\w+)?)(?::(?P<options>\w+=.*))?")


@dataclass(frozen=True)
class Timing:
    """Seconds of a forward pass of ``batch`` images."""

    batch: int
    median: float
    lower_quartile: float
    upper_quartile: float

    @property
    def images_per_second(self) -> float:
        return self.batch / self.median


@dataclass(frozen=True)
class Profile:
    """The costs of one network. peak_memory in bytes, None where the device has no counter."""

    model: str
    size: int
    parameters: int
    macs: int
    peak_memory: int | None
    single: Timing
    best: Timing


def parse(spec: str) -> tuple[str, dict[str, Any]]:
    """``name:key=value,key=value``, values as in YAML -> the name of the architecture and the
    options of its constructor."""
    match = _SPEC.fullmatch(spec)
    if match is None:
        raise InputError(
            f"{spec!r} is not a network; write a name, or name:option=value,option=value."
        )
    try:
        pairs = (
            part.partition("=") for part in re.split(r",(?=\w+=)", match["options"] or "") if part
        )
        return match["name"], {key: yaml.safe_load(value) for key, _, value in pairs}
    except yaml.YAMLError as error:
        raise InputError(
            f"the options of {spec!r} cannot be read; write values as in YAML, such as "
            "widths=[8,16]."
        ) from error


def profiled_device(name: str | None) -> torch.device:
    """The device of that name (default: the GPU where there is one); InputError where this machine
    has none, or GPUs that torch cannot use."""
    if name is None:
        return default_device()
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InputError(
            f"device {name!r} cannot be used here ({str(error).splitlines()[0]}); try cpu or cuda."
        ) from error
    if device.type == "meta":
        raise InputError("device 'meta' computes nothing that could be timed; try cpu or cuda.")
    return device


def profile(
    spec: str,
    size: int,
    device: torch.device,
    repeats: int = 20,
    most: int = 64,
    seconds: float = 5.0,
) -> Profile:
    """Build the network with random weights, count and time it on images (C, size, size).

    Args:
        repeats: runs that are timed per batch size; fewer, but at least 3, once they take
            ``seconds``.
        most: the largest batch that is tried.
    """
    name, options = parse(spec)
    parameters, macs = count(name, size, **options)
    with device:
        net = create(name, **options).eval().to(memory_format=torch.channels_last)

    def batch(number: int) -> Tensor:
        image = torch.rand(number, int(options.get("in_channels", 3)), size, size, device=device)
        return image.contiguous(memory_format=torch.channels_last)

    with torch.inference_mode():
        memory = peak_memory(net, batch(1))
        single = _time(net, batch(1), repeats, seconds)
        best = _best(lambda number: _time(net, batch(number), repeats, seconds), single, most)
    return Profile(spec, size, parameters, macs, memory, single, best)


def peak_memory(net: nn.Module, image: Tensor) -> int | None:
    """Bytes of the weights, the image and the most that a forward pass holds at once, on the
    device of ``image``."""
    if image.device.type == "cuda":
        net(image)  # the libraries' own workspaces, once
        torch.cuda.reset_peak_memory_stats(image.device)
        net(image)
        return torch.cuda.max_memory_allocated(image.device)
    if image.device.type != "cpu":
        return None
    os.environ.setdefault(
        "KINETO_LOG_LEVEL", "99"
    )  # else it complains on stderr that there is no GPU
    with torch.profiler.profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        net(image)
    events = [e for e in record.profiler.kineto_results.events() if e.name() == "[memory]"]  # type: ignore[union-attr]
    held = accumulate(e.nbytes() for e in sorted(events, key=lambda e: e.start_ns()))
    return max(held, default=0) + sum(t.nbytes for t in (image, *net.parameters(), *net.buffers()))


def _time(
    net: nn.Module,
    image: Tensor,
    repeats: int,
    seconds: float,
) -> Timing:
    for _ in range(2):
        net(image)
    times: list[float] = []
    while len(times) < repeats and (len(times) < 3 or sum(times) < seconds):
        start = _clock(image.device)
        net(image)
        times.append(_clock(image.device) - start)
    lower, median, upper = np.quantile(times, [0.25, 0.5, 0.75]).tolist()
    return Timing(len(image), median, lower, upper)


def _clock(device: torch.device) -> float:
    """Seconds, once the device has done what it was given."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return time.perf_counter()


def _best(
    measure: Callable[[int], Timing],
    best: Timing,
    most: int,
) -> Timing:
    """Doubles the batch as long as that gives 5 % more images a second and fits into memory."""
    while 2 * best.batch <= most:
        try:
            timing = measure(2 * best.batch)
        except torch.OutOfMemoryError:
            break
        if timing.images_per_second < 1.05 * best.images_per_second:
            break
        best = timing
    return best


def profile_table(profiles: Sequence[Profile]) -> Table:
    """One line for each network."""
    header = (
        "model",
        "parameters",
        "GMACs",
        "memory MiB",
        "ms, batch 1",
        "best batch",
        "ms",
        "images/s",
    )
    return Table(header, list(map(_profile_row, profiles)), left=("model",), frame=False)


def _profile_row(found: Profile) -> tuple[str, ...]:
    memory = None if found.peak_memory is None else found.peak_memory / 2**20
    return (
        found.model,
        f"{found.parameters:,}",
        f"{found.macs / 1e9:.3f}",
        number_text(memory, 1),
        _milliseconds(found.single),
        str(found.best.batch),
        _milliseconds(found.best),
        f"{found.best.images_per_second:.1f}",
    )


def _milliseconds(timing: Timing) -> str:
    median, lower, upper = (
        1e3 * t for t in (timing.median, timing.lower_quartile, timing.upper_quartile)
    )
    return f"{median:.1f} [{lower:.1f}, {upper:.1f}]"


def profiles_plot(profiles: Sequence[Profile]) -> Plot:
    """Draw parameters against multiply-adds, both logarithmic."""
    parameters = [p.parameters / 1e6 for p in profiles]
    gmacs = [p.macs / 1e9 for p in profiles]
    size = profiles[0].size
    across = _log_axis("parameters, millions", parameters)
    up = _log_axis(f"GMACs of one image of {size} x {size} (attention included)", gmacs)
    plot = Plot(across, up, "Parameters against multiply-adds", height=480, width=640)
    plot.dots(parameters, gmacs, "s1")
    for p, x, y in zip(profiles, parameters, gmacs, strict=True):
        # a label stays inside the frame
        text, anchor = (f"{p.model}  ", "end") if across.at(x) > 0.6 else (f"  {p.model}", "start")
        plot.text(x, y, text, "label", anchor)
    return plot


def _log_axis(label: str, values: Sequence[float]) -> Axis:
    """An axis with a margin around the values."""
    return Axis(label, min(values) / 1.5, max(values) * 1.5, log=True)


def main(args: list[str]) -> None:
    """``lightning-seg profile``."""
    options = _profile_parser().parse_args(args)
    for name in ("size", "repeats", "max_batch"):
        if getattr(options, name) < 1:
            raise InputError(
                f"--{name.replace('_', '-')} is {getattr(options, name)}; give 1 or more."
            )
    if options.json not in (None, "-") and not options.json.endswith(
        ".json"
    ):  # `--json unet` would take the network
        raise InputError(
            f"--json is {options.json!r}; name a file that ends in .json, or give --json last to "
            "print."
        )
    device = profiled_device(options.device)
    specs = [_with_encoder(spec, options.encoder) for spec in options.architecture]
    for spec in specs:
        _check_spec(spec)
    profiles = [
        profile(spec, options.size, device, options.repeats, options.max_batch) for spec in specs
    ]
    where = _environment(device)
    convention = CONVENTION.format(
        memory=_MEMORY.get(device.type, "which this device has no counter for"),
        repeats=options.repeats,
    )
    if options.json != "-":
        print(f"{options.size} x {options.size} on {where}\n")
        profile_table(profiles).show(width=None)
        print(f"\n{convention}")
    try:
        if options.json:
            _write_profiles(
                options.json, {"environment": where, "convention": convention, "profiles": profiles}
            )
        if options.plot:
            write_picture(Path(options.plot), profiles_plot(profiles))
    except OSError as error:
        raise InputError(f"cannot write: {error}; give a path in a folder that exists.") from error


def _with_encoder(spec: str, encoder: str | None) -> str:
    """``--encoder`` is for the networks that do not name their own."""
    _, options = parse(spec)
    if encoder is None or "encoder" in options:
        return spec
    return f"{spec}{',' if options else ':'}encoder={encoder}"


def _check_spec(spec: str) -> None:
    """A misspelt name or option is an error before anything is timed."""
    name, options = parse(spec)
    with torch.device("meta"):
        create(name, **options)


def _environment(device: torch.device) -> str:
    if device.type == "cuda":
        place = torch.cuda.get_device_name(device)
    else:
        place = (
            f"{device.type} ({platform.machine()}, {count_text(torch.get_num_threads(), 'thread')})"
        )
    return f"{place}, torch {torch.__version__}, float32"


def _write_profiles(path: str, content: dict[str, Any]) -> None:
    text = json.dumps(content | {"profiles": [asdict(p) for p in content["profiles"]]}, indent=2)
    if path == "-":
        print(text)
    else:
        Path(path).write_text(text + "\n")


def _profile_parser() -> argparse.ArgumentParser:
    parser = OptionParser(
        prog="lightning-seg profile",
        description="Parameters, multiply-adds, memory and time of networks, in one table.",
    )
    parser.add_argument(
        "architecture", nargs="+", help="a network, or one with options: pam_unet:attention=none"
    )
    parser.add_argument(
        "--encoder", help="timm name, for all networks that name none (UNet-A's kind takes any)"
    )
    parser.add_argument("--size", type=int, default=256, help="side of the image (default 256)")
    parser.add_argument(
        "--device", help="such as cpu or cuda (default: the GPU where there is one)"
    )
    parser.add_argument(
        "--repeats", type=int, default=20, help="timed runs per batch size (default 20)"
    )
    parser.add_argument(
        "--max-batch", type=int, default=64, help="the largest batch that is tried (default 64)"
    )
    parser.add_argument(
        "--json",
        nargs="?",
        const="-",
        metavar="FILE.json",
        help="write the numbers there; last and without a file: print them instead of the table",
    )
    parser.add_argument("--plot", metavar="FILE.png", help="draw parameters versus multiply-adds")
    return parser
