"""Scores of whole volumes, in mm and ml.

Dice, IoU, HD95 (mm) and NSD (share of the surfaces within 2 mm) are of one scan and class each,
with the spacing of its voxels at the scored size; then the mean over scans, each scan counting
alike. Empty masks: Dice and IoU as in ``evaluation.conventions``, HD95 and NSD as in
``evaluation.boundary``.
"""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lightning_seg.errors import InputError
from lightning_seg.evaluation.boundary import boundary_scores
from lightning_seg.evaluation.conventions import per_image
from lightning_seg.evaluation.intervals import bca, mean_of
from lightning_seg.evaluation.summary import Estimate, VolumeSummary
from lightning_seg.files import write_whole

VOLUME_FILE = "volumes.csv"  # beside a score table
TOLERANCE = 2.0  # mm, of NSD
MEASURES = ("dice", "iou", "hd95_mm", "nsd_2mm")
Spacing = Sequence[float]


class VolumeRow(NamedTuple):
    """One scan and class; counts in voxels."""

    scan: str
    label: str
    dice: float
    iou: float
    hd95_mm: float
    nsd_2mm: float
    truth_ml: float
    predicted_ml: float
    tp: int
    fp: int
    fn: int


HEADER = tuple("class" if name == "label" else name for name in VolumeRow._fields)


def write_volume_rows(rows: Sequence[VolumeRow], folder: Path) -> None:
    """Write ``volumes.csv`` into a folder, whole or not at all."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows([HEADER, *rows])
    write_whole(folder / VOLUME_FILE, text.getvalue().encode())


def read_volume_rows(folder: Path) -> list[VolumeRow]:
    """The rows of ``volumes.csv`` in a folder.

    Raises:
        InputError: it is absent or damaged.
    """
    file = folder / VOLUME_FILE
    try:
        with file.open(newline="", encoding="utf-8") as opened:
            header, *rows = csv.reader(opened)
        if tuple(header) != HEADER:
            raise ValueError(f"its columns are {', '.join(header)}")
        return [_typed_row(row) for row in rows]
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{file} cannot be read ({error}); test the run again.") from error


def _typed_row(row: Sequence[str]) -> VolumeRow:
    scan, label, *measured = row[:-3]
    tp, fp, fn = map(int, row[-3:])
    dice, iou, hd95, nsd, truth, predicted = map(float, measured)
    return VolumeRow(scan, label, dice, iou, hd95, nsd, truth, predicted, tp, fp, fn)


def score_volume(
    scan: str,
    name: str,
    prediction: NDArray[np.bool_],
    truth: NDArray[np.bool_],
    spacing: Spacing,
) -> VolumeRow:
    """The row of one scan and class: (slices, rows, columns) each."""
    tp = int((prediction & truth).sum())
    fp, fn = int(prediction.sum()) - tp, int(truth.sum()) - tp
    counts = np.array([tp, fp, fn, truth.size - tp - fp - fn])
    distance, near = boundary_scores(prediction, truth, spacing, TOLERANCE)
    ml = float(np.prod(spacing)) / 1000
    overlap = float(per_image(counts, "dice")), float(per_image(counts, "iou"))
    return VolumeRow(
        scan, name, *overlap, distance, near, (tp + fn) * ml, (tp + fp) * ml, tp, fp, fn
    )


def summarize_volumes(rows: Sequence[VolumeRow], incomplete: Sequence[str] = ()) -> VolumeSummary:
    """Means over scans and their 95 % intervals (BCa bootstrap over scans).

    Args:
        incomplete: scans of which slices are missing.
    """
    scores = {
        name: {
            measure: _mean_estimate([getattr(row, measure) for row in rows if row.label == name])
            for measure in MEASURES
        }
        for name in dict.fromkeys(row.label for row in rows)
    }
    scans = len({row.scan for row in rows})
    return VolumeSummary(scans, list(incomplete), TOLERANCE, scores)


def _mean_estimate(values: Sequence[float]) -> Estimate:
    found = mean_of(np.array(values)[:, None], np.arange(len(values)))
    return Estimate(found.value, bca(found))
