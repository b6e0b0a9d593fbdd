"""Equal score: this project and the plain loop train the same few epochs on Kvasir-SEG; validation Dice and minutes of each.

Takes about half an hour on two cores, so `--long` must ask for it.
"""

import functools
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks._peers import Pair, write_pictures
from benchmarks._section import Bars, Section, spread, table

EPOCHS, SIZE, BATCH, SEEDS, LR = 6, 128, 16, (42, 43, 44), 5e-4
PAIR, SMOKE_PAIR = Pair("unet", "mobilenetv2_100"), Pair("unet", "test_resnet.r160_in1k")
Row = dict[str, Any]


def run(smoke: bool = False, compiled: bool = False) -> Section:
    """The section of the results; ``smoke``: an epoch of a tiny network, ``compiled`` changes nothing."""
    epochs, size, batch, seeds = (1, 32, 2, SEEDS[:1]) if smoke else (EPOCHS, SIZE, BATCH, SEEDS)
    pair, rows = SMOKE_PAIR if smoke else PAIR, []
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        file, kind = write_pictures(scratch, smoke)
        weights = _weights(pair)
        plain = functools.partial(
            pair.plain_args, file, size, batch, epochs=epochs, lr=LR, runs=scratch / "plain"
        )
        start = {"weights": weights} if weights else {}
        common = ["--trainer.max_epochs", str(epochs), "--model.lr", str(LR)]
        common += ["--model.pretrained", "true" if weights else "false"]
        ours = functools.partial(pair.our_args, file, size, batch, scratch, *common)
        for place, seed in enumerate(seeds):
            ways = {
                "plain": functools.partial(_plain, plain(seed=seed, **start)),
                "ours": functools.partial(_ours, [*ours(), "--seed_everything", str(seed)]),
            }
            found = {way: _alone(ways[way]) for way in (ways if place % 2 else reversed(ways))}
            rows.append({"seed": seed, **found})
    return _section(rows, f"{kind} at {size} x {size}, {pair.name}", epochs, bool(weights))


def _weights(pair: Pair) -> Path | None:
    """The encoder's pre-trained weights, where they lie in $LIGHTNING_SEG_WEIGHTS."""
    file = Path(os.environ.get("LIGHTNING_SEG_WEIGHTS", ".")) / f"{pair.encoder}.safetensors"
    return file if file.is_file() else None


def _alone(train: Callable[[], Row]) -> Row:
    """In a process of its own: either way sets switches of torch that would outlast it."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(train).result()


def _plain(args: list[str]) -> Row:
    from benchmarks import _plain as loop

    start = time.monotonic()
    trainer = loop.main(args)
    return {
        "dice": float(trainer.callback_metrics["val/dice"]),
        "minutes": (time.monotonic() - start) / 60,
    }


def _ours(args: list[str]) -> Row:
    from lightning_seg.cli import run as fit

    start = time.monotonic()
    trainer = fit(args).trainer
    found = {
        "dice": float(trainer.callback_metrics["val/dice"]),
        "minutes": (time.monotonic() - start) / 60,
    }
    return found | {"precision": trainer.precision}


def _section(rows: list[Row], what: str, epochs: int, pretrained: bool) -> Section:
    caption = (
        f"{what}, {'ImageNet weights' if pretrained else 'random weights'}, {epochs} epochs, learning rate {LR:g}, {len(rows)} "
        f"seeds; each way as it is by default: plain in float32 at a constant rate, ours in {rows[0]['ours']['precision']} with "
        "warm-up and cosine. Dice over the pixels of the validation images, after the last epoch."
    )
    ways = ("plain", "ours")
    scores = {way: [row[way]["dice"] for row in rows] for way in ways}
    minutes = {way: [row[way]["minutes"] for row in rows] for way in ways}
    lines = [
        [way, spread(scores[way], 4), *(f"{s:.4f}" for s in scores[way]), spread(minutes[way], 1)]
        for way in ways
    ]
    heads = ("way", "validation Dice", *(f"seed {row['seed']}" for row in rows), "minutes")
    return Section(
        f"{caption}\n\n{table(heads, lines)}",
        {"rows": rows},
        {"dice": Bars("Equal score", "Dice", scores)},
    )
