"""`MaskRule`: how probabilities become masks, the same in test, predict, serve and exports."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from lightning_seg.errors import InputError
from lightning_seg.inference.postprocess import Mask, Postprocess
from lightning_seg.inference.prediction import Prediction

Size = tuple[int, int]


@dataclass(frozen=True)
class MaskRule:
    """Probabilities above a threshold are the mask, which is then post-processed: a volume in
    three dimensions.

    Attributes:
        classes: the names of the K channels.
        threshold: a probability above it belongs to the mask.
        postprocess: a chain of steps such as ``fill_holes,min_area=50``; see
            ``inference.postprocess``.
        native: whether a `Prediction` is at the size of its image, or at the network's.

    Errors: InputError for a threshold outside (0, 1), and an unknown step.
    """

    classes: tuple[str, ...]
    threshold: float = 0.5
    postprocess: str = ""
    native: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.threshold < 1:
            raise InputError(
                f"the threshold is {self.threshold}; give a probability between 0 and 1, such as "
                "0.5."
            )
        object.__setattr__(self, "postprocess", self.steps.text)

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
        return Prediction(self.masks(probability), probability, self.classes)

    def above(self, probability: Any) -> Any:
        """The masks before post-processing: bool, of an array or tensor of any shape."""
        return probability > self.threshold

    def masks(self, probability: NDArray[np.float32]) -> Mask:
        """Probabilities (K, H, W) of a picture, or (K, D, H, W) of a volume -> its masks, bool of
        the same shape."""
        return self.steps(self.above(probability))

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
        limit = np.float32(self.threshold)
        inside = np.maximum(probability, np.nextafter(limit, np.float32(1)))
        return np.where(self.masks(probability), inside, np.minimum(probability, limit))


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
