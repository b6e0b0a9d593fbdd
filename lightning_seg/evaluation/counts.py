"""Counts and measures while a network runs, exact under any number of devices."""

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from lightning_seg.evaluation.cut import Cut
from lightning_seg.evaluation.measures import CURVES, Measured, measure_names
from lightning_seg.evaluation.measuring import (
    INSIDE,
    MeasuredImage,
    MeasuringQueue,
    PredictedImage,
)
from lightning_seg.evaluation.probability import ROC_BINS
from lightning_seg.evaluation.saliency import LEVELS

BINS = 256


class Counted(NamedTuple):
    """The findings of `SegmentationCounts`, images in any order.

    Attributes:
        images: (N,) position of each in the split.
        counts: (N, K, 4) TP, FP, FN, TN.
        inside: (N, K, 4) those in the field of view, where there are regions.
        loss: mean over the images.
        histogram: (K, 2, BINS) pixels of background and of foreground by probability.
    """

    images: NDArray[np.int64]
    counts: NDArray[np.int64]
    inside: NDArray[np.int64] | None
    loss: float
    histogram: NDArray[np.int64]

    def merged(self) -> "Counted":
        """The same with one row for each image: those of its parts added up."""
        images, rows = np.unique(self.images, return_inverse=True)
        if len(images) == len(self.images):
            return self

        def added(parts: NDArray[np.int64]) -> NDArray[np.int64]:
            sums = np.zeros((len(images), *parts.shape[1:]), parts.dtype)
            np.add.at(sums, rows, parts)
            return sums

        inside = None if self.inside is None else added(self.inside)
        return self._replace(images=images, counts=added(self.counts), inside=inside)


class SegmentationCounts(Metric):
    """Integer counts of every image, keyed by its index in the split, and the mean loss.

    Args:
        num_classes: K, for the histogram of probabilities.
    """

    full_state_update = False
    index: list[Tensor]
    counts: list[Tensor]
    inside: list[Tensor]
    loss: Tensor
    images: Tensor
    histogram: Tensor

    def __init__(self, num_classes: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_classes = num_classes
        for name in ("index", "counts", "inside"):
            self.add_state(name, [], "cat")
        self.add_state("loss", torch.zeros(()), "sum")
        self.add_state("images", torch.zeros(()), "sum")
        histogram = torch.zeros(num_classes, 2, BINS, dtype=torch.int64)
        self.add_state("histogram", histogram, "sum")

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
            region: (B, 1, H, W): 0 is not counted, 2 is counted a second time, as inside the
                field of view.
            probability: (B, K, H, W), for the histogram.
        """
        truth, counted = mask > 0, None if region is None else region > 0
        self.counts.append(_confusion_counts(prediction, truth, counted))
        if region is not None:
            self.inside.append(_confusion_counts(prediction, truth, region == INSIDE))
        self.index.append(index)
        self.loss += loss.detach() * len(mask)
        self.images += len(mask)
        if probability is not None:
            self.histogram += self._histogram(probability, truth, counted)

    def _histogram(
        self,
        probability: Tensor,
        truth: Tensor,
        counted: Tensor | None,
    ) -> Tensor:
        classes = torch.arange(self.num_classes, device=truth.device).view(1, -1, 1, 1)
        step = (probability.nan_to_num() * BINS).long().clamp_(max=BINS - 1)
        bins = step + BINS * (truth.long() + 2 * classes)
        kept = bins.flatten() if counted is None else bins[counted.expand_as(bins)]
        pixels = torch.bincount(kept, minlength=2 * BINS * self.num_classes)
        return pixels.view(self.num_classes, 2, BINS)

    def compute(self) -> Counted:
        """All images of all devices, on the CPU."""
        return Counted(
            images=_joined_array(self.index),
            counts=_joined_array(self.counts),
            inside=_joined_array(self.inside) if len(self.inside) else None,
            loss=float(self.loss / self.images),
            histogram=self.histogram.cpu().numpy().copy(),
        )


def _joined_array(parts: Any) -> NDArray[Any]:
    """A state of batches, joined."""
    return dim_zero_cat(parts).cpu().numpy()


def _confusion_counts(prediction: Tensor, truth: Tensor, counted: Tensor | None) -> Tensor:
    """(B, K, 4) TP, FP, FN, TN over the counted pixels (B, 1, H, W)."""
    pixels: Tensor | int = truth.shape[2] * truth.shape[3]
    if counted is not None:
        prediction, truth = prediction & counted, truth & counted
        pixels = counted.sum((2, 3))
    tp = (prediction & truth).sum((2, 3))
    fp = prediction.sum((2, 3)) - tp
    fn = truth.sum((2, 3)) - tp
    return torch.stack([tp, fp, fn, pixels - tp - fp - fn], -1)


class Measurements(NamedTuple):
    """The findings of `ImageMeasures`, images in any order.

    Attributes:
        images: (N,) position of each in the split.
        measures: name -> (N, K).
        components: (N, K) lesions of the truth.
        calibration: (N, K, bins, 3).
        curves: (K, 3, 256) mean over images of `measures.CURVES`.
        roc: (2, K, 2, bins) over all counted pixels, and inside the field of view.
    """

    images: NDArray[np.int64]
    measures: dict[str, NDArray[np.float64]]
    components: NDArray[np.int64]
    calibration: NDArray[np.float64]
    curves: NDArray[np.float64]
    roc: NDArray[np.int64]


class ImageMeasures(Metric):
    """The measures of every image, keyed by its index; computed on the CPU.

    Args:
        num_classes: K.
        families: of measures.
        cut: what is predicted.
        images: how many are expected.
    """

    full_state_update = False
    index: list[Tensor]
    components: list[Tensor]
    calibration: list[Tensor]
    curves: Tensor
    roc: Tensor

    def __init__(
        self,
        num_classes: int,
        families: Sequence[str],
        cut: Cut | None = None,
        images: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._queue = MeasuringQueue(families, cut or Cut(), images)
        self._under_way: deque[Tensor] = deque()  # the index of each batch in the queue
        # each measure has a state of its own: name of the measure -> that of the state
        self.states = {name: f"measured_{name}" for name in measure_names(families)}
        for state in ("index", "components", "calibration", *self.states.values()):
            self.add_state(state, [], "cat")
        curves = torch.zeros((num_classes, len(CURVES), LEVELS), dtype=torch.float64)
        roc = torch.zeros((2, num_classes, 2, ROC_BINS), dtype=torch.int64)
        self.add_state("curves", curves, "sum")
        self.add_state("roc", roc, "sum")

    def update(
        self,
        probability: Tensor,
        mask: Tensor,
        index: Tensor,
        region: Tensor | None = None,
    ) -> None:
        """Measure a batch; arguments as for `SegmentationCounts`."""
        maps = probability.float().nan_to_num().cpu().numpy()
        truths = (mask > 0).cpu().numpy()
        regions = [None] * len(maps) if region is None else region[:, 0].cpu().numpy()
        batch = [PredictedImage(*each) for each in zip(maps, truths, regions, strict=True)]
        self._under_way.append(index.to(self.device))
        self._keep(self._queue.put(batch))

    def finish(self) -> None:
        """Wait for what is still being measured: to be called before `compute`."""
        self._keep(self._queue.rest())

    def _keep(self, batches: Iterable[list[MeasuredImage]]) -> None:
        """Keep the findings of batches, in the order in which they came."""
        for images in batches:
            self.index.append(self._under_way.popleft())
            classes = len(images[0].classes)
            self._add([each for image in images for each in image.classes], (len(images), classes))
            for image in images:
                if image.roc is not None:
                    self.roc[: len(image.roc)] += torch.from_numpy(image.roc).to(self.device)

    def _add(
        self,
        found: Sequence[Measured],
        shape: tuple[int, ...],
    ) -> None:
        """Keep the findings of B images and K classes, in this order."""

        def kept(values: list[Any]) -> Tensor:
            array = np.array(values)
            array = array.reshape(*shape, *array.shape[1:])
            return torch.from_numpy(array).to(self.device)

        for name, state in self.states.items():
            values = kept([each.values[name] for each in found])
            getattr(self, state).append(values)
        self.components.append(kept([each.components for each in found]))
        self.calibration.append(kept([each.calibration for each in found]))
        curves = kept([each.curves for each in found])
        self.curves += curves.sum(0)

    def compute(self) -> Measurements:
        """All images of all devices, on the CPU."""
        images = _joined_array(self.index)
        found = {name: getattr(self, state) for name, state in self.states.items()}
        return Measurements(
            images=images,
            measures={name: _joined_array(values) for name, values in found.items()},
            components=_joined_array(self.components),
            calibration=_joined_array(self.calibration),
            curves=self.curves.cpu().numpy() / max(len(images), 1),
            roc=self.roc.cpu().numpy(),
        )
