"""Training images per second from files: this project's command line against a plain Lightning loop over smp, side by side.

All ways take turns, a few seconds each, while the others stand still: the plain loop over smp's network and over ours, in
float32 and bfloat16; ours in float32 and with its defaults; and the bare step on one random batch that stays on the device.
"""

import statistics
import tempfile
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks._fits import Turn, check_time, fits, rates, take_turns
from benchmarks._peers import PAIRS, SMOKE_PAIRS, Pair, trainings, write_pictures
from benchmarks._section import Bars, Section, ratios, spread, table
from benchmarks._timing import matrix_rates
from lightning_seg.models.frame.listing import count
from lightning_seg.runs.gpus import default_device

Row = dict[str, Any]
SIZE, TURNS, SECONDS = 256, 6, 2.5
QUICK_TURNS, QUICK_SECONDS = 5, 1.0


def run(smoke: bool = False, compiled: bool = False) -> Section:
    """The section of the results; ``smoke``: one tiny network, ``compiled`` changes nothing."""
    device = torch.device("cpu") if smoke else default_device()
    return section(list(measure(device, smoke)), matrix_rates(device, smoke))


def measure(
    device: torch.device,
    smoke: bool = False,
    quick: bool = False,
    pairs: Sequence[Pair] = PAIRS,
    until: float | None = None,
) -> Generator[Row]:
    """A row per pair: all turns of all ways; ``until`` as in `benchmarks._fits.fits`."""
    turns, seconds = (
        (2, 0.0) if smoke else (QUICK_TURNS, QUICK_SECONDS) if quick else (TURNS, SECONDS)
    )
    size, batch = (32, 2) if smoke else (SIZE, 8 if device.type == "cpu" else 32)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        file, kind = write_pictures(scratch, smoke)
        for pair in SMOKE_PAIRS if smoke else pairs:
            check_time(until, pair.name)
            ways = trainings(pair, file, size, batch, scratch, device)
            with fits(ways, scratch, until) as running:
                row = _row(pair, take_turns(running, turns, seconds), size)
                yield {"pictures": kind, "batch": batch, "lost": running.lost} | row


def _row(pair: Pair, taken: dict[str, list[Turn]], size: int) -> Row:
    last = {name: turns[-1] for name, turns in taken.items()}
    return {
        "network": pair.name,
        "peer": pair.peer,
        "size": size,
        "macs": count(pair.architecture, size, encoder=pair.encoder)[1],
        "peer_macs": peer_macs(pair, size) if "plain" in taken else None,
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
    text = "\n\n".join([_caption(rows[0]), _loops(rows), _as_taken(rows), _limits(rows, peak)])
    bars = {
        f"{row['network']}, {precision}": ratios(
            row["images_per_second"][own], row["images_per_second"][plain]
        )
        for row in rows
        for precision, own, plain in _same_network(row)
    }
    chart = Bars(
        "One network from files: ours against the plain loop",
        "times as many images per second",
        bars,
        1.0,
    )
    return Section(text, {"rows": rows, "matrix_product_flops": peak}, {"speed": chart})


def _caption(row: Row) -> str:
    return (
        f"{row['pictures']} at {row['size']} x {row['size']}, batches of {row['batch']}, random weights, after the first epoch's "
        "reading. Plain: a Lightning loop over segmentation_models_pytorch with cv2, albumentations, workers and a torchmetrics "
        f"collection; ours: `lightning-seg fit`. Median [quartiles] of {len(row['loss']['plain'])} turns; ratios are those within a "
        "round of turns."
    )


def _same_network(row: Row) -> list[tuple[str, str, str]]:
    """Precision, our way and the plain one, where both train our network in the same precision."""
    plain = "plain, our network" if "plain, our network" in row["precision"] else "plain"
    ways = [
        (own, way)
        for own in ("ours, float32", "ours, defaults")
        for way in (plain, f"{plain}, bf16-mixed")
    ]
    known = [(own, way) for own, way in ways if way in row["precision"]]
    found = {
        row["precision"][own]: (own, way)
        for own, way in known
        if row["precision"][own] == row["precision"][way]
    }
    return [(precision, *pair) for precision, pair in found.items()]


def _loops(rows: list[Row]) -> str:
    precisions = [precision for precision, *_ in _same_network(rows[0])]
    heads = [
        "network",
        *(h for p in precisions for h in (f"plain, {p}, images/s", f"ours, {p}, times plain")),
    ]
    lines = []
    for row in rows:
        speed, cells = row["images_per_second"], [row["network"]]
        for _, own, plain in _same_network(row):
            cells += [spread(speed[plain], 1), spread(ratios(speed[own], speed[plain]), 2)]
        lines.append(cells)
    return (
        "Our network in both loops. What differs: images decoded once, channels last, the fused optimiser, scores from counts, "
        f"kernels of some layers:\n\n{table(heads, lines)}"
    )


def _as_taken(rows: list[Row]) -> str:
    heads = (
        "network",
        "peer",
        "parameters, ours / peer",
        "GMACs, ours / peer",
        "plain float32, images/s",
    )
    more = (
        "ours float32, times that",
        "ours with its defaults, times that",
        "the same, times plain in that precision",
    )
    lines = []
    for row in rows:
        speed, precision = row["images_per_second"], row["precision"]["ours, defaults"]
        default, even = speed["ours, defaults"], _even(row)
        cells = [row["network"], row["peer"]]
        cells += [" / ".join(f"{row['parameters'][name]:,}" for name in ("ours, float32", "plain"))]
        cells += [
            f"{row['macs'] / 1e9:.2f} / {row['peer_macs'] / 1e9:.2f}",
            spread(speed["plain"], 1),
        ]
        cells += [spread(ratios(speed["ours, float32"], speed["plain"]), 2)]
        cells += [f"{spread(ratios(default, speed['plain']), 2)} ({precision})"]
        lines.append([*cells, spread(ratios(default, speed[even]), 2) if even else "-"])
    return (
        "As either is taken: smp's network, float32, against ours and its default precision. Over one encoder smp's decoder is "
        f"another, often larger one, so these ratios compare networks, too:\n\n{table([*heads, *more], lines)}"
    )


def _even(row: Row) -> str | None:
    """The plain loop in the precision of our defaults."""
    wanted, ways = row["precision"]["ours, defaults"], ("plain", "plain, bf16-mixed")
    return next((name for name in ways if row["precision"].get(name) == wanted), None)


def _limits(rows: list[Row], peak: dict[str, list[float]]) -> str:
    most = {name: statistics.median(found) for name, found in peak.items()}
    heads = (
        "network",
        "bare step on a random batch, images/s",
        "ours reaches of it",
        "GFLOP/s of the bare step",
    )
    lines = []
    for row in rows:
        speed, precision = row["images_per_second"], row["precision"]
        fast = "bfloat16" if precision["synthetic"] == "bf16-mixed" else "float32"
        even = [
            name
            for name in ("ours, defaults", "ours, float32")
            if precision[name] == precision["synthetic"]
        ]
        done = 6 * row["macs"] * statistics.median(speed["synthetic"])
        share = (
            spread([100 * r for r in ratios(speed[even[0]], speed["synthetic"])], 1) + " %"
            if even
            else "-"
        )
        of_peak = (
            f"{done / 1e9:.0f}, {100 * done / most[fast]:.1f} % of a matrix product's in {fast}"
        )
        lines.append(
            [
                row["network"],
                f"{spread(speed['synthetic'], 1)} ({precision['synthetic']})",
                share,
                of_peak,
            ]
        )
    product = ", ".join(f"{name} {rate / 1e9:.0f} GFLOP/s" for name, rate in most.items())
    return f"{table(heads, lines)}\n\nA large matrix product: {product}. A training step is counted as six times its multiply-adds."
