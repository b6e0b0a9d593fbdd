"""A run as it lies on disk: checkpoint, configuration, curves, and what its tests and validations
left."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from numpy.typing import NDArray

from lightning_seg.errors import InputError
from lightning_seg.evaluation import ScoreTable
from lightning_seg.evaluation.curves import counted
from lightning_seg.evaluation.scored_table import check_summary, scores_file
from lightning_seg.evaluation.summary import FILE, FROM_FILES, Summary
from lightning_seg.files import real_path
from lightning_seg.runs import Run as RunFolder
from lightning_seg.runs import find_checkpoint
from lightning_seg.runs.checkpoints import read_checkpoint
from lightning_seg.runs.environment import read_environment
from lightning_seg.runs.scored_weights import replaced_weights

Series = tuple[NDArray[np.float64], NDArray[np.float64]]  # where, what
Histogram = NDArray[np.int64]
_NOTHING: Series = (np.zeros(0), np.zeros(0))


class ScoredSplit(NamedTuple):
    """The results of one ``test`` or ``validate``: ``summary.json`` and the per-image table."""

    summary: Summary
    table: ScoreTable
    folder: Path


@dataclass(frozen=True)
class Events:
    """The records of TensorBoard.

    Attributes:
        scalars: tag -> steps and values, in the order of steps; a resumed run's later value of a
            step counts.
        histograms: tag of a precision-recall curve -> (step, histogram of probabilities (2, bins))
            of each.
    """

    scalars: dict[str, Series]
    histograms: dict[str, list[tuple[int, Histogram]]]

    def by_epoch(self, tag: str) -> Series:
        """A curve over epochs done, 1 where the first ends; what `test` and `validate` logged at
        step 0 is no part of it."""
        steps, values = self.scalars.get(tag, _NOTHING)
        ends, _ = self.scalars.get("train/loss", _NOTHING)
        kept = steps > 0
        if not len(ends):
            return _NOTHING
        epochs = np.interp(ends, *self.scalars["epoch"]) + 1
        places = np.interp(steps[kept], np.r_[0, ends], np.r_[0, epochs])
        return places, values[kept]


@dataclass(frozen=True)
class ReportedRun:
    """A run with one of its checkpoints, which everything on the page is about; ``results``: the
    one to look at first comes first.

    Of scores of another tool's files there is no training: ``checkpoint`` is the folder of the
    files, and ``content`` says of which classes and data they are.
    """

    folder: Path
    checkpoint: Path
    content: dict[str, Any]
    config: str
    events: Events
    environment: dict[str, Any]
    results: list[ScoredSplit]

    @property
    def name(self) -> str:
        return self.folder.parent.name

    @property
    def from_files(self) -> bool:
        """Tell whether these are scores of another tool's files."""
        return "state_dict" not in self.content

    @property
    def model(self) -> dict[str, Any]:
        """The module's hyper-parameters."""
        return self.content["hyper_parameters"]

    @property
    def data(self) -> dict[str, Any]:
        """The datamodule's hyper-parameters."""
        return {
            k: v
            for k, v in self.content["datamodule_hyper_parameters"].items()
            if not k.startswith("_")
        }

    @property
    def facts(self) -> dict[str, Any]:
        """The checkpoint's words on protocol, training images and encoder weights."""
        return self.content.get("lightning_seg", {})

    def is_external(self, result: ScoredSplit) -> bool:
        """Tell whether a result is of data on which no split of the training was made."""
        facts = result.summary
        if self.from_files:
            return False
        if facts.dataset != self.data["dataset"] or facts.protocol == "test-only":
            return True
        if not facts.data or facts.protocol_digest == self.facts.get("protocol_digest"):
            return False
        roots = facts.data.get("root"), self.data.get("root")
        there, here = (real_path(root or "") for root in roots)
        return there != here

    def recipe(self) -> dict[str, Any]:
        return yaml.safe_load(self.config) if self.config else {}

    def histogram(self, name: str, result: ScoredSplit | None) -> Histogram | None:
        """Probabilities of the class ``name`` over all pixels of a result; of validation at the
        checkpoint where there is no result.

        TensorBoard holds those of every validation and test of the run, so the one that has the
        result's own pixel counts is taken.
        """
        if self.from_files:
            return None
        split = result.summary.split if result else "val"
        here = self.content["global_step"]
        recorded = self.events.histograms.get(f"{split}/pr_{name}", [])
        known = sorted(recorded, key=lambda each: each[0] == here)
        if result is None:
            return known[-1][1] if known and known[-1][0] == here else None
        counts = result.table.of(name)
        fitting = (each for _, each in reversed(known) if _fits(each, counts))
        return next(fitting, None)


def _fits(histogram: Histogram, counts: NDArray[np.int64]) -> bool:
    """Tell whether these are the pixels of ``counts`` (N, 4).

    The few that another device or precision moves do not count.
    """
    tp, fp, fn, _ = counts.sum(0)
    half = histogram.shape[1] // 2
    background, foreground = histogram[:, half:].sum(1)
    truth = histogram[1].sum()
    off = abs(foreground - tp) + abs(background - fp) + abs(truth - tp - fn)
    return bool(off <= 1e-3 * max(tp + fp + fn, 1))


def open_run(place: Path, which: str = "best") -> ReportedRun:
    """The run ``runs/<name>``, in its newest version with a checkpoint, or
    ``runs/<name>/version_N``.

    Args:
        which: ``best``, ``last``, or the path of one of the run's checkpoints.
    """
    if not place.is_dir():
        raise InputError(
            f"there is no run {str(place)!r}; give a folder such as runs/quickstart or runs/quickstart/version_0."
        )
    scored = sorted(place.rglob(f"*/{FROM_FILES}*/{FILE}"))
    if scored:
        return _run_of_files(scored)
    checkpoint = find_checkpoint(place, which) if which in ("best", "last") else Path(which)
    content = read_checkpoint(checkpoint)
    run = RunFolder.holding(checkpoint)
    folder = run.folder if run is not None else Path()
    if run is None or real_path(place) not in (folder, folder.parent):
        raise InputError(
            f"the checkpoint {which!r} is not one of the run {str(place)!r}; give the run that it belongs to."
        )
    config = folder / "config.yaml"
    summaries = folder.glob("*/*/summary.json")
    results = [_result(file) for file in summaries if _is_of(file, checkpoint)]
    results = [result for result in results if _is_of_weights(result)]
    protocol = content.get("lightning_seg", {}).get("protocol")
    results.sort(
        key=lambda r: (
            bool(r.summary.partial),
            not r.folder.name.startswith(checkpoint.stem),  # augmented, post-processed, ...
            r.summary.split != "test",
            r.summary.protocol != protocol,
            r.folder.name,
        )
    )
    text = config.read_text(encoding="utf-8") if config.is_file() else ""
    return ReportedRun(
        folder, checkpoint, content, text, read_events(folder), read_environment(folder), results
    )


def _run_of_files(summaries: list[Path]) -> ReportedRun:
    """The scores of another tool's files in the newest version of a run."""
    folder = summaries[-1].parents[2]
    results = [_result(file) for file in summaries if file.parents[2] == folder]
    results.sort(key=lambda each: (each.summary.split != "test", each.folder.name))
    summary, table = results[0].summary, results[0].table
    content = {
        "hyper_parameters": {"classes": list(table.classes)},
        "datamodule_hyper_parameters": {"dataset": summary.dataset, "size": summary.scored_size},
    }
    place = Path(summary.predictions)
    return ReportedRun(folder, place, content, "", Events({}, {}), {}, results)


def _is_of(summary: Path, checkpoint: Path) -> bool:
    # what changes the probabilities or masks stands before the checkpoint: tta=flips-best-...
    name = f"-{summary.parent.name}"
    return f"-{checkpoint.stem}-" in name and (summary.parent / "scores.csv").is_file()


def _is_of_weights(result: ScoredSplit) -> bool:
    """Tell whether the checkpoint is still the one that was scored; a warning where it is not."""
    replaced = replaced_weights(result.summary, result.folder)
    if replaced:
        warnings.warn(f"left aside: {replaced}; test it again", stacklevel=3)
    return not replaced


def _result(summary: Path) -> ScoredSplit:
    folder = summary.parent
    found = Summary.read(folder)
    check_summary(found, folder)
    return ScoredSplit(found, ScoreTable.read(scores_file(folder)), folder)


def read_events(folder: Path) -> Events:
    """All of the TensorBoard files of a run."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    scalars: dict[str, dict[int, tuple[float, float]]] = {}
    curves: dict[str, dict[tuple[int, float], NDArray[np.float32]]] = {}
    for file in sorted(folder.glob("events.out.tfevents.*")):
        events = EventAccumulator(
            str(file), size_guidance={"scalars": 0, "tensors": 0, "images": 1}
        ).Reload()
        tags = events.Tags()
        for tag in tags["scalars"]:
            for event in events.Scalars(tag):
                known = scalars.setdefault(tag, {})
                before = known.get(event.step, (0.0, 0.0))
                known[event.step] = max(before, (event.wall_time, event.value))
        for tag in (tag for tag in tags["tensors"] if "/pr_" in tag):
            for event in events.Tensors(tag):
                curve = make_ndarray(event.tensor_proto)
                curves.setdefault(tag, {})[event.step, event.wall_time] = curve
    histograms = {}
    for tag, found in curves.items():
        by_time = sorted(found.items(), key=lambda item: item[0][1])
        histograms[tag] = [(step, counted(curve[0], curve[1])) for (step, _), curve in by_time]
    return Events({tag: _series(known) for tag, known in scalars.items()}, histograms)


def _series(known: dict[int, tuple[float, float]]) -> Series:
    steps = sorted(known)
    values = [known[step][1] for step in steps]
    return np.array(steps, dtype=float), np.array(values)
