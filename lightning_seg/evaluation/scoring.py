"""From batches of probabilities to the score table of an epoch, at the network's size or at that of each mask."""

from collections.abc import Callable, Iterator
from typing import Any, Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lightning_seg.evaluation import ScoreTable
from lightning_seg.evaluation.counts import ImageMeasures, Measurements, SegmentationCounts
from lightning_seg.evaluation.measures import FAMILIES

Part = tuple[Tensor, Tensor, Tensor, Tensor | None]  # probabilities, mask, index, region


class Scorer(nn.Module):
    """Counts every epoch; in `test` and `validate` it also measures.

    Attributes:
        score_at: the size at which `test` and `validate` score: ``network``, or ``native``, that of each mask as it was read:
            probabilities are scaled to it (bilinear), then cut at 0.5.
        families: of the measures that `test` and `validate` add (see ``evaluation/measures.py``).
        refine: what happens to the probabilities (B, K, H, W) at this size before they are cut.
        inference: what else than one pass of one network made the probabilities, for the summary.
        label: the same in short, for the name of the folder.
        watchers: called in `test` and `validate` with what is scored: prediction (B, K, H, W) bool, mask, index.
    """

    def __init__(self, classes: list[str]) -> None:
        super().__init__()
        self.classes = classes
        self.counts: Any = nn.ModuleDict(
            {
                f"{stage}_counts": SegmentationCounts(len(classes))
                for stage in ("train", "val", "test")
            }
        )
        self.score_at: Literal["network", "native"] = "network"
        self.families: tuple[str, ...] = tuple(FAMILIES)
        self.refine: Callable[[Tensor], Tensor] | None = None
        self.inference: dict[str, Any] = {}
        self.label = ""
        self.watchers: list[Callable[[Tensor, Tensor, Tensor], None]] = []
        self.measures: ImageMeasures | None = None  # while `test` or `validate` runs
        self.measured: Measurements | None = None  # by the last of them

    def measure(self, device: torch.device | None) -> None:
        """From here to the end of the epoch measure too; with None, count only."""
        if device is not None and device.type == "mps":
            device = torch.device("cpu")  # the GPU of a Mac has no float64
        self.measures = (
            None if device is None else ImageMeasures(len(self.classes), self.families).to(device)
        )

    def train_batch(self, logits: Tensor, batch: dict[str, Any], loss: Tensor) -> None:
        """Count a training batch; logits (B, K, H, W)."""
        region = batch.get("region")
        self.counts["train_counts"].update(
            logits.detach() > 0, batch["mask"], batch["index"], loss, region
        )

    def batch(
        self, stage: str, probability: Tensor, batch: dict[str, Any], loss: Tensor, source: Any
    ) -> None:
        """Count, and measure, a batch of validation or test; probability (B, K, H, W), source: the data set."""
        parts: Iterator[Part] = iter(
            [(probability, batch["mask"], batch["index"], batch.get("region"))]
        )
        if self.measures is not None and self.score_at == "native":
            parts = _native(probability, batch, source)
        for found, mask, index, region in parts:
            maps = found if self.refine is None else self.refine(found)
            self.counts[f"{stage}_counts"].update(maps > 0.5, mask, index, loss, region, maps)
            if self.measures is not None:
                self.measures.update(maps, mask, index, region)
                for watch in self.watchers:
                    watch(maps > 0.5, mask, index)

    def finish(
        self, stage: str
    ) -> tuple[list[int], NDArray[np.int64], NDArray[np.int64] | None, float, Tensor]:
        """End an epoch: what `SegmentationCounts.compute` says, on the CPU."""
        metric = self.counts[f"{stage}_counts"]
        index, counts, inside, loss, histogram = metric.compute()
        metric.reset()
        fov = None if inside is None else inside.cpu().numpy()
        return index.flatten().tolist(), counts.cpu().numpy(), fov, loss, histogram.clone()

    def table(
        self,
        index: list[int],
        counts: NDArray[np.int64],
        inside: NDArray[np.int64] | None,
        ids: tuple[str, ...],
        groups: dict[str, str],
    ) -> ScoreTable:
        """The table of a validation or test; ids of the split, and the group of each id."""
        parts: dict[str, Any] = {"groups": tuple(groups.get(ids[i], ids[i]) for i in index)}
        if inside is not None and (inside.sum(-1) != counts.sum(-1)).any():
            parts["fov_counts"] = inside
        if self.measures is not None:
            found = self.measured = self.measures.compute()
            row = {int(i): place for place, i in enumerate(found.images)}
            order = np.array([row[i] for i in index])
            parts["measures"] = {name: values[order] for name, values in found.measures.items()}
            parts["components"] = found.components[order]
            if "probability" in self.families:
                parts["calibration"] = found.calibration[order]
            self.measures = None
        return ScoreTable.collect(index, counts, ids, self.classes, **parts)


def _native(probability: Tensor, batch: dict[str, Any], source: Any) -> Iterator[Part]:
    """Of each image, as a batch of one, at the size of its own mask."""
    for place, (maps, id) in enumerate(zip(probability.cpu().numpy(), batch["id"], strict=True)):
        sample = source.read(id)
        height, width = sample.mask.shape[:2]
        scaled = [
            cv2.resize(plane, (width, height), interpolation=cv2.INTER_LINEAR) for plane in maps
        ]
        arrays = (np.stack(scaled), sample.mask.transpose(2, 0, 1).copy(), sample.region)
        first, mask, region = (
            None if array is None else torch.from_numpy(array)[None].to(probability.device)
            for array in arrays
        )
        assert first is not None
        assert mask is not None
        yield (
            first,
            mask,
            batch["index"][place : place + 1],
            None if region is None else region[None],
        )
