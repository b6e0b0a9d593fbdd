"""Test-time augmentation, ensembles and post-processing in ``test`` and ``validate``, so that
their effect is scored."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_seg.data import SegmentationDataModule
from lightning_seg.errors import InputError
from lightning_seg.evaluation.scoring import ScoredPart, Scoring
from lightning_seg.inference.engines import EngineNetwork, check_engine
from lightning_seg.inference.ensemble import mean_probabilities, read_trained
from lightning_seg.inference.mask_rule import MaskRule
from lightning_seg.inference.tta import check_tta
from lightning_seg.inference.whole_scans import WholeScans, scans_of
from lightning_seg.runs import find_checkpoint
from lightning_seg.runs.trained_network import read_network
from lightning_seg.training.module import SegmentationModule


def score_with(
    module: SegmentationModule,
    checkpoint: Path,
    scoring: Scoring,
    trust_code: bool,
    data: SegmentationDataModule,
    split: str,
) -> None:
    """Let ``module`` score what `predict` would write with these settings.

    Args:
        module: of ``checkpoint``, and the first of the ensemble.
        trust_code: see `read_network`.
        split: of ``data``, which is scored.

    Errors: InputError for unknown names, and checkpoints that do not fit together.
    """
    members = [find_checkpoint(path) for path in scoring.ensemble]
    form = module.form
    rule = MaskRule(
        tuple(form.classes), scoring.threshold, scoring.postprocess, exclusive=form.exclusive
    )
    check_tta(scoring.tta)
    if members:
        read_trained([checkpoint, *members])
    others = [read_network(file, trust_code) for file in members]
    check_engine(scoring.engine, "32")
    engines = [EngineNetwork(each, scoring.engine) for each in (module, *others)]

    def averaged(image: Tensor) -> Tensor:
        if scoring.engine != "torch" and image.device.type == "cpu":
            return mean_probabilities(engines, image, scoring.tta)
        networks = [module, *(other.to(image.device) for other in others)]
        return mean_probabilities(networks, image, scoring.tta)

    files = tuple(str(file) for file in members)
    module.score_by(
        replace(scoring, postprocess=rule.postprocess, ensemble=files),
        averaged if scoring.changes_probabilities else None,
        PostProcessed(rule, data, split) if rule.steps else None,
    )


class PostProcessed:
    """Probabilities that lie above the threshold exactly inside the post-processed masks, as
    `predict` writes them.

    Slices are held back until their scan is whole, and post-processed as a volume.

    Args:
        rule: see `MaskRule.refined`.
        split: of ``data``, which is scored.
    """

    def __init__(self, rule: MaskRule, data: SegmentationDataModule, split: str) -> None:
        self._ids, scans = data.ids(split), scans_of(data, split)
        self._scans: WholeScans[ScoredPart] = WholeScans(rule, scans)
        self._has_scans = bool(scans)

    def add(self, part: ScoredPart) -> Iterator[ScoredPart]:
        """Take a batch, and give the images and scans that are whole now."""
        if self._has_scans and _world_size() > 1:
            raise InputError(
                "post-processing needs all slices of a scan on one device; "
                "score with --trainer.devices 1."
            )
        planes = part.probability.cpu().numpy()
        for place, probability in enumerate(planes):
            one = ScoredPart(
                part.probability[:0],  # taken by `probability`
                part.mask[place, None],
                part.places[place, None],
                None if part.region is None else part.region[place, None],
                part.loss,
            )
            name = self._ids[int(part.places[place])]
            yield from _refined_parts(self._scans.add(name, one, probability))

    def rest(self) -> Iterator[ScoredPart]:
        """The slices of scans of which not all were scored."""
        return _refined_parts(self._scans.rest())


def _refined_parts(found: Iterable[tuple[ScoredPart, NDArray[np.float32]]]) -> Iterator[ScoredPart]:
    for part, probability in found:
        refined = torch.from_numpy(np.ascontiguousarray(probability))[None]
        yield part._replace(probability=refined.to(part.mask.device))


def _world_size() -> int:
    distributed = torch.distributed
    started = distributed.is_available() and distributed.is_initialized()
    return distributed.get_world_size() if started else 1
