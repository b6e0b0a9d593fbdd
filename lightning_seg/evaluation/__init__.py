"""From counts per image to scores under every convention, with intervals. Stands alone: nothing of
torch or the data."""

from lightning_seg.evaluation.compare import Comparison, compare_models, holm
from lightning_seg.evaluation.conventions import SCORES, per_image, pooled, scores
from lightning_seg.evaluation.intervals import bca, interval, statistic
from lightning_seg.evaluation.ranking import Ranking, rank_intervals
from lightning_seg.evaluation.strata import strata
from lightning_seg.evaluation.summary import Estimate, Summary
from lightning_seg.evaluation.table import ScoreTable

__all__ = [
    "SCORES",
    "Comparison",
    "Estimate",
    "Ranking",
    "ScoreTable",
    "Summary",
    "bca",
    "compare_models",
    "holm",
    "interval",
    "per_image",
    "pooled",
    "rank_intervals",
    "scores",
    "statistic",
    "strata",
]
