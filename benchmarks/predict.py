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
from lightning_seg.data.sources.base import DATA_VARIABLE
from lightning_seg.data.sources.phantom import render_phantom
from lightning_seg.inference.ensemble import Ensemble, Trained
from lightning_seg.inference.images import PICTURE_COLUMNS, FinishedInput, finished_pictures
from lightning_seg.inference.inputs import Input, find_inputs
from lightning_seg.inference.mask_rule import MaskRule
from lightning_seg.inference.options import PredictOptions
from lightning_seg.inference.results import OutputFolder, ResultTable
from lightning_seg.inference.workers import Workers, find_devices
from lightning_seg.runs.gpus import default_device
from lightning_seg.training.module import SegmentationModule

NETWORKS = (
    ("unet", "mobilenetv2_100"),
    ("unet", "resnet34"),
    ("attention_unet", "convnext_tiny.fb_in1k"),
)
SMOKE_NETWORKS = (("unet", "test_resnet.r160_in1k"),)
CLASSES = ("polyp",)


def run(smoke: bool = False, compiled: bool = False) -> Section:
    """The section of the results; ``smoke``: a few tiny phantoms, ``compiled`` changes nothing."""
    size, count, repetitions = (32, 6, 1) if smoke else (256, 100, 4)
    device = torch.device("cpu") if smoke else default_device()
    heads = (
        "network",
        "precision",
        "engine",
        "plain, images/s",
        "ours, images/s",
        "times as fast",
        "masks' pixels that differ",
    )
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        inputs, kind = _inputs(Path(scratch), count, smoke)
        for architecture, encoder in SMOKE_NETWORKS if smoke else NETWORKS:
            module = _untrained(architecture, encoder, size)
            for precision, engine in _ways(smoke):
                trained = Trained(CLASSES, 3, size, "", {})
                network = Ensemble([module], trained, "none", device, precision, engine)
                rows.append(
                    _row(f"{architecture} x {encoder}", network, inputs, Path(scratch), repetitions)
                )
    caption = _caption(kind, len(inputs), size, device, repetitions)
    return Section(f"{caption}\n\n{table(heads, [_cells(row) for row in rows])}", {"rows": rows})


def _ways(smoke: bool) -> list[tuple[str, str]]:
    """Precisions and engines; those that are installed, and on the CPU alone."""
    torch_alone = [("32", "torch"), ("bf16", "torch")]
    if smoke or default_device().type != "cpu":
        return torch_alone
    engines = [name for name in ("onnxruntime", "openvino") if find_spec(name)]
    more = [("bf16", name) for name in engines if name == "openvino"]
    return [*torch_alone, *(("32", name) for name in engines), *more]


def _untrained(architecture: str, encoder: str, size: int) -> SegmentationModule:
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
    }
    return row | {"different": different}


def _cells(row: dict[str, Any]) -> list[str]:
    """The ratio is that within a repetition."""
    first, second = (row["seconds"][way] for way in ("plain", "ours"))
    rates = [spread([row["images"] / s for s in way], 1) for way in (first, second)]
    return [
        row["network"],
        row["precision"],
        row["engine"],
        *rates,
        spread(ratios(first, second), 2),
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


def _caption(kind: str, count: int, size: int, device: torch.device, repetitions: int) -> str:
    name = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"CPU, {torch.get_num_threads()} threads"
    )
    return (
        f"{count} pictures ({kind}) at {size} x {size} on {name}, random weights; from JPEG files to PNG masks at the size of each "
        f"picture. Plain is a loop in float32, picture by picture; ours writes the table too. Median [quartiles] of {repetitions} "
        "repetitions in turn. bf16: mixed precision, an option that may move pixels near the threshold."
    )
