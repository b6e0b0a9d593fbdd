"""From counts per image to scores under every convention, with intervals. Stands alone: numpy and scipy only."""

from lightning_seg.evaluation.conventions import SCORES, per_image, pooled, scores
from lightning_seg.evaluation.intervals import interval
from lightning_seg.evaluation.table import ScoreTable

__all__ = ["SCORES", "ScoreTable", "interval", "per_image", "pooled", "scores"]
