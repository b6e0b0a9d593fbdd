"""Images per second from a folder of pictures to a folder of masks, against a plain loop with the same network.

Plain is what most repositories ship: one picture after the other is opened with Pillow, scaled, run through the network, its
probabilities scaled back to the picture's size, cut, and saved with Pillow. The project's way also writes its table.
"""

import os
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from benchmarks._section import Section, ratios, spread, table
from benchmarks._timing import has_bfloat16, matrix_rates
from lightning_seg.data.sources.base import DATA_VARIABLE
from lightning_seg.data.sources.phantom import render_phantom
from lightning_seg.inference.ensemble import Ensemble, Trained
from lightning_seg.inference.images import PICTURE_COLUMNS, FinishedInput, finished_pictures
from lightning_seg.inference.inputs import Input, find_inputs
from lightning_seg.inference.mask_rule import MaskRule
from lightning_seg.inference.options import PredictOptions
from lightning_seg.inference.results import OutputFolder, ResultTable
from lightning_seg.inference.workers import Workers, find_devices
from lightning_seg.models.frame.listing import count as multiply_adds
from lightning_seg.runs.gpus import default_device
from lightning_seg.training.module import SegmentationModule

# architecture, encoder, pixels a side, and so many pictures that a repetition takes seconds
NETWORKS: tuple[tuple[str, str | None, int, int], ...] = (
    ("unet", "mobilenetv2_100", 256, 60),
    ("unet", "resnet34", 256, 24),
    ("attention_unet", "convnext_tiny.fb_in1k", 256, 24),
    ("sa_unet_v2", None, 592, 8),
)
SMOKE_NETWORKS = (("unet", "test_resnet.r160_in1k", 32, 6),)
CLASSES = ("polyp",)


def run(smoke: bool = False, compiled: bool = False) -> Section:
    """The section of the results; ``smoke``: a few tiny phantoms, ``compiled`` changes nothing."""
    networks, repetitions = (SMOKE_NETWORKS, 1) if smoke else (NETWORKS, 4)
    device = torch.device("cpu") if smoke else default_device()
    heads = (
        "network",
        "pixels, pictures",
        "precision",
        "engine",
        "plain, images/s",
        "ours, images/s",
        "times as fast",
        "ours, % of a matrix product's rate",
        "masks' pixels that differ",
    )
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        every, kind = _inputs(Path(scratch), max(count for *_, count in networks), smoke)
        for architecture, encoder, size, count in networks:
            module, inputs = _untrained(architecture, encoder, size), every[:count]
            macs = multiply_adds(architecture, size, encoder=encoder)[1]
            name = f"{architecture} x {encoder}" if encoder else architecture
            for precision, engine in _ways(smoke):
                trained = Trained(CLASSES, 3, size, "", {})
                network = Ensemble([module], trained, "none", device, precision, engine)
                row = _row(name, network, inputs, Path(scratch), repetitions)
                rows.append(row | {"size": size, "macs": macs})
    limits = {name: float(np.median(found)) for name, found in matrix_rates(device, smoke).items()}
    bfloat16 = any(row["precision"] == "bf16" for row in rows)
    caption = _caption(kind, device, repetitions, limits, bfloat16)
    lines = [_cells(row, limits) for row in rows]
    return Section(f"{caption}\n\n{table(heads, lines)}", {"rows": rows, "limits": limits})


def _ways(smoke: bool) -> list[tuple[str, str]]:
    """Precisions and engines; those that are installed, and on the CPU alone."""
    device = default_device()
    if smoke or device.type != "cpu":
        return [("32", "torch"), ("bf16", "torch")]
    engines = [name for name in ("onnxruntime", "openvino") if find_spec(name)]
    ways = [("32", name) for name in ("torch", *engines, *(["auto"] if engines else []))]
    if has_bfloat16(device):
        ways += [("bf16", name) for name in ("torch", *engines, "auto") if name != "onnxruntime"]
    return ways


def _untrained(architecture: str, encoder: str | None, size: int) -> SegmentationModule:
    """Random weights whose probabilities lie around the threshold: masks are neither empty nor full, and any change moves some."""
    torch.manual_seed(0)
    module = SegmentationModule(
        architecture, encoder=encoder, classes=CLASSES, normalization="imagenet"
    ).eval()
    with torch.no_grad():
        head = [layer for layer in module.net.modules() if isinstance(layer, torch.nn.Conv2d)][-1]
        assert head.bias is not None
        head.bias -= module(torch.rand(2, 3, size, size)).logits.mean((0, 2, 3))
    return module


def _inputs(scratch: Path, count: int, smoke: bool) -> tuple[list[Input], str]:
    folder = os.environ.get(DATA_VARIABLE)
    real = Path(folder) / "kvasir-seg" / "images" if folder else None
    if real and real.is_dir() and not smoke:
        return find_inputs(str(real), scratch).inputs[:count], "Kvasir-SEG"
    (scratch / "phantom").mkdir()
    for number in range(count):
        image, _ = render_phantom("polyp", 42, number, 64 if smoke else 560)
        Image.fromarray(image).save(scratch / "phantom" / f"{number:03d}.jpg", quality=92)
    return find_inputs(str(scratch / "phantom"), scratch / "out").inputs, "phantoms"


def _row(
    name: str, network: Ensemble, inputs: list[Input], scratch: Path, repetitions: int
) -> dict[str, Any]:
    """Both in turn, each time another one first."""
    seconds: dict[str, list[float]] = {"plain": [], "ours": []}
    folders = {way: Path(tempfile.mkdtemp(dir=scratch)) for way in seconds}
    ways = [("plain", plain), ("ours", ours)]
    for repetition in range(-1, repetitions):
        some = inputs[: max(2, len(inputs) // 8)] if repetition < 0 else inputs  # warms up
        for way, work in ways if repetition % 2 else ways[::-1]:
            begin = time.perf_counter()
            work(network, some, folders[way])
            if repetition >= 0:
                seconds[way].append(time.perf_counter() - begin)
    different = _difference(inputs, *folders.values())
    row = {
        "network": name,
        "precision": network.precision,
        "engine": network.engine,
        "images": len(inputs),
        "seconds": seconds,
        "notes": network.engine_notes,
    }
    return row | {"different": different}


def _cells(row: dict[str, Any], limits: dict[str, float]) -> list[str]:
    """The ratio is that within a repetition."""
    float32, *others = limits.values()
    limit = others[0] if others and row["precision"] == "bf16" else float32
    work = 2 * row["macs"] * row["images"] / limit  # seconds at that rate
    first, second = (row["seconds"][way] for way in ("plain", "ours"))
    rates = [spread([row["images"] / s for s in way], 1) for way in (first, second)]
    return [
        row["network"],
        f"{row['size']}, {row['images']}",
        row["precision"],
        row["engine"],
        *rates,
        spread(ratios(first, second), 2),
        spread([100 * work / s for s in second], 1),
        f"{row['different']:.1e}",
    ]


def plain(network: Ensemble, inputs: list[Input], folder: Path) -> None:
    """A loop, as short as it is usually written; always in float32."""
    module, size, device = network.modules[0], network.trained.size or 0, network.device
    (folder / "masks").mkdir(exist_ok=True)
    for one in inputs:
        image = np.array(Image.open(one.path).convert("RGB"))
        small = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)
        tensor = torch.from_numpy(small).permute(2, 0, 1)[None].contiguous().to(device)
        with torch.no_grad():
            probability = module(tensor).logits.sigmoid()
            probability = F.interpolate(
                probability, image.shape[:2], mode="bilinear", align_corners=False
            )
        mask = (probability[0, 0] > 0.5).cpu().numpy().astype(np.uint8) * 255
        Image.fromarray(mask).save(folder / "masks" / f"{one.name}.png")


def ours(network: Ensemble, inputs: list[Input], folder: Path) -> None:
    """As `lightning-seg predict` does it."""
    rule = MaskRule(CLASSES)
    devices = find_devices("cpu") if network.device.type == "cpu" else [network.device]
    output = OutputFolder(folder, {})
    table = ResultTable(folder / "predictions.csv", PICTURE_COLUMNS)
    workers = Workers(network, devices)
    for found in finished_pictures([inputs], workers, rule, PredictOptions(), folder):
        assert isinstance(found, FinishedInput), found
        table.add(found.rows)
        output.record(found.input, found.stamp)


def _difference(inputs: list[Input], first: Path, second: Path) -> float:
    """Share of the pixels."""
    pairs = [
        [np.asarray(Image.open(folder / "masks" / f"{one.name}.png")) for folder in (first, second)]
        for one in inputs
    ]
    return float(np.mean([(one != other).mean() for one, other in pairs]))


def _caption(
    kind: str, device: torch.device, repetitions: int, limits: dict[str, float], bfloat16: bool
) -> str:
    name = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"CPU, {torch.get_num_threads()} threads"
    )
    most = ", ".join(f"{name} {rate / 1e9:.0f} GFLOP/s" for name, rate in limits.items())
    units = "" if bfloat16 else " This processor has no units for bfloat16: left out."
    return (
        f"Pictures ({kind}) on {name}, random weights; from JPEG files to PNG masks at the size of each "
        f"picture. Plain is a loop in float32, picture by picture; ours writes the table too. Median [quartiles] of {repetitions} "
        "repetitions in turn. bf16: mixed precision, an option that may move pixels near the threshold."
        f"{units} A large matrix product: {most}; a network is counted as twice its multiply-adds."
    )
