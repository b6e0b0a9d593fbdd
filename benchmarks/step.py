"""Where the time of a training step goes, ours and the plain loop's; and does the host ever wait for the device in it?"""

import statistics
import tempfile
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks._fits import Turn, check_time, fits, take_turns
from benchmarks._peers import PAIRS, SMOKE_PAIRS, Pair, trainings, write_pictures
from benchmarks._section import Bars, Section, spread, table
from benchmarks._timing import has_bfloat16
from benchmarks._watches import PARTS
from lightning_seg.runs.gpus import default_device

Row = dict[str, Any]
SIZE, TURNS, SECONDS = 256, 5, 2.0


def run(smoke: bool = False, compiled: bool = False) -> Section:
    """The section of the results; ``smoke``: one tiny network, ``compiled`` changes nothing."""
    return section(list(measure(torch.device("cpu") if smoke else default_device(), smoke)))


def measure(
    device: torch.device,
    smoke: bool = False,
    pairs: Sequence[Pair] = (PAIRS[0], PAIRS[3]),
    seconds: float = SECONDS,
    until: float | None = None,
) -> Generator[Row]:
    """A row per pair and way, both ways in the precision of our defaults; ``until`` as in `benchmarks._fits.fits`."""
    turns, seconds = (2, 0.0) if smoke else (TURNS, seconds)
    size, batch = (32, 2) if smoke else (SIZE, 8 if device.type == "cpu" else 32)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        file, _ = write_pictures(scratch, smoke)
        for pair in SMOKE_PAIRS if smoke else pairs:
            check_time(until, pair.name)
            facts = {"network": pair.name, "batch": batch, "size": size}
            ways = trainings(pair, file, size, batch, scratch, device, watched=True)
            even = "plain, bf16-mixed" if has_bfloat16(device) else "plain"
            with fits(
                {name: ways[name] for name in ("ours, defaults", even)}, scratch, until
            ) as running:
                counted = take_turns(running, 1, 0.0)  # in which waits are counted
                for name, taken in take_turns(running, turns, seconds).items():
                    yield facts | {"way": name} | _row(taken, counted[name][0])
                for name, error in running.lost.items():
                    yield facts | {"way": name, "error": error}


def _row(taken: Sequence[Turn], counted: Turn) -> Row:
    shares = {
        part: [turn.parts[part] / sum(turn.parts[p] for p in PARTS) for turn in taken]
        for part in PARTS
    }
    return {
        "precision": counted.facts["precision"],
        "milliseconds": [1000 * turn.seconds / turn.steps for turn in taken],
        "shares": shares,
        "metrics_and_logging": [
            m + rest for m, rest in zip(shares[PARTS[-2]], shares[PARTS[-1]], strict=True)
        ],
        "waits": counted.parts["waits"],
        "watched_steps": counted.steps,
    }


def section(rows: list[Row]) -> Section:
    """Markdown, all numbers, and a chart."""
    heads = ("network", "way", "step, ms", *PARTS, "metrics and all after", "host waits per step")
    lines = []
    for row in rows:
        shares = [f"{100 * statistics.median(row['shares'][part]):.1f} %" for part in PARTS]
        both = spread([100 * share for share in row["metrics_and_logging"]], 2) + " %"
        waits = f"{row['waits'] / row['watched_steps']:g}"
        way = f"{row['way'].partition(',')[0]} ({row['precision']})"
        lines.append([row["network"], way, spread(row["milliseconds"], 0), *shares, both, waits])
    bars = {
        f"{row['network']}: {row['way']}": [100 * s for s in row["metrics_and_logging"]]
        for row in rows
    }
    chart = Bars(
        "Metrics, logging, callbacks and the loop itself",
        "% of a training step (target: below 2)",
        bars,
        2.0,
    )
    return Section(
        f"{_caption(rows[0])}\n\n{table(heads, lines)}", {"rows": rows}, {"overhead": chart}
    )


def _caption(row: Row) -> str:
    return (
        f"A training step of {row['batch']} images at {row['size']} x {row['size']}: medians of the shares of "
        f"{len(row['milliseconds'])} turns; [quartiles]. Timers stand around Lightning's own actions (on a GPU they wait for it, so "
        "that the parts add up, and the step is slower than it is unwatched). The last part is all that has no other name: "
        "callbacks, logger, Lightning's loop. Host waits: how often the host waits for the device, or on the CPU would wait for one, "
        "from a step's start to the end of its backward pass."
    )
