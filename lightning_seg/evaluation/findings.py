"""What follows from a scored epoch, whoever made its predictions."""

from typing import Any

from lightning_seg.evaluation.estimates import (
    count_empty,
    estimate_measures,
    estimate_scores,
    estimate_strata,
)
from lightning_seg.evaluation.measures import CURVES, NSD_TOLERANCE
from lightning_seg.evaluation.probability import roc_auc
from lightning_seg.evaluation.scoring import ScoredEpoch, Scoring
from lightning_seg.evaluation.strata import unused_columns
from lightning_seg.evaluation.summary import Numbers
from lightning_seg.evaluation.table import ScoreTable


def find_scores_of(
    scored: ScoredEpoch, scoring: Scoring, batch_size: int | None = None
) -> dict[str, Any]:
    """The fields of a `Summary` that follow from what was scored.

    Args:
        batch_size: see `estimate_scores`.
    """
    maxima, areas = _over_thresholds(scored, scoring)
    found = find_scores_of_table(scored.table, batch_size)
    return found | {"threshold": scoring.threshold, "maxima": maxima, "roc_auc": areas}


def find_scores_of_table(table: ScoreTable, batch_size: int | None = None) -> dict[str, Any]:
    """The fields of a `Summary` that follow from the score table alone.

    Args:
        batch_size: see `estimate_scores`.
    """
    groups = len(set(table.groups))
    return {
        "images": len(table.ids),
        "groups": groups,
        "resampled": f"{groups} group{'s' * (groups > 1)} of images" if table.grouped else "images",
        "scores": estimate_scores(table, batch_size),
        "measures": estimate_measures(table),
        "nsd_tolerance": NSD_TOLERANCE,
        "strata": estimate_strata(table),
        "unused_columns": unused_columns(table),
        "empty": count_empty(table),
    }


def _over_thresholds(scored: ScoredEpoch, scoring: Scoring) -> tuple[Numbers, Numbers]:
    """The maxima over thresholds and the ROC areas of each class, which need all images at once."""
    table, found = scored.table, scored.measured
    assert found is not None
    parts = ["all", "fov"] if table.fov_counts is not None else ["all"]
    maxima, areas = {}, {}
    for k, name in enumerate(table.classes):
        highest = found.curves[k].max(1).tolist()
        maxima[name] = dict(zip(CURVES, highest, strict=True))
        areas[name] = {part: roc_auc(found.roc[place, k]) for place, part in enumerate(parts)}
    with_maxima, with_areas = ("saliency" in scoring.families, "probability" in scoring.families)
    return maxima if with_maxima else {}, areas if with_areas else {}
