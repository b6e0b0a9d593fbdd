"""Test-time augmentation, ensembles and post-processing in ``test`` and ``validate``, so that their effect is scored."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from lightning_seg.evaluation.scoring import Scoring
from lightning_seg.inference.ensemble import mean_probabilities, read_trained
from lightning_seg.inference.mask_rule import MaskRule
from lightning_seg.inference.tta import check_tta
from lightning_seg.runs import find_checkpoint
from lightning_seg.runs.trained_network import read_network
from lightning_seg.training.module import SegmentationModule


def score_with(
    module: SegmentationModule, checkpoint: Path, scoring: Scoring, trust_code: bool
) -> None:
    """Let ``module`` score what `predict` would write with these settings.

    Args:
        module: of ``checkpoint``, and the first of the ensemble.
        trust_code: see `read_network`.

    Errors: InputError for unknown names, and checkpoints that do not fit together.
    """
    members = [find_checkpoint(path) for path in scoring.ensemble]
    rule = MaskRule(tuple(module.classes), scoring.threshold, scoring.postprocess)
    check_tta(scoring.tta)
    if members:
        read_trained([checkpoint, *members])
    others = [read_network(file, trust_code) for file in members]

    def averaged(image: Tensor) -> Tensor:
        networks = [module, *(other.to(image.device) for other in others)]
        return mean_probabilities(networks, image, scoring.tta)

    files = tuple(str(file) for file in members)
    module.score_by(
        replace(scoring, postprocess=rule.postprocess, ensemble=files),
        averaged if members or scoring.tta != "none" else None,
        partial(post_processed, rule) if rule.steps else None,
    )


def post_processed(rule: MaskRule, probability: Tensor) -> Tensor:
    """Probabilities (B, K, H, W) that lie above the threshold exactly inside the post-processed masks."""
    found = [torch.from_numpy(rule.refined(one)) for one in probability.cpu().numpy()]
    return torch.stack(found).to(probability.device)
