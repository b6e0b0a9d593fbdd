"""What is counted while a network runs: per image and class TP, FP, FN, TN; the mean loss; probabilities for the PR curve."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from lightning_seg.evaluation import measures
from lightning_seg.evaluation.probability import ROC_BINS, roc_sums
from lightning_seg.evaluation.saliency import LEVELS

Mask = NDArray[np.bool_]
Row = NDArray[np.float64]
BINS = 256
INSIDE = 2  # of a region: in the field of view; 1 is counted outside it, 0 is ignored


class SegmentationCounts(Metric):
    """Integer counts of every image, keyed by its index in the split, so that they are exact under any number of devices.

    Args:
        num_classes: K, for the histogram of probabilities.
    """

    full_state_update = False
    index: list[Tensor]
    counts: list[Tensor]
    loss: Tensor
    images: Tensor
    histogram: Tensor

    def __init__(self, num_classes: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_classes = num_classes
        self.add_state("index", [], "cat")
        self.add_state("counts", [], "cat")
        self.add_state("loss", torch.zeros(()), "sum")
        self.add_state("images", torch.zeros(()), "sum")
        self.add_state("histogram", torch.zeros(num_classes, 2, BINS, dtype=torch.int64), "sum")

    def update(
        self,
        prediction: Tensor,
        mask: Tensor,
        index: Tensor,
        loss: Tensor,
        region: Tensor | None = None,
        probability: Tensor | None = None,
    ) -> None:
        """Count a batch.

        Args:
            prediction: (B, K, H, W) bool.
            mask: (B, K, H, W).
            index: (B,) positions in the split.
            loss: scalar, mean over the batch.
            region: (B, 1, H, W): 0 is not counted, 2 is counted a second time, as inside the field of view.
            probability: (B, K, H, W), for the histogram.
        """
        truth, counted = mask > 0, None if region is None else region > 0
        counts = _counts(prediction, truth, counted)
        if region is not None:
            counts = torch.cat([counts, _counts(prediction, truth, region == INSIDE)], -1)
        self.counts.append(counts)
        self.index.append(index)
        self.loss += loss.detach() * len(mask)
        self.images += len(mask)
        if probability is not None:
            self.histogram += self._histogram(probability, truth, counted)

    def _histogram(self, probability: Tensor, truth: Tensor, counted: Tensor | None) -> Tensor:
        bins = (probability.nan_to_num() * BINS).long().clamp_(max=BINS - 1) + BINS * truth.long()
        bins += 2 * BINS * torch.arange(self.num_classes, device=bins.device).view(1, -1, 1, 1)
        kept = bins.flatten() if counted is None else bins[counted.expand_as(bins)]
        return torch.bincount(kept, minlength=2 * BINS * self.num_classes).view(
            self.num_classes, 2, BINS
        )

    def compute(self) -> tuple[Tensor, Tensor, Tensor | None, float, Tensor]:
        """index (N,), counts (N, K, 4) as TP FP FN TN in any order of images, those in the field of view where there are
        regions, the mean loss, the histogram (K, 2, BINS): pixels of background and of foreground by probability.
        """
        counts = dim_zero_cat(self.counts)
        inside = counts[..., 4:] if counts.shape[-1] > 4 else None
        return (
            dim_zero_cat(self.index),
            counts[..., :4],
            inside,
            float(self.loss / self.images),
            self.histogram,
        )


def _counts(prediction: Tensor, truth: Tensor, counted: Tensor | None) -> Tensor:
    """(B, K, 4) TP, FP, FN, TN over the counted pixels (B, 1, H, W)."""
    pixels: Tensor | int = truth.shape[2] * truth.shape[3]
    if counted is not None:
        prediction, truth, pixels = prediction & counted, truth & counted, counted.sum((2, 3))
    tp = (prediction & truth).sum((2, 3))
    fp, fn = prediction.sum((2, 3)) - tp, truth.sum((2, 3)) - tp
    return torch.stack([tp, fp, fn, pixels - tp - fp - fn], -1)


class Measurements(NamedTuple):
    """What `ImageMeasures` found, images in any order."""

    images: NDArray[np.int64]  # (N,) index of each in the split
    measures: dict[str, NDArray[np.float64]]  # (N, K) each
    components: NDArray[np.int64]  # (N, K)
    calibration: NDArray[np.float64]  # (N, K, bins, 3)
    curves: NDArray[np.float64]  # (K, 3, 256) mean over images, see `measures.CURVES`
    roc: NDArray[np.int64]  # (2, K, 2, bins): over all counted pixels, and inside the field of view


class ImageMeasures(Metric):
    """The measures of `lightning_seg.evaluation` of every image, keyed by its index; computed on the CPU.

    Args:
        num_classes: K.
        families: of measures.
    """

    full_state_update = False
    index: list[Tensor]
    rows: list[Tensor]
    curves: Tensor
    roc: Tensor

    def __init__(self, num_classes: int, families: Sequence[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.families, self.names = tuple(families), measures.names(families)
        curves = torch.zeros(num_classes, len(measures.CURVES), LEVELS, dtype=torch.float64)
        self.add_state("index", [], "cat")
        self.add_state("rows", [], "cat")
        self.add_state("curves", curves, "sum")
        self.add_state("roc", torch.zeros(2, num_classes, 2, ROC_BINS, dtype=torch.int64), "sum")

    def update(
        self, probability: Tensor, mask: Tensor, index: Tensor, region: Tensor | None = None
    ) -> None:
        """probability, mask (B, K, H, W), index (B,), region (B, 1, H, W) as for `SegmentationCounts`."""
        maps, truths = probability.float().nan_to_num().cpu().numpy(), (mask > 0).cpu().numpy()
        regions = [None] * len(maps) if region is None else region[:, 0].cpu().numpy()
        rows = [
            [self._row(k, maps[b, k], truths[b, k], regions[b]) for k in range(maps.shape[1])]
            for b in range(len(maps))
        ]
        self.rows.append(torch.tensor(np.array(rows), device=self.device))
        self.index.append(index.to(self.device))

    def _row(
        self,
        k: int,
        probability: NDArray[np.float32],
        truth: Mask,
        region: NDArray[np.uint8] | None,
    ) -> Row:
        """All numbers of one image and class: measures, components, calibration sums."""
        found = measures.measure(
            probability, truth, None if region is None else region > 0, self.families
        )
        self.curves[k] += torch.from_numpy(found.curves).to(self.device)
        if "probability" in self.families:
            kept = [np.ones_like(truth)] if region is None else [region > 0, region == INSIDE]
            for place, pixels in enumerate(kept):
                self.roc[place, k] += torch.from_numpy(
                    roc_sums(probability[pixels], truth[pixels])
                ).to(self.device)
        return np.array(
            [
                *(found.values[name] for name in self.names),
                found.components,
                *found.calibration.ravel(),
            ]
        )

    def compute(self) -> Measurements:
        rows, index = dim_zero_cat(self.rows).cpu().numpy(), dim_zero_cat(self.index).cpu().numpy()
        values, components, sums = np.split(rows, [len(self.names), len(self.names) + 1], axis=-1)
        return Measurements(
            index,
            {name: values[..., place] for place, name in enumerate(self.names)},
            components[..., 0].astype(np.int64),
            sums.reshape(*sums.shape[:2], -1, 3),
            self.curves.cpu().numpy() / max(len(index), 1),
            self.roc.cpu().numpy(),
        )
