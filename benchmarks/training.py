"""Training images per second from files: this project's command line against a plain Lightning loop over smp, side by side.

All ways take turns, a few seconds each, while the others stand still: the plain loop in float32 (as it is by default), in
bfloat16 and over our network, ours in float32 and with its defaults, and the bare step on one random batch that stays on the
device: the limit.
"""

import statistics
import tempfile
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks._fits import Turn, fits, rates, take_turns
from benchmarks._peers import PAIRS, SMOKE_PAIRS, Pair, trainings, write_pictures
from benchmarks._section import Bars, Section, ratios, spread, table
from benchmarks._timing import find_device, matrix_rates
from lightning_seg.models._listing import count

Row = dict[str, Any]
SIZE, TURNS, SECONDS = 256, 6, 2.5
QUICK_TURNS, QUICK_SECONDS = 5, 1.0


def run(smoke: bool = False, compiled: bool = False) -> Section:
    """The section of the results; ``smoke``: one tiny network, ``compiled`` changes nothing."""
    device = torch.device("cpu") if smoke else find_device()
    return section(list(measure(device, smoke)), matrix_rates(device, smoke))


def measure(
    device: torch.device, smoke: bool = False, quick: bool = False, pairs: Sequence[Pair] = PAIRS
) -> Generator[Row]:
    """A row per pair: all turns of all ways."""
    turns, seconds = (2, 0.0) if smoke else (QUICK_TURNS, QUICK_SECONDS) if quick else (TURNS, SECONDS)
    size, batch = (32, 2) if smoke else (SIZE, 8 if device.type == "cpu" else 32)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        file, kind = write_pictures(scratch, smoke)
        for pair in SMOKE_PAIRS if smoke else pairs:
            ways = trainings(pair, file, size, batch, scratch, device)
            with fits(ways, scratch) as running:
                yield {"pictures": kind, "batch": batch} | _row(pair, take_turns(running, turns, seconds), size)


def _row(pair: Pair, taken: dict[str, list[Turn]], size: int) -> Row:
    last = {name: turns[-1] for name, turns in taken.items()}
    return {
        "network": pair.name,
        "peer": pair.peer,
        "size": size,
        "macs": count(pair.architecture, size, encoder=pair.encoder)[1],
        "peer_macs": peer_macs(pair, size),
        "parameters": {name: turn.facts.get("parameters") for name, turn in last.items()},
        "precision": {name: turn.facts["precision"] for name, turn in last.items()},
        "steps": {name: sum(turn.steps for turn in turns) for name, turns in taken.items()},
        "images_per_second": {name: rates(turns) for name, turns in taken.items()},
        "loss": {name: [turn.loss for turn in turns] for name, turns in taken.items()},
    }


def peer_macs(pair: Pair, size: int) -> int:
    """Multiply-adds of the peer's network for one image."""
    from torch.utils.flop_counter import FlopCounterMode

    from benchmarks._plain import build

    with torch.device("meta"):
        net = build(pair.network, f"tu-{pair.encoder}").eval()
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            net(torch.empty(1, 3, size, size))
    return counter.get_total_flops() // 2


def section(rows: list[Row], peak: dict[str, list[float]]) -> Section:
    """Markdown, all numbers, and a chart."""
    text = "\n\n".join([_caption(rows[0]), _speeds(rows), _limits(rows, peak), _parity(rows)])
    bars = {
        f"{row['network']}: {name}": ratios(row["images_per_second"][name], row["images_per_second"]["plain"])
        for row in rows
        for name in row["images_per_second"]
        if name.startswith("ours")
    }
    chart = Bars("Training from files, against the plain loop in float32", "times as many images per second", bars, 1.0)
    return Section(text, {"rows": rows, "matrix_product_flops": peak}, {"speed": chart})


def _caption(row: Row) -> str:
    return (
        f"{row['pictures']} at {row['size']} x {row['size']}, batches of {row['batch']}, random weights, after the first epoch's "
        "reading. Plain: a Lightning loop over segmentation_models_pytorch with cv2, albumentations, two workers and a torchmetrics "
        "collection, in float32; ours: `lightning-seg fit`. Over the same timm encoder; smp's decoder is its own and often larger, so "
        "one column lets the plain loop train our network: there the loop alone makes the difference. Median "
        f"[quartiles] of {len(row['loss']['plain'])} turns; ratios are those within a round of turns."
    )


def _speeds(rows: list[Row]) -> str:
    heads = ("network", "peer", "plain, images/s", "ours float32, times plain", "ours with its defaults, times plain")
    lines = []
    for row in rows:
        speed = row["images_per_second"]
        default, precision = speed["ours, defaults"], row["precision"]["ours, defaults"]
        even = _even(row)
        cells = [row["network"], row["peer"], spread(speed["plain"], 1)]
        cells += [spread(ratios(speed["ours, float32"], speed["plain"]), 2)]
        cells += [f"{spread(ratios(default, speed['plain']), 2)} ({precision})"]
        alone = speed.get("plain, our network", speed["plain"])
        cells += [spread(ratios(default, speed[even]), 2) if even else "-"]
        lines.append([*cells, spread(ratios(speed["ours, float32"], alone), 2)])
    more = ("the same, times plain in that precision", "the loop alone: our network in both, float32")
    return table([*heads, *more], lines)


def _even(row: Row) -> str | None:
    """The plain loop in the precision of our defaults."""
    wanted, ways = row["precision"]["ours, defaults"], ("plain", "plain, bf16-mixed")
    return next((name for name in ways if row["precision"].get(name) == wanted), None)


def _limits(rows: list[Row], peak: dict[str, list[float]]) -> str:
    most = {name: statistics.median(found) for name, found in peak.items()}
    heads = ("network", "bare step on a random batch, images/s", "ours reaches of it", "GFLOP/s of the bare step")
    lines = []
    for row in rows:
        speed, precision = row["images_per_second"], row["precision"]
        fast = "bfloat16" if precision["synthetic"] == "bf16-mixed" else "float32"
        even = [name for name in ("ours, defaults", "ours, float32") if precision[name] == precision["synthetic"]]
        done = 6 * row["macs"] * statistics.median(speed["synthetic"])
        share = spread([100 * r for r in ratios(speed[even[0]], speed["synthetic"])], 1) + " %" if even else "-"
        of_peak = f"{done / 1e9:.0f}, {100 * done / most[fast]:.1f} % of a matrix product's in {fast}"
        lines.append([row["network"], f"{spread(speed['synthetic'], 1)} ({precision['synthetic']})", share, of_peak])
    product = ", ".join(f"{name} {rate / 1e9:.0f} GFLOP/s" for name, rate in most.items())
    return f"{table(heads, lines)}\n\nA large matrix product: {product}. A training step is counted as six times its multiply-adds."


def _parity(rows: list[Row]) -> str:
    heads = (
        "network",
        "parameters ours / peer",
        "GMACs ours / peer",
        "training loss at last: plain, ours float32, ours",
    )
    lines = []
    for row in rows:
        losses = [row["loss"][name][-1] for name in ("plain", "ours, float32", "ours, defaults")]
        sizes = " / ".join(f"{row['parameters'][name]:,}" for name in ("ours, float32", "plain"))
        work = f"{row['macs'] / 1e9:.2f} / {row['peer_macs'] / 1e9:.2f}"
        lines.append([row["network"], sizes, work, ", ".join(f"{loss:.3f}" for loss in losses)])
    return f"Both train the same thing:\n\n{table(heads, lines)}"
