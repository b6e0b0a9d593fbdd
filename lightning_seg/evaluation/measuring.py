"""Images on their way to their measures: in this process, or in others beside the network."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lightning_seg.data.cores import usable_cores
from lightning_seg.data.side_processes import SideProcesses
from lightning_seg.evaluation.cut import Cut
from lightning_seg.evaluation.measures import Mask, Measured, measure
from lightning_seg.evaluation.probability import roc_sums

INSIDE = 2  # of a region: in the field of view; 1 is counted outside it, 0 is ignored
MANY_PIXELS = 100 * 256**2  # of a split, which take seconds; starting a process takes one
MOST_PROCESSES = 8


class PredictedImage(NamedTuple):
    """An image that is to be measured.

    Attributes:
        maps: (K, H, W) probabilities.
        truths: (K, H, W).
        region: (H, W), see `INSIDE`; None where every pixel counts.
    """

    maps: NDArray[np.float32]
    truths: Mask
    region: NDArray[np.uint8] | None


class MeasuredImage(NamedTuple):
    """The findings of an image.

    Attributes:
        classes: the measures of each.
        roc: (1, K, 2, bins) over all counted pixels, and with a region (2, K, 2, bins), also inside
            the field of view; None where nobody asks for it.
    """

    classes: list[Measured]
    roc: NDArray[np.int64] | None


def image_measurer(families: Sequence[str], cut: Cut) -> Callable[[PredictedImage], MeasuredImage]:
    """A function that measures an image; arguments as for `MeasuringQueue`."""

    def measured(image: PredictedImage) -> MeasuredImage:
        counted = None if image.region is None else image.region > 0
        planes = zip(image.maps, image.truths, cut(image.maps), strict=True)
        found = [measure(one, truth, counted, families, mask) for one, truth, mask in planes]
        return MeasuredImage(found, _roc(image) if "probability" in families else None)

    return measured


def _roc(image: PredictedImage) -> NDArray[np.int64]:
    region, everywhere = image.region, np.ones(image.truths.shape[1:], bool)
    places = [everywhere] if region is None else [region > 0, region == INSIDE]
    planes = list(zip(image.maps, image.truths, strict=True))
    return np.stack(
        [np.stack([roc_sums(one[p], truth[p]) for one, truth in planes]) for p in places]
    )


class MeasuringQueue:
    """Batches of images in, their findings out, in the same order.

    A measure takes 10 to 150 ms. Those of a large split are computed in processes of their own,
    with the same results, while the network works.

    Args:
        families: of measures.
        cut: what is predicted.
        images: how many are expected.
    """

    def __init__(self, families: Sequence[str], cut: Cut, images: int) -> None:
        self._given, self._images = (tuple(families), cut), images
        self._measure = image_measurer(*self._given)
        self._waiting: deque[list[Future[MeasuredImage]]] = deque()
        self._helpers: SideProcesses[PredictedImage, MeasuredImage] | None = None
        self._threads: ThreadPoolExecutor | None = None
        self._begun = False

    def put(self, batch: Sequence[PredictedImage]) -> Iterator[list[MeasuredImage]]:
        """Take a batch, and give what is measured now: this batch, or earlier ones."""
        if not self._begun:
            self._begin(batch[0].maps.size)
        if self._helpers is None or self._threads is None:
            yield [self._measure(image) for image in batch]
            return
        self._waiting.append([self._threads.submit(self._helpers, image) for image in batch])
        while sum(map(len, self._waiting)) > 2 * len(self._helpers) + len(batch):
            yield self._next()

    def rest(self) -> Iterator[list[MeasuredImage]]:
        """Give what is left, and end the processes."""
        while self._waiting:
            yield self._next()
        if self._helpers is not None and self._threads is not None:
            self._helpers.end()
            self._threads.shutdown()

    def _begin(self, pixels: int) -> None:
        """Start processes where that many pixels an image are worth them."""
        self._begun = True
        # the network needs a core, too
        count = min(MOST_PROCESSES, usable_cores() - 1)
        if count > 0 and self._images * pixels >= MANY_PIXELS:
            self._helpers = SideProcesses(image_measurer, [self._given] * count)
            self._threads = ThreadPoolExecutor(count)

    def _next(self) -> list[MeasuredImage]:
        return [future.result() for future in self._waiting.popleft()]
