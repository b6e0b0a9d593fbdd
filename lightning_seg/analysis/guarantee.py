"""``calibrate --fnr``: outer and inner masks with a promise, and whether a test split keeps it."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_seg.data import SegmentationDataModule
from lightning_seg.data.splits import RESERVED
from lightning_seg.errors import InputError
from lightning_seg.evaluation.conformal import (
    ERRORS,
    THRESHOLDS,
    Guarantee,
    Kind,
    error_curves,
    fit_bound,
    unit_losses,
)
from lightning_seg.evaluation.intervals import bca, mean_of
from lightning_seg.files import write_whole
from lightning_seg.inference.predictor import Predictor, load
from lightning_seg.inference.split import count_look, open_split
from lightning_seg.runs import Run
from lightning_seg.runs.checkpoints import read_checkpoint
from lightning_seg.runs.guarantees import check_reserved, guarantee_of
from lightning_seg.runs.scored_weights import weights_digest
from lightning_seg.runs.trained_on import TrainedOn
from lightning_seg.tables import Table, count_text, interval_text, number_text

Curves = dict[Kind, NDArray[np.float64]]


@dataclass(frozen=True)
class Coverage:
    """The error of one kind of mask of one class on images that fitted nothing.

    Attributes:
        kind: ``outer`` or ``inner``.
        name: of the class.
        rate: that was promised.
        error: the mean over units, with its 95 % interval.
        units: groups, or images where none are known.
    """

    kind: Kind
    name: str
    rate: float
    error: float
    interval: tuple[float, float]
    units: int

    @property
    def verdict(self) -> str:
        """Whether the promise is kept, in words."""
        low, high = self.interval
        if isnan(low):
            return "too few images"
        if high <= self.rate:
            return "kept"
        return "within the interval" if low <= self.rate else "BROKEN"


def split_curves(predictor: Predictor, data: SegmentationDataModule, split: str) -> Curves:
    """(N, K, T) the errors of a split's images at all `THRESHOLDS`, at the size of the pictures,
    as `predict` writes masks."""
    if hasattr(data.source, "spacing"):
        raise InputError("a network of slices of scans cannot be guaranteed yet.")
    each: dict[Kind, list[NDArray[np.float64]]] = {"outer": [], "inner": []}
    for id in data.ids(split):
        sample = data.source.read(id)
        probability = predictor.predict(sample.image).probability
        counted = None if sample.region is None else sample.region > 0
        planes = zip(probability, np.moveaxis(sample.mask, -1, 0) > 0, strict=True)
        found = [error_curves(one, truth, counted) for one, truth in planes]
        for kind, curves in each.items():
            curves.append(np.stack([one[kind] for one in found]))
    return {kind: np.stack(curves) for kind, curves in each.items()}


def split_groups(data: SegmentationDataModule, split: str) -> tuple[str, ...]:
    """The group of each image of a split; its id where none is known."""
    groups = data.source.groups
    return tuple(groups.get(id, id) for id in data.ids(split))


def fit_guarantee(
    file: Path, fnr: float | None, fpr: float | None, device: str, trust_code: bool
) -> Guarantee:
    """The guarantee of a checkpoint's network, fitted to the images that its protocol reserves.

    Raises:
        InputError: it reserves none, they were used before, or are too few for the rates.
    """
    content = read_checkpoint(file)
    data = open_split(file, "val", {}).data
    check_reserved(content, file, data)
    predictor = load(file, device=device, trust_code=trust_code)
    curves, groups = split_curves(predictor, data, RESERVED), split_groups(data, RESERVED)
    rates: dict[Kind, float | None] = {"outer": fnr, "inner": fpr}
    bounds = {
        kind: None if rate is None else fit_bound(curves[kind], groups, rate, kind, data.classes)
        for kind, rate in rates.items()
    }
    return Guarantee(
        tuple(data.classes),
        bounds["outer"],
        bounds["inner"],
        data.protocol_name,
        data.protocol_digest,
        len(groups),
        data.grouped,
    )


def show_guarantee(found: Guarantee) -> None:
    """Print the thresholds and the promise in words."""
    rows = []
    for kind, bound in found.bounds.items():
        each = zip(found.classes, bound.thresholds, bound.units, bound.risks, strict=True)
        for name, threshold, units, risk in each:
            numbers = f"{bound.rate:g}", f"{threshold:.4g}", number_text(risk), str(units)
            rows.append((kind, name, ERRORS[kind], *numbers))
    Table(
        ("contour", "class", "error", "promised", "threshold", "there", f"{found.unit}s"),
        rows,
        title=f"fitted to {count_text(found.images, 'reserved image')} of {found.protocol}, "
        "which chose nothing else",
        left=("contour", "class", "error"),
    ).show()
    for sentence in found.sentences():
        print(f"guarantee: {sentence}")


def measure_coverage(file: Path, device: str, trust_code: bool) -> tuple[list[Coverage], Path]:
    """The errors of a guaranteed checkpoint on its test split, and the file that keeps them.

    The ledger counts the look.

    Raises:
        InputError: the checkpoint holds no guarantee, or the split was trained on.
    """
    content = read_checkpoint(file)
    guarantee, run = guarantee_of(content), Run.holding(file)
    if guarantee is None:
        raise InputError(f"{file} holds no guarantee; make one by calibrate --fnr 0.1.")
    if run is None:
        raise InputError(f"{file} lies in no run, whose ledger counts looks at test splits.")
    home = open_split(file, "test", {})
    data, images = home.data, home.data.fingerprint("test")
    TrainedOn.read(content).check(images, str(file))
    predictor = load(file, device=device, trust_code=trust_code)
    curves, groups = split_curves(predictor, data, "test"), split_groups(data, "test")
    found = list(_coverages(guarantee, curves, groups))
    facts = {
        "protocol": data.protocol_name,
        "protocol_digest": data.protocol_digest,
        "dataset": images.dataset,
        "checkpoint": str(file),
    }
    looks = count_look(home, file)
    kept = facts | {
        "weights": weights_digest(content),
        "images": len(groups),
        "looks": looks,
        "synthetic": data.synthetic,
        "leaks": data.split.leak_sentence,
        "coverage": [asdict(one) for one in found],
    }
    place = coverage_file(run.folder, file)
    place.parent.mkdir(exist_ok=True)
    write_whole(place, (json.dumps(kept, indent=1) + "\n").encode())
    return found, place


def coverage_file(folder: Path, checkpoint: Path) -> Path:
    """Where a run keeps the coverage of one of its checkpoints."""
    return folder / "coverage" / f"{checkpoint.stem}.json"


def read_coverage(folder: Path, checkpoint: Path, weights: str = "") -> dict[str, Any] | None:
    """What `measure_coverage` kept, ``coverage`` as `Coverage`; None where there is none.

    Args:
        weights: digest of the checkpoint's network; what is of another one is none.
    """
    file = coverage_file(folder, checkpoint)
    if not file.is_file():
        return None
    try:
        kept: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        if weights and kept.get("weights", weights) != weights:
            return None
        rows = [Coverage(**row) for row in kept["coverage"]]
        return kept | {"coverage": rows}
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"{file} is damaged; remove it, and measure the coverage again by calibrate --coverage."
        ) from error


def _coverages(guarantee: Guarantee, curves: Curves, groups: tuple[str, ...]) -> Iterator[Coverage]:
    for kind, bound in guarantee.bounds.items():
        for place, name in enumerate(guarantee.classes):
            losses = unit_losses(curves[kind][:, place], groups)
            at = int(np.argmin(np.abs(THRESHOLDS - bound.thresholds[place])))
            statistic = mean_of(losses[:, at, None], np.arange(len(losses)))
            error = statistic.value if len(losses) else float("nan")
            yield Coverage(kind, name, bound.rate, error, bca(statistic), len(losses))


def show_coverage(found: list[Coverage], place: Path) -> None:
    """Print promise and errors side by side."""
    rows = [
        (
            one.kind,
            one.name,
            ERRORS[one.kind],
            f"{one.rate:g}",
            number_text(one.error),
            interval_text(one.interval),
            str(one.units),
            one.verdict,
        )
        for one in found
    ]
    Table(
        ("contour", "class", "error", "promised", "on test", "95 %", "units", "promise"),
        rows,
        title="coverage on the test split, at the size of the pictures",
        caption="95 % BCa bootstrap intervals over groups, or images where none are known; the "
        "promise is of the mean over draws of the calibration images too, so that one draw may "
        "lie a little above it",
        left=("contour", "class", "error", "promise"),
    ).show()
    print(f"kept:  {place}")
