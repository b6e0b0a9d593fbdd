"""The way from batches of probabilities to the score table of an epoch."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lightning_seg.errors import InputError
from lightning_seg.evaluation.counts import (
    Counted,
    ImageMeasures,
    Measurements,
    SegmentationCounts,
)
from lightning_seg.evaluation.cut import Cut
from lightning_seg.evaluation.measures import FAMILIES
from lightning_seg.evaluation.table import ScoreTable, column_values

STAGES = ("train", "val", "test")
Watcher = Callable[[Tensor, Tensor, Tensor], None]


@dataclass(frozen=True)
class Scoring:
    """The options of `test` and `validate`, handed over once.

    Attributes:
        score_at: the size: ``network``, or ``native``, that of each mask as it was read;
            probabilities are scaled to it (bilinear), then cut.
        families: of the measures that are added to the counts (see ``evaluation/measures.py``).
        tta: test-time augmentation, a name of ``inference.tta.PASSES``.
        postprocess: what follows the threshold, a chain of steps.
        threshold: a probability above it is predicted.
        threshold_from: how the threshold was chosen, in words; empty where somebody gave it.
        ensemble: further checkpoints, whose probabilities are averaged with those of the first.
        engine: what computes on a CPU, a name of ``inference.options.ENGINES``.
    """

    score_at: Literal["network", "native"] = "network"
    families: tuple[str, ...] = tuple(FAMILIES)
    tta: str = "none"
    postprocess: str = ""
    threshold: float = 0.5
    ensemble: tuple[str, ...] = ()
    threshold_from: str = ""
    engine: str = "torch"

    def __post_init__(self) -> None:
        if not 0 < self.threshold < 1:
            raise InputError(
                f"the threshold is {self.threshold}; give a probability between 0 and 1, "
                "such as 0.5."
            )

    @property
    def label(self) -> str:
        """All but one pass of one network, cut at .5, for the name of a folder."""
        parts = [f"tta={self.tta}"] if self.tta != "none" else []
        if self.ensemble:
            digests = "".join(_sha256_of(Path(file).read_bytes()) for file in self.ensemble)
            together = _sha256_of(digests.encode())
            parts.append(f"ensemble={len(self.ensemble) + 1}-{together[:6]}")
        # one that happens to be .5 was still chosen
        if self.threshold != 0.5 or self.threshold_from:
            parts.append(f"threshold={self.threshold:g}")
        if self.postprocess:
            parts.append(f"post={self.postprocess}")
        if self.engine != "torch":
            parts.append(f"engine={self.engine}")
        return "-".join(parts)

    @property
    def changes_probabilities(self) -> bool:
        """Whether anything but one pass of one network in torch gives the probabilities."""
        return bool(self.ensemble) or self.tta != "none" or self.engine != "torch"

    @property
    def inference(self) -> dict[str, Any]:
        """The same for a summary, whose threshold has a place of its own."""
        engine = {} if self.engine == "torch" else {"engine": self.engine}
        return {
            "tta": self.tta,
            "postprocess": self.postprocess,
            "ensemble": list(self.ensemble),
            **engine,
        }


def _sha256_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@dataclass(frozen=True)
class ScoredEpoch:
    """The findings of a validation or test.

    Attributes:
        table: a row for each image and class.
        loss: mean over the images.
        histogram: (K, 2, bins) pixels of background and of foreground by probability.
        measured: what was measured beside the counts, where that was asked for.
    """

    table: ScoreTable
    loss: float
    histogram: NDArray[np.int64]
    measured: Measurements | None


class ScoredPart(NamedTuple):
    """Images that are scored together: (B, K, H, W) each, and (B,) positions in the split."""

    probability: Tensor
    mask: Tensor
    places: Tensor
    region: Tensor | None
    loss: Tensor


class Refine(Protocol):
    """A change of probabilities at the scored size before they are cut. It may hold parts back."""

    def add(self, part: ScoredPart) -> Iterable[ScoredPart]:
        """Take a part, and give what is to be scored now."""

    def rest(self) -> Iterable[ScoredPart]:
        """Give what was held back, at the end of an epoch."""


class Scorer(nn.Module):
    """Counts every epoch; in `test` and `validate` it also measures.

    Args:
        classes: the channels of the masks.
        scoring: the options of `test` and `validate`.
        refine: see `Refine`.
        exclusive: whether a pixel is of one class at most.
    """

    def __init__(
        self,
        classes: Sequence[str],
        scoring: Scoring | None = None,
        refine: Refine | None = None,
        exclusive: bool = False,
    ) -> None:
        super().__init__()
        self.classes, self.scoring, self._refine = classes, scoring or Scoring(), refine
        self.cut = Cut(self.scoring.threshold, exclusive)
        self.counts: Any = nn.ModuleDict(
            {f"{stage}_counts": SegmentationCounts(len(classes)) for stage in STAGES}
        )
        self._measures: ImageMeasures | None = None  # while `test` or `validate` runs
        self._watchers: list[Watcher] = []

    def watch(self, watcher: Watcher) -> None:
        """Call ``watcher`` with all that `test` and `validate` score.

        It gets prediction (B, K, H, W) bool, mask and index.
        """
        self._watchers.append(watcher)

    def unwatch(self, watcher: Watcher) -> None:
        """Call it no more."""
        self._watchers.remove(watcher)

    def begin(self, measured_on: torch.device | None, images: int = 0) -> None:
        """Start an epoch of validation or test, which is measured too where a device is given.

        Args:
            images: how many are expected.
        """
        self._measures = None
        if measured_on is None:
            return
        # the GPU of a Mac has no float64
        device = torch.device("cpu") if measured_on.type == "mps" else measured_on
        families = self.scoring.families
        measures = ImageMeasures(len(self.classes), families, self.cut, images)
        self._measures = measures.to(device)

    def add_training(
        self,
        prediction: Tensor,
        batch: dict[str, Any],
        loss: Tensor,
    ) -> None:
        """Count a batch of training; prediction (B, K, H, W) bool."""
        counts = self.counts["train_counts"]
        counts.update(prediction, batch["mask"], batch["index"], loss, batch.get("region"))

    def add(
        self,
        stage: str,
        probability: Tensor,
        batch: dict[str, Any],
        loss: Tensor,
        source: Any,
    ) -> None:
        """Count, and measure, a batch of validation or test.

        Args:
            probability: (B, K, H, W).
            source: the data set, for masks of native size.
        """
        parts: Iterator[ScoredPart] = iter(
            [ScoredPart(probability, batch["mask"], batch["index"], batch.get("region"), loss)]
        )
        if self._measures is not None and self.scoring.score_at == "native":
            parts = _at_native_size(probability, batch, source, loss)
        for part in parts:
            for refined in [part] if self._refine is None else self._refine.add(part):
                self._score(stage, refined)

    def _score(self, stage: str, part: ScoredPart) -> None:
        maps, mask, places, region, loss = part
        prediction = self.cut(maps, 1)
        counts = self.counts[f"{stage}_counts"]
        counts.update(prediction, mask, places, loss, region, maps)
        if self._measures is not None:
            self._measures.update(maps, mask, places, region)
            for watcher in self._watchers:
                watcher(prediction, mask, places)

    def finish_counts(self, stage: str) -> Counted:
        """End the counting of an epoch."""
        metric = self.counts[f"{stage}_counts"]
        found: Counted = metric.compute()
        metric.reset()
        return found

    def finish(
        self,
        stage: str,
        ids: Sequence[str],
        groups: Mapping[str, str],
        columns: Mapping[str, Mapping[str, str]] | None = None,
    ) -> ScoredEpoch:
        """End an epoch of validation or test.

        Args:
            ids: of the split, in its order.
            groups: of the ids, where they are known.
            columns: id -> further column -> its value, where there are any.
        """
        for part in [] if self._refine is None else self._refine.rest():
            self._score(stage, part)
        counted = self.finish_counts(stage).merged()
        measured = None
        if self._measures is not None:
            self._measures.finish()
            measured = self._measures.compute()
        self._measures = None
        inside = counted.inside
        names = [ids[image] for image in counted.images]
        parts: dict[str, Any] = {"groups": tuple(groups.get(name, name) for name in names)}
        if columns:
            parts["columns"] = column_values(columns, names)
        pixels = counted.counts.sum(-1)
        if inside is not None and (inside.sum(-1) != pixels).any():
            parts["fov_counts"] = inside
        if measured is not None:
            parts |= self._columns(measured, counted.images)
        table = ScoreTable.collect(
            counted.images.tolist(), counted.counts, ids, self.classes, **parts
        )
        return ScoredEpoch(table, counted.loss, counted.histogram, measured)

    def _columns(
        self,
        measured: Measurements,
        images: NDArray[np.int64],
    ) -> dict[str, Any]:
        """The columns that were measured, in the order of the images that were counted."""
        rows = {image: row for row, image in enumerate(measured.images.tolist())}
        order = np.array([rows[image] for image in images.tolist()])
        columns: dict[str, Any] = {
            "measures": {name: values[order] for name, values in measured.measures.items()},
            "components": measured.components[order],
        }
        if "probability" in self.scoring.families:
            columns["calibration"] = measured.calibration[order]
        return columns


def _at_native_size(
    probability: Tensor, batch: dict[str, Any], source: Any, loss: Tensor
) -> Iterator[ScoredPart]:
    """Each image as a batch of one, at the size of its own mask."""
    device = probability.device

    def batched(array: np.ndarray) -> Tensor:
        return torch.from_numpy(array)[None].to(device)

    every = probability.cpu().numpy()
    for place, id in enumerate(batch["id"]):
        sample = source.read(id)
        height, width = sample.mask.shape[:2]
        size = width, height
        scaled = [cv2.resize(one, size, interpolation=cv2.INTER_LINEAR) for one in every[place]]
        yield ScoredPart(
            batched(np.stack(scaled)),
            batched(sample.mask.transpose(2, 0, 1).copy()),
            batch["index"][place : place + 1],
            None if sample.region is None else batched(sample.region)[None],
            loss,
        )
