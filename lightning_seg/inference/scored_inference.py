"""Test-time augmentation, ensembles and post-processing in ``test`` and ``validate``, so that their effect is scored."""

import hashlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from lightning_seg.inference.ensemble import mean_probabilities, read_trained
from lightning_seg.inference.mask_rule import MaskRule
from lightning_seg.inference.tta import check_tta
from lightning_seg.runs import find_checkpoint
from lightning_seg.training.module import SegmentationModule


def score_with(
    module: SegmentationModule,
    checkpoint: Path,
    tta: str,
    postprocess: str,
    ensemble: Sequence[str],
    trust_code: bool,
) -> None:
    """Let ``module`` score what `predict` would write with these settings; nothing changes where they are all empty.

    Args:
        module: of ``checkpoint``, and the first of the ensemble.
        tta: a name of ``tta.PASSES``.
        postprocess: a chain of ``postprocess.STEPS``, on each image by itself, also of the slices of a volume.
        ensemble: further checkpoints.
        trust_code: see `SegmentationModule.load`.

    Errors: InputError for unknown names, and checkpoints that do not fit together.
    """
    members = [find_checkpoint(path) for path in ensemble]
    rule = MaskRule(tuple(module.classes), postprocess=postprocess)
    label = [f"tta={check_tta(tta)}"] if tta != "none" else []
    if members:
        read_trained([checkpoint, *members])
        digest = hashlib.sha256("".join(map(_digest, members)).encode()).hexdigest()[:6]
        label.append(f"ensemble={len(members) + 1}-{digest}")
    if label:
        others = [SegmentationModule.load(file, trust_code) for file in members]
        module.predictor = lambda image: mean_probabilities(
            [module, *(other.to(image.device) for other in others)], image, tta
        )
    if rule.steps:
        module.scorer.refine = partial(post_processed, rule)
        label.append(f"post={rule.postprocess}")
    module.scorer.inference = {
        "tta": tta,
        "postprocess": rule.postprocess,
        "ensemble": [str(file) for file in members],
    }
    module.scorer.label = "-".join(label)


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def post_processed(rule: MaskRule, probability: Tensor) -> Tensor:
    """Probabilities (B, K, H, W) that lie above the threshold exactly inside the post-processed masks."""
    found = [torch.from_numpy(rule.refined(one)) for one in probability.cpu().numpy()]
    return torch.stack(found).to(probability.device)
