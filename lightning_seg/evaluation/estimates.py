"""Every score of a table, with its convention and its 95 % interval."""

import numpy as np

from lightning_seg.evaluation.conventions import SCORES
from lightning_seg.evaluation.intervals import bca, statistic
from lightning_seg.evaluation.strata import strata
from lightning_seg.evaluation.summary import EmptyImages, Estimate, PartScore
from lightning_seg.evaluation.table import ScoreTable

OVERLAP = ("dice", "iou")  # published under all conventions


def estimate(
    table: ScoreTable,
    name: str,
    score: str,
    convention: str,
) -> Estimate:
    """A score of the class ``name`` under a convention."""
    found = statistic([table], name, score, convention)
    return Estimate(found.value, bca(found))


def estimate_scores(
    table: ScoreTable, batch_size: int | None = None
) -> dict[str, dict[str, dict[str, Estimate]]]:
    """class -> score -> convention: ``image`` and ``pooled`` of all scores, Dice and IoU under
    every one.

    Args:
        batch_size: n of the convention ``batch<n>``; None leaves it out.
    """
    usual = ["image", "pooled"]
    if table.fov_counts is not None:
        usual += ["image_fov", "pooled_fov"]
    more = [f"batch{batch_size}"] if batch_size else []
    more += ["two_class", *(["volume"] if table.grouped else [])]
    found: dict[str, dict[str, dict[str, Estimate]]] = {}
    for name in table.classes:
        found[name] = {}
        for score in (*SCORES, "mcc"):
            conventions = usual + more if score in OVERLAP else usual
            found[name][score] = {each: estimate(table, name, score, each) for each in conventions}
    return found


def estimate_measures(table: ScoreTable) -> dict[str, dict[str, Estimate]]:
    """class -> measure: the mean over images, of ``ece`` over all pixels."""
    found = {}
    for name in table.classes:
        found[name] = {
            measure: estimate(table, name, measure, "image") for measure in table.measures
        }
        if table.calibration is not None:
            found[name]["ece"] = estimate(table, name, "ece", "pooled")
    return found


def estimate_strata(
    table: ScoreTable,
    score: str = "dice",
) -> dict[str, list[PartScore]]:
    """class -> the mean over the images of each stratum of `strata.strata`.

    A stratum of fewer than `FEWEST_UNITS` groups has no interval.
    """
    found: dict[str, list[PartScore]] = {}
    for name in table.classes:
        found[name] = []
        for part in strata(table, name):
            rows = np.flatnonzero(part.rows)
            images = table.at(rows)
            mean = statistic([images], name, score)
            about = (part.name, part.rule, len(rows), score)
            groups = len(set(images.groups))
            found[name].append(PartScore(*about, mean.value, bca(mean), part.column, groups))
    return found


def count_empty(table: ScoreTable) -> dict[str, EmptyImages]:
    """class -> the images that have none of it, and how often some was predicted there."""
    found = {}
    for name in table.classes:
        counts = table.of(name)
        empty = counts[counts[:, 0] + counts[:, 2] == 0]
        alarms = float((empty[:, 1] > 0).mean()) if len(empty) else None
        found[name] = EmptyImages(len(empty), alarms)
    return found
