"""`MaskRule`: how probabilities become masks, the same in test, predict, serve and exports."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from lightning_seg.evaluation.conformal import Guarantee
from lightning_seg.evaluation.cut import Cut
from lightning_seg.inference.postprocess import Mask, Postprocess
from lightning_seg.inference.prediction import Prediction

Size = tuple[int, int]


@dataclass(frozen=True)
class MaskRule:
    """Probabilities above a threshold are the mask, which is then post-processed: a volume in
    three dimensions. Of exclusive classes each pixel is of the most probable one.

    Attributes:
        classes: the names of the K channels.
        threshold: a probability above it belongs to the mask.
        postprocess: a chain of steps such as ``fill_holes,min_area=50``; see
            ``inference.postprocess``.
        exclusive: whether the classes are; their masks never overlap, post-processed neither.
        guarantee: what the network's checkpoint promises of outer and inner contours.
        native: whether a `Prediction` is at the size of its image, or at the network's.

    Errors: InputError for a threshold outside (0, 1), and an unknown step.
    """

    classes: tuple[str, ...]
    threshold: float = 0.5
    postprocess: str = ""
    native: bool = True
    exclusive: bool = False
    guarantee: Guarantee | None = None

    def __post_init__(self) -> None:
        _ = self.cut
        object.__setattr__(self, "postprocess", self.steps.text)

    @cached_property
    def cut(self) -> Cut:
        """The masks before post-processing."""
        return Cut(self.threshold, self.exclusive)

    @cached_property
    def steps(self) -> Postprocess:
        """The steps that follow the threshold; false where there are none."""
        return Postprocess(self.postprocess, self.classes)

    def __call__(
        self,
        probability: NDArray[np.float32],
        size: Size,
    ) -> Prediction:
        """The masks of a picture of ``size`` (H, W), whose probabilities (K, h, w) may have
        another."""
        if self.native:
            probability = resized(probability, size)
        return self.prediction(self.masks(probability), probability)

    def prediction(self, masks: Mask, probability: NDArray[np.float32]) -> Prediction:
        """Masks (K, H, W) with the probabilities that they come from, and guaranteed contours."""
        bounds = {} if self.guarantee is None else self.guarantee.bounds
        contours: dict[str, Mask] = {
            kind: bound.masks(probability) for kind, bound in bounds.items()
        }
        return Prediction(masks, probability, self.classes, self.exclusive, contours)

    def above(self, probability: Any) -> Any:
        """The masks before post-processing: bool, of an array or tensor (K, ...)."""
        return self.cut(probability)

    def masks(self, probability: NDArray[np.float32]) -> Mask:
        """Probabilities (K, H, W) of a picture, or (K, D, H, W) of a volume -> its masks, bool of
        the same shape."""
        return self.finished(self.above(probability))

    def finished(self, masks: Mask) -> Mask:
        """Masks as they were cut, (K, H, W) or (K, D, H, W), after post-processing."""
        after = self.steps(masks)
        return _parted(after, masks) if self.exclusive and self.steps else after

    def refined(
        self,
        probability: NDArray[np.float32],
    ) -> NDArray[np.float32]:
        """Probabilities, as for `masks`, that lie above the threshold exactly inside the masks.

        Where post-processing changes the mask they move just across; so do the measures of
        probabilities.
        """
        if not self.steps:
            return probability
        limit, masks = np.float32(self.threshold), self.masks(probability)
        if self.exclusive:
            # where no class is left the background must have at least half
            excess = np.maximum(probability.sum(0) / (0.999 * limit), 1)
            probability = np.where(masks.any(0), probability, probability / excess)
        inside = np.maximum(probability, np.nextafter(limit, np.float32(1)))
        return np.where(masks, inside, np.minimum(probability, limit))


def _parted(after: Mask, before: Mask) -> Mask:
    """Masks (K, ...) without overlaps: a pixel stays what it was, or is of the first of several.

    Args:
        after: may overlap, as where a hole was filled that holds another class.
        before: do not.
    """
    kept = after & before
    taken, found = kept.any(0), kept.copy()
    for into, mask in zip(found, after, strict=True):
        into |= mask & ~taken
        taken |= into
    return found


def resized(
    probability: NDArray[np.float32],
    size: Size,
) -> NDArray[np.float32]:
    """(K, h, w) at ``size`` (H, W), bilinear."""
    if probability.shape[1:] == size:
        return probability
    planes: Sequence[np.ndarray] = [
        cv2.resize(plane, size[::-1], interpolation=cv2.INTER_LINEAR) for plane in probability
    ]
    return np.stack(planes)
