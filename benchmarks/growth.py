"""How time and memory grow: with pixels, batch, images, scans, runs and trials; a power law fitted to each, and its bound."""

import dataclasses
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from benchmarks._live import hollow, step_memory, without_contents
from benchmarks._peers import write_phantoms
from benchmarks._section import Lines, Section, table
from benchmarks._timing import in_turn
from benchmarks.volumes import in_a_process, write_scan
from lightning_seg.models import create
from lightning_seg.training.module import SegmentationModule

LINEAR, FLAT = 1.1, 0.1  # the largest exponents that pass for it: what is measured has noise
SHARED = "unet", "mobilenetv2_100"


@dataclass(frozen=True)
class Curve:
    """``cost`` (seconds or MB) at each of ``sizes``."""

    what: str
    grows: str
    sizes: Sequence[float]
    cost: Sequence[float]
    bound: float = LINEAR

    @property
    def exponent(self) -> float:
        """e of the best ``cost = c * size ** e``."""
        return float(np.polyfit(np.log(self.sizes), np.log(self.cost), 1)[0])


def run(smoke: bool = False, compiled: bool = False) -> Section:
    """The section of the results; ``smoke``: two small sizes of each, ``compiled`` changes nothing."""
    parts = (pixels_and_batch, memory, images, check, scans, runs, trials)
    curves = [curve for part in parts for curve in part(smoke)]
    return section(curves)


def section(curves: list[Curve]) -> Section:
    """Markdown, all numbers, and a chart."""
    heads = ("what", "grows with", "from - to", "cost there", "exponent", "bound", "")
    lines = []
    for c in curves:
        ends = [f"{c.sizes[0]:g} - {c.sizes[-1]:g}", f"{c.cost[0]:.3g} - {c.cost[-1]:.3g}"]
        kind = "flat" if c.bound == FLAT else "linear"
        verdict = "held" if c.exponent <= c.bound else "**missed**"
        lines.append([c.what, c.grows, *ends, f"{c.exponent:.2f}", f"{kind}: {c.bound}", verdict])
    text = "Each cost is fitted by a power of the size; 1 is linear, 0 is flat. Each point is the median of some repetitions."
    data = [dataclasses.asdict(c) | {"exponent": c.exponent} for c in curves]
    memory = [c for c in curves if c.what.endswith(", MB")]
    charts = {
        "time": _chart("Growth of time", [c for c in curves if c not in memory]),
        "memory": _chart("Growth of memory", memory),
    }
    return Section(f"{text}\n\n{table(heads, lines)}", {"curves": data}, charts)


def _chart(title: str, curves: Sequence[Curve]) -> Lines:
    rows: dict[str, Any] = {
        f"{c.what} / {c.grows}": (np.array(c.sizes) / c.sizes[0], np.array(c.cost) / c.cost[0])
        for c in curves
    }
    return Lines(title, "size, relative to the smallest", "cost, likewise", rows, 5.0)


def _median(work: Callable[[], Any], repetitions: int = 3) -> float:
    return float(np.median(in_turn({"": work}, repetitions, warm_up=1)[""]))


def pixels_and_batch(smoke: bool) -> Iterator[Curve]:
    """Time of a training step in float32."""
    sides, batches = ((32, 64), (1, 2)) if smoke else ((64, 128, 256, 384), (2, 4, 8, 16))
    module = SegmentationModule(*SHARED).train()

    def step(batch: int, side: int) -> None:
        image = torch.rand(batch, 3, side, side)
        module.zero_grad()
        module.loss(module(image).logits, (image[:, :1] > 0.5).float()).backward()

    name = f"step of {' x '.join(SHARED)}, s"
    yield Curve(
        name, "pixels", [s**2 for s in sides], [_median(partial(step, 2, side)) for side in sides]
    )
    yield Curve(
        name, "batch", batches, [_median(partial(step, batch, sides[1])) for batch in batches]
    )


def memory(smoke: bool) -> Iterator[Curve]:
    """Of a training step, beyond what is held between steps; MB."""
    sides, batches = ((32, 64), (1, 2)) if smoke else ((128, 256, 512), (4, 16, 64))
    names = ("sa_unet_v2",) if smoke else ("unet", "sa_unet_v2", "pam_unet", "unet3plus")
    for name in names:
        cost = [_megabytes(name, 2, side) for side in sides]
        yield Curve(f"memory of {name}, MB", "pixels", [side**2 for side in sides], cost)
    yield Curve(
        f"memory of {names[0]}, MB",
        "batch",
        batches,
        [_megabytes(names[0], b, sides[0]) for b in batches],
    )


def _megabytes(name: str, batch: int, side: int) -> float:
    with without_contents():
        return (
            step_memory(hollow(partial(create, name)).train(), batch, side, False)["forward"] / 1e6
        )


def images(smoke: bool) -> Iterator[Curve]:
    """Reading a folder of pictures, and a batch of it afterwards."""
    from lightning_seg.data import SegmentationDataModule

    counts = (10, 20) if smoke else (100, 200, 400, 800)
    opening, batch = [], []
    for count in (counts[0], *counts):  # the first imports what reads pictures, and does not count
        with tempfile.TemporaryDirectory() as folder:
            write_phantoms(Path(folder), count, 32 if smoke else 128)
            start = time.perf_counter()
            data = SegmentationDataModule(
                "folder", folder, size=32 if smoke else 128, batch_size=8, num_workers=0
            )
            data.setup("fit")
            opening.append(time.perf_counter() - start)
            stream = iter(data.train_dataloader())
            batch.append(float(np.median([_once(stream) for _ in range(1 if smoke else 6)])))
    yield Curve("reading a folder of pictures, s", "images", counts, opening[1:])
    yield Curve("a batch of it, s", "images", counts, batch[1:], FLAT)


def _once(stream: Iterator[Any]) -> float:
    start = time.perf_counter()
    next(stream)
    return time.perf_counter() - start


def check(smoke: bool) -> Iterator[Curve]:
    """CPU seconds of `lightning-seg data check` with its search for near-duplicates."""
    from lightning_seg.data.check import examine_data
    from lightning_seg.data.sources.base import source_class

    counts, cost = (10, 20) if smoke else (100, 200, 400, 800), []
    for count in (counts[0], *counts):  # the first imports, and does not count
        with tempfile.TemporaryDirectory() as folder, _cached_in(folder):
            pictures = Path(folder) / "pictures"
            write_phantoms(pictures, count, 64 if smoke else 192)
            begin = time.process_time()
            examine_data("folder", source_class("folder")(pictures), [])
            cost.append(time.process_time() - begin)
    yield Curve("data check with near-duplicates, CPU s", "images", counts, cost[1:])


def _cached_in(folder: str) -> Any:
    """Work whose caches lie in ``folder``: pictures that were checked before are not looked at again."""
    return patch.dict(os.environ, {"XDG_CACHE_HOME": str(Path(folder) / "cache")})


def scans(smoke: bool) -> Iterator[Curve]:
    """Memory of a process that reads slices of CT volumes at random, and the time of one."""
    counts, shape, reads = ((1, 2), (6, 24, 24), 20) if smoke else ((4, 16, 64), (24, 96, 96), 1000)
    found = []
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            for number in range(count):
                write_scan(Path(folder), number, shape)
            found.append(in_a_process(Path(folder), reads, 16 if smoke else 96))
    yield Curve(
        "peak memory of reading slices, MB",
        "scans",
        counts,
        [float(f["peak"]) for f in found],
        FLAT,
    )
    yield Curve("a random slice, ms", "scans", counts, [f["1"][1] for f in found], FLAT)


def runs(smoke: bool) -> Iterator[Curve]:
    """The leaderboard of ever more recorded runs."""
    from experiments.facts import RESULTS, load_results, write_facts
    from experiments.leaderboard import text
    from experiments.leaderboard.__main__ import collect

    counts, cost = (3, 6) if smoke else (24, 96, 384, 960), []
    pattern = load_results(RESULTS)[0]
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            for number in range(count):
                seed, training = 42 + number % 3, f"{number // 3:08x}"
                facts = dataclasses.replace(
                    pattern.facts, seed=seed, training=training, encoder=f"encoder{number // 3}"
                )
                file = Path(folder) / "scores" / pattern.file.parent.name / f"{number}.json"
                write_facts(facts, file)
                # more digits of the last score: a table of its own, as copies are refused
                table = pattern.file.read_text(encoding="utf-8").rstrip() + "0" * number
                file.with_suffix(".csv").write_text(f"{table}\n", encoding="utf-8")
            cost.append(_median(lambda results=Path(folder): text.markdown(collect(results))))  # type: ignore[misc]
    yield Curve("leaderboard, s", "runs", counts, cost)


def trials(smoke: bool) -> Iterator[Curve]:
    """A study in a journal file: opening it, and one more trial."""
    import optuna

    from hpo.storage import open_storage

    counts = (5, 10) if smoke else (100, 300, 1000)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    opening, asking = [], []
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            storage = str(Path(folder) / "study.journal")
            study = optuna.create_study(
                study_name="growth", storage=open_storage(storage, create=True)
            )
            study.sampler = optuna.samplers.RandomSampler(seed=0)
            for _ in range(count):
                _trial(study)
            opening.append(_median(lambda s=storage: _trials_of(s)))  # type: ignore[misc]
            study.sampler = optuna.samplers.TPESampler(
                seed=0, multivariate=True, constant_liar=True
            )
            asking.append(_median(partial(_trial, study), 5))
    yield Curve("opening a study, s", "trials", counts, opening)
    yield Curve("one more trial of TPE, s", "trials", counts, asking)


def _trial(study: Any) -> None:
    trial = study.ask()
    values = [trial.suggest_float(f"x{number}", 0, 1) for number in range(5)]
    study.tell(trial, sum(values))


def _trials_of(storage: str) -> int:
    import optuna

    from hpo.storage import open_storage

    return len(optuna.load_study(study_name="growth", storage=open_storage(storage)).trials)
