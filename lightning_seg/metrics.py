"""What is counted while a network runs: per image and class TP, FP, FN, TN; the mean loss; probabilities for the PR curve."""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

BINS = 256


class SegmentationCounts(Metric):
    """Integer counts of every image, keyed by its index in the split, so that they are exact under any number of devices.

    Args:
        num_classes: K, for the histogram of probabilities.
        histogram: also keep ``histogram (K, 2, BINS)``: pixels of background and of foreground by probability.
    """

    full_state_update = False
    index: list[Tensor]
    counts: list[Tensor]
    loss: Tensor
    images: Tensor
    histogram: Tensor

    def __init__(self, num_classes: int, histogram: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_classes = num_classes
        self.with_histogram = histogram
        self.add_state("index", [], "cat")
        self.add_state("counts", [], "cat")
        self.add_state("loss", torch.zeros(()), "sum")
        self.add_state("images", torch.zeros(()), "sum")
        self.add_state("histogram", torch.zeros(num_classes, 2, BINS, dtype=torch.int64), "sum")

    def update(self, logits: Tensor, mask: Tensor, index: Tensor, loss: Tensor) -> None:
        """logits and mask (B, K, H, W), index (B,), loss the scalar mean over the batch."""
        prediction, truth = logits > 0, mask > 0
        tp = (prediction & truth).sum((2, 3))
        fp, fn = prediction.sum((2, 3)) - tp, truth.sum((2, 3)) - tp
        tn = mask.shape[2] * mask.shape[3] - tp - fp - fn
        self.counts.append(torch.stack([tp, fp, fn, tn], -1))
        self.index.append(index)
        self.loss += loss.detach() * len(mask)
        self.images += len(mask)
        if self.with_histogram:
            self.histogram += self._histogram(logits, mask)

    def _histogram(self, logits: Tensor, mask: Tensor) -> Tensor:
        bins = (logits.float().sigmoid().nan_to_num() * BINS).long().clamp_(max=BINS - 1) + BINS * mask.long()
        bins += 2 * BINS * torch.arange(self.num_classes, device=bins.device).view(1, -1, 1, 1)
        return torch.bincount(bins.flatten(), minlength=2 * BINS * self.num_classes).view(self.num_classes, 2, BINS)

    def compute(self) -> tuple[Tensor, Tensor, float, Tensor]:
        """index (N,), counts (N, K, 4) as TP FP FN TN in any order of images, the mean loss, the histogram."""
        return dim_zero_cat(self.index), dim_zero_cat(self.counts), float(self.loss / self.images), self.histogram
