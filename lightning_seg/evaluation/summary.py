"""Every score of a table with its convention and its 95 % interval: what ``summary.json`` holds."""

from typing import Any

import numpy as np

from lightning_seg.evaluation.conventions import SCORES
from lightning_seg.evaluation.intervals import bca, statistic
from lightning_seg.evaluation.strata import strata
from lightning_seg.evaluation.table import ScoreTable

OVERLAP = ("dice", "iou")  # published under all conventions


def summarize(table: ScoreTable, batch_size: int | None = None) -> dict[str, Any]:
    """class -> score -> convention -> value and interval: ``image`` and ``pooled`` of all scores, Dice and IoU under every one.

    Args:
        batch_size: n of the convention ``batch<n>``; None leaves it out.
    """
    fov = ["image_fov", "pooled_fov"] if table.fov_counts is not None else []
    batch = [f"batch{batch_size}"] if batch_size else []
    volume = ["volume"] if table.grouped else []
    return {
        name: {
            score: {
                convention: _value(table, name, score, convention)
                for convention in (
                    "image",
                    "pooled",
                    *fov,
                    *([*batch, "two_class", *volume] if score in OVERLAP else []),
                )
            }
            for score in (*SCORES, "mcc")
        }
        for name in table.classes
    }


def summarize_measures(table: ScoreTable) -> dict[str, Any]:
    """class -> measure -> value (mean over images) and interval."""
    return {
        name: {measure: _value(table, name, measure, "image") for measure in table.measures}
        | ({"ece": _value(table, name, "ece", "pooled")} if table.calibration is not None else {})
        for name in table.classes
    }


def summarize_strata(table: ScoreTable, score: str = "dice") -> dict[str, list[dict[str, Any]]]:
    """class -> the strata of `strata.strata`, each with its rule, its number of images and the score's mean over them."""
    return {
        name: [
            {
                "name": stratum.name,
                "rule": stratum.rule,
                "images": int(stratum.rows.sum()),
                "score": score,
            }
            | _value(table.at(np.flatnonzero(stratum.rows)), name, score, "image")
            for stratum in strata(table, name)
        ]
        for name in table.classes
    }


def summarize_empty(table: ScoreTable) -> dict[str, dict[str, float | None]]:
    """class -> how many images have none of it, and the share of these in which some was predicted (None without any)."""
    found: dict[str, dict[str, float | None]] = {}
    for name in table.classes:
        counts = table.of(name)
        empty = counts[counts[:, 0] + counts[:, 2] == 0]
        alarms = float((empty[:, 1] > 0).mean()) if len(empty) else None
        found[name] = {"images": len(empty), "false_positive_rate": alarms}
    return found


def _value(table: ScoreTable, name: str, score: str, convention: str) -> dict[str, Any]:
    found = statistic([table], name, score, convention)
    return {"value": found.value, "interval": bca(found)}
