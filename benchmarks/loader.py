"""Images per second of the project's loader against a plain one, on the same pictures with the same augmentation.

Plain is what most repositories have: files that are opened in ``__getitem__``, an albumentations pipeline that also scales
and normalises, torch's DataLoader.
"""

import itertools
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from benchmarks._section import Bars, Section, spread
from lightning_seg.data import SegmentationDataModule
from lightning_seg.data.augment.pipeline import PRESETS
from lightning_seg.data.sources.base import DATA_VARIABLE
from lightning_seg.data.sources.phantom_polyp import PhantomPolyp
from lightning_seg.models.frame.listing import count

PRESET = "unet_a"
NETWORK, ENCODER = "attention_unet", "convnext_tiny.fb_in1k"
H100_PEAK = 989e12  # FLOP/s, dense bfloat16, of its data sheet
STEPS = (0.64, 0.16, 0.04)  # seconds that a made-up network takes for a batch of 64

Loaders = dict[str, Callable[[int], DataLoader[Any]]]  # name -> the loader with so many workers


@contextmanager
def one_core() -> Iterator[None]:
    """Within, torch and OpenCV use one thread, also for decoding."""
    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])


def run(smoke: bool = False, compiled: bool = False) -> Section:
    """The section of the results; ``smoke``: a few tiny phantoms, ``compiled`` changes nothing."""
    size, batch, repetitions = (32, 4, 2) if smoke else (256, 64, 15)
    steps = STEPS[-1:] if smoke else STEPS
    with one_core(), tempfile.TemporaryDirectory() as scratch:
        root, pictures = _pictures(Path(scratch), smoke)
        loaders, starts = _loaders(root, Path(scratch), size, batch)
        rates = speed(loaders, batch, repetitions)
        waiting = {
            name: [wait(loader(1), step * batch / 64, 2 if smoke else 8) for step in steps]
            for name, loader in loaders.items()
        }
    rate = np.median(rates["ours, in memory"])
    parts = (
        _caption(pictures, size, batch, repetitions),
        _table(rates, waiting, steps),
        starts,
        _demand(float(rate), size),
    )
    faster = {
        name: list(found / rates["plain"]) for name, found in rates.items() if name != "plain"
    }
    data = {
        "images_per_second": {name: list(found) for name, found in rates.items()},
        "waiting": waiting,
    }
    chart = Bars("Loading, images/s of one core", "times a plain loader", faster, 1.0)
    return Section("\n\n".join(parts), data, {"speed": chart})


class Plain(Dataset[Any]):
    """Pairs of files, opened anew each time."""

    def __init__(self, root: Path, ids: tuple[str, ...], size: int) -> None:
        import albumentations as A

        self.files = [(root / "images" / f"{id}.jpg", root / "masks" / f"{id}.jpg") for id in ids]
        chain = [
            getattr(A, t["name"])(**{k: v for k, v in t.items() if k != "name"})
            for t in PRESETS[PRESET]
        ]
        self.transform = A.Compose([A.Resize(size, size), *chain, A.Normalize(), A.ToTensorV2()])

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        image_file, mask_file = self.files[index]
        image, mask = (
            np.array(Image.open(image_file).convert("RGB")),
            np.array(Image.open(mask_file).convert("L")),
        )
        changed = self.transform(image=image, mask=(mask > 127).astype(np.float32))
        return changed["image"], changed["mask"][None]


def _pictures(scratch: Path, smoke: bool) -> tuple[Path, str]:
    folder = os.environ.get(DATA_VARIABLE)
    real = Path(folder) / "kvasir-seg" if folder else None
    if real and real.is_dir() and not smoke:
        return real, "Kvasir-SEG"
    source = PhantomPolyp(count=12 if smoke else 200, resolution=64 if smoke else 560)
    for part in ("images", "masks"):
        (scratch / "phantom" / part).mkdir(parents=True)
    for id in source.ids:
        image, mask, _ = source.read(id)
        Image.fromarray(image).save(scratch / "phantom" / "images" / f"{id}.jpg", quality=95)
        Image.fromarray(255 * mask[..., 0]).save(
            scratch / "phantom" / "masks" / f"{id}.jpg", quality=95
        )
    return scratch / "phantom", "phantoms (SYNTHETIC), 560 x 560, as JPEG"


def _loaders(root: Path, scratch: Path, size: int, batch: int) -> tuple[Loaders, str]:
    def module(workers: int, cache: str | None, place: Any = "workers") -> SegmentationDataModule:
        options = {"size": size, "batch_size": batch, "augment": PRESET, "augment_on": place}
        found = SegmentationDataModule(
            "folder", str(root), num_workers=workers, cache=cache, **options
        )
        found.setup("fit")
        return found

    folder, starts = str(scratch / "cache"), []
    for name, cache in (
        ("decoding into memory", None),
        ("building the cache", folder),
        ("finding the cache", folder),
    ):
        begin = time.perf_counter()
        ids = module(0, cache).ids("train")
        starts.append(f"{name} {time.perf_counter() - begin:.2f} s")
    loaders: Loaders = {
        "plain": lambda workers: DataLoader(
            Plain(root, ids, size), batch, shuffle=True, num_workers=workers
        ),
        "ours, in memory": lambda workers: module(workers, None).train_dataloader(),
        "ours, mapped cache": lambda workers: module(workers, folder).train_dataloader(),
        "ours, augment_on: device": lambda workers: module(
            workers, folder, "device"
        ).train_dataloader(),
    }
    return (
        loaders,
        f"Before the first step, for training and validation together: {', '.join(starts)}.",
    )


def _endless(loader: DataLoader[Any]) -> Iterator[Any]:
    for epoch in itertools.count():
        getattr(loader.sampler, "set_epoch", int)(epoch)
        yield from loader


def speed(loaders: Loaders, batch: int, repetitions: int) -> dict[str, np.ndarray]:
    """Images per second of one core's time without workers, each repetition; the loaders take turns."""
    streams = {name: _endless(loader(0)) for name, loader in loaders.items()}
    for stream in streams.values():
        next(stream)
    rates: dict[str, list[float]] = {name: [] for name in loaders}
    for _ in range(repetitions):
        for name, stream in streams.items():
            batches = 1 if name == "plain" else 4
            begin = time.process_time()
            for _ in range(batches):
                next(stream)
            rates[name].append(batch * batches / (time.process_time() - begin))
    return {name: np.array(found) for name, found in rates.items()}


def wait(loader: DataLoader[Any], step: float, batches: int) -> float:
    """The share of its time that a network which takes ``step`` seconds a batch spends waiting for one worker."""
    stream, waited = _endless(loader), 0.0
    for _ in range(3):
        next(stream)  # the worker starts, and the batches that it made ahead are taken
    begin = time.perf_counter()
    for _ in range(batches):
        time.sleep(step)
        asked = time.perf_counter()
        next(stream)
        waited += time.perf_counter() - asked
    return waited / (time.perf_counter() - begin)


def _table(
    rates: dict[str, np.ndarray], waiting: dict[str, list[float]], steps: Sequence[float]
) -> str:
    heads = " | ".join(f"waiting, {64 / step:.0f} images/s wanted" for step in steps)
    lines = [
        f"| loader | times plain | images/s of one core | {heads} |",
        "|---" * (3 + len(steps)) + "|",
    ]
    for name, found in rates.items():
        ratio = "1" if name == "plain" else spread(found / rates["plain"], 1)
        shares = " | ".join(f"{share:.1%}" for share in waiting[name])
        lines.append(f"| {name} | {ratio} | {spread(found, 0)} | {shares} |")
    return "\n".join(lines)


def _caption(pictures: str, size: int, batch: int, repetitions: int) -> str:
    return (
        f"{pictures} at {size} x {size}, preset {PRESET}, batches of {batch}, after the first epoch. Images per second of one "
        f"core's time, no workers: median [quartiles] of {repetitions} repetitions in turn. Waiting: the share of a made-up "
        "network's time (a pause) that it waits for one worker. With augment_on: device the pixels are changed later, elsewhere."
    )


def _demand(rate: float, size: int) -> str:
    macs = count(NETWORK, size, encoder=ENCODER)[1]
    most = H100_PEAK / (6 * macs)
    return (
        f"{NETWORK} over {ENCODER} takes {macs / 1e9:.1f} GMACs forward, six times that in FLOP for a training step: an H100 at "
        f"its full dense bfloat16 peak, which no network reaches, could want {most:.0f} images/s and at 30 % of it "
        f"{0.3 * most:.0f}; that is {most / rate:.1f} and {0.3 * most / rate:.1f} cores like this one."
    )
