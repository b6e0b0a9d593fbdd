"""Who is compared with whom: a network of this project, and the same encoder in what its user would otherwise have written."""

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from benchmarks._fits import TakesTurns, Training, Turns
from benchmarks._timing import has_bfloat16
from benchmarks._watches import METRICS, WatchStep
from lightning_seg.data.datamodule import default_workers

LR = 1e-3
LONG = 1_000_000  # epochs: longer than any measurement


@dataclass(frozen=True)
class Pair:
    """``network``: of smp, or ``attention_unet``, which smp does not have: there the peer trains ours in the plain loop."""

    architecture: str
    encoder: str
    network: str = "Unet"

    @property
    def name(self) -> str:
        return f"{self.architecture} x {self.encoder.partition('.')[0]}"

    @property
    def same(self) -> bool:
        """The plain loop trains our network."""
        return self.network == self.architecture

    @property
    def peer(self) -> str:
        return "ours, in the plain loop" if self.same else f"smp.{self.network}"

    def plain_args(self, table: Path, size: int, batch: int, **options: Any) -> list[str]:
        """Of `benchmarks._plain.main`."""
        named = {
            "network": self.network,
            "encoder": f"tu-{self.encoder}",
            "size": size,
            "batch": batch,
            "lr": LR,
        }
        return [str(table), *(f"--{key}={value}" for key, value in (named | options).items())]

    def our_args(self, table: Path, size: int, batch: int, runs: Path, *more: str) -> list[str]:
        """Of `lightning_seg.cli.run`."""
        model = [
            "--model.architecture",
            self.architecture,
            "--model.encoder",
            self.encoder,
            "--model.lr",
            str(LR),
        ]
        data = ["--data.dataset", "folder", "--data.root", str(table), "--data.size", str(size)]
        data += [
            "--data.batch_size",
            str(batch),
            "--data.augment",
            "unet_a",
            "--data.cache",
            str(runs / "cache"),
            # pictures of a smoke run are too small for their foreground
            "--data.allow_absent_classes",
            "true",
        ]
        place = [
            "--runs",
            str(runs),
            "--trainer.devices",
            "1",
            "--trainer.enable_progress_bar",
            "false",
        ]
        return ["fit", *model, *data, *place, *more]


PAIRS = (
    Pair("unet", "mobilenetv2_100"),
    Pair("unet", "resnet34"),
    Pair("unet", "tf_efficientnet_b4"),
    Pair("attention_unet", "convnext_tiny.fb_in1k", "attention_unet"),
)
SMOKE_PAIRS = (Pair("unet", "test_resnet.r160_in1k"),)
ENDLESS = (
    *("--trainer.num_sanity_val_steps", "0", "--trainer.check_val_every_n_epoch", str(LONG)),
    *("--trainer.max_epochs", str(LONG), "--model.schedule", "constant", "--model.warmup", "0"),
)


def ours(connection: Connection, args: Sequence[str], watched: bool = False) -> None:
    """The real command line."""
    from lightning_seg.cli import run

    own = WatchStep(METRICS["ours"]) if watched else None
    place = ["--name", f"process-{os.getpid()}"]  # of its own: several may start at once
    run([*args, *place], [*([own] if own else []), TakesTurns(connection, own)])


def plain(connection: Connection, args: Sequence[str], watched: bool = False) -> None:
    """The loop that one writes oneself."""
    from benchmarks import _plain

    own = WatchStep(METRICS["plain"]) if watched else None
    _plain.main(args, [*([own] if own else []), TakesTurns(connection, own)])


def synthetic(
    connection: Connection, pair: Pair, size: int, batch: int, bfloat16: bool, cuda: bool
) -> None:
    """The bare step of our module on one random batch that stays on the device, set up as in `fit`: no loader, scores, Lightning."""
    from lightning_seg.training.module import SegmentationModule

    device = torch.device("cuda" if cuda else "cpu")
    torch.set_float32_matmul_precision("high")
    # as `fit` has them
    torch.use_deterministic_algorithms(not cuda, warn_only=True)
    torch.backends.cudnn.benchmark = cuda
    module = SegmentationModule(pair.architecture, pair.encoder).to(device).train()
    module.execution.prepare(module.net, device)
    optimizer = torch.optim.AdamW(module.parameters(), lr=LR, fused=True)
    image = torch.randint(0, 256, (batch, 3, size, size), dtype=torch.uint8, device=device)
    image = image.contiguous(memory_format=torch.channels_last)
    mask = (image[:, :1] > 127).float()
    turns = Turns(connection, device, {"precision": "bf16-mixed" if bfloat16 else "32-true"})
    while True:
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.bfloat16) if bfloat16 else ExitStack():
            output = module(image)
        loss = module.loss(output.logits.float(), mask)
        loss.backward()
        optimizer.step()
        turns.step(batch, loss)


def trainings(
    pair: Pair,
    table: Path,
    size: int,
    batch: int,
    scratch: Path,
    device: torch.device,
    watched: bool = False,
) -> dict[str, Training]:
    """All ways to train a pair, those in bfloat16 where the device has it; `WatchStep` may watch all but the synthetic one.

    On a GPU the plain loop has as many workers as ours.
    """
    fast, cuda = has_bfloat16(device), device.type == "cuda"
    place = {
        "runs": scratch / "plain",
        "accelerator": "gpu" if cuda else "cpu",
        "epochs": LONG,
        "validate_every": LONG,
    }
    place["workers"] = max(2, default_workers())
    theirs = partial(pair.plain_args, table, size, batch, **place)
    own = pair.our_args(
        table, size, batch, scratch, *ENDLESS, "--trainer.accelerator", "gpu" if cuda else "cpu"
    )
    found: dict[str, Training] = {
        "ours, float32": partial(
            ours, args=[*own, "--trainer.precision", "32-true"], watched=watched
        ),
        "ours, defaults": partial(ours, args=own, watched=watched),
        "synthetic": partial(
            synthetic, pair=pair, size=size, batch=batch, bfloat16=fast, cuda=cuda
        ),
    }
    networks = {"plain": pair.network} | (
        {} if pair.same else {"plain, our network": pair.architecture}
    )
    for name, network in networks.items():
        for precision in ("32-true", "bf16-mixed") if fast else ("32-true",):
            way = name if precision == "32-true" else f"{name}, {precision}"
            found[way] = partial(
                plain, args=theirs(network=network, precision=precision), watched=watched
            )
    return found


def write_pictures(scratch: Path, smoke: bool, count: int = 200) -> tuple[Path, str]:
    """A table of images and masks in files, 80 % of them to train on, and what they are: Kvasir-SEG, or as many phantoms."""
    from lightning_seg.data import SegmentationDataModule
    from lightning_seg.data.sources.base import DATA_VARIABLE

    folder = os.environ.get(DATA_VARIABLE)
    real = Path(folder) / "kvasir-seg" if folder else None
    if real and real.is_dir() and not smoke:
        split = SegmentationDataModule("kvasir_seg", protocol="kvasir-unet-a").split
        rows = [(id, name, real) for name, ids in split.ids.items() for id in ids]
        kind = f"Kvasir-SEG ({len(rows)} images)"
    else:
        count, side = (12, 64) if smoke else (count, 560)
        splits = [
            split
            for split, tenths in (("train", 8), ("val", 1), ("test", 1))
            for _ in range(tenths)
        ]
        rows = [
            (id, splits[i % 10], scratch)
            for i, id in enumerate(write_phantoms(scratch, count, side))
        ]
        kind = f"{count} phantoms (SYNTHETIC) of {side} x {side} as JPEG"
    lines = [
        f"{id},{place / 'images' / id}.jpg,{place / 'masks' / id}.jpg,{split}"
        for id, split, place in rows
    ]
    table = scratch / "table.csv"
    table.write_text("\n".join(["id,image,mask,split", *lines]) + "\n", encoding="utf-8")
    return table, kind


def write_phantoms(folder: Path, count: int, side: int) -> Sequence[str]:
    """Pictures and masks as JPEG in two folders, as the data set ``folder`` reads them; their ids."""
    from PIL import Image

    from lightning_seg.data.sources.phantom_polyp import PhantomPolyp

    source = PhantomPolyp(count=count, resolution=side)
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for id in source.ids:
        image, mask, _ = source.read(id)
        Image.fromarray(image).save(folder / "images" / f"{id}.jpg", quality=95)
        Image.fromarray(255 * mask[..., 0]).save(folder / "masks" / f"{id}.jpg", quality=95)
    return source.ids
