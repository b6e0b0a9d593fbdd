"""From probabilities at the network's size to the masks of an image, by the rule under which they are scored."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from lightning_seg.errors import InputError
from lightning_seg.inference.postprocess import Postprocess, components

Size = tuple[int, int]


@dataclass(frozen=True)
class Prediction:
    """What a network finds in one image.

    Attributes:
        mask: (K, H, W) bool, at the size of the image.
        probability: (K, H, W) float32 in [0, 1].
        classes: the names of the K channels.
    """

    mask: NDArray[np.bool_]
    probability: NDArray[np.float32]
    classes: tuple[str, ...]

    def findings(self) -> list["Finding"]:
        """What the table of results says of each class."""
        return [
            finding(name, mask, probability)
            for name, mask, probability in zip(
                self.classes, self.mask, self.probability, strict=True
            )
        ]


@dataclass(frozen=True)
class Finding:
    """One class in one image.

    Attributes:
        area: pixels of the mask; ``share``: of all pixels.
        components: connected parts of the mask.
        confidence: the mean probability over the mask; where it is empty, one minus the highest probability.
    """

    name: str
    area: int
    share: float
    components: int
    confidence: float

    def columns(self) -> dict[str, Any]:
        """As they stand in a table."""
        return {
            "class": self.name,
            "area": self.area,
            "share": f"{self.share:.6f}",
            "components": self.components,
            "confidence": f"{self.confidence:.4f}",
        }


def finding(name: str, mask: NDArray[np.bool_], probability: NDArray[np.float32]) -> Finding:
    """Of the mask of one class and its probabilities, of one shape."""
    area = int(mask.sum())
    confidence = float(probability[mask].mean()) if area else 1 - float(probability.max())
    return Finding(name, area, area / mask.size, components(mask), confidence)


@dataclass(frozen=True)
class Rule:
    """How probabilities become masks: scaled to the image, where ``native``, cut at ``threshold``, then post-processed."""

    classes: tuple[str, ...]
    threshold: float = 0.5
    native: bool = True
    postprocess: Postprocess = field(default_factory=lambda: Postprocess("", ()))

    def __post_init__(self) -> None:
        if not 0 < self.threshold < 1:
            raise InputError(
                f"the threshold is {self.threshold}; give a probability between 0 and 1, such as 0.5."
            )

    def __call__(self, probability: NDArray[np.float32], size: Size) -> Prediction:
        """probability (K, h, w) of an image of ``size`` (H, W)."""
        if self.native:
            probability = scaled(probability, size)
        return Prediction(self.postprocess(probability > self.threshold), probability, self.classes)


def scaled(probability: NDArray[np.float32], size: Size) -> NDArray[np.float32]:
    """(K, h, w) at ``size`` (H, W), bilinear."""
    if probability.shape[1:] == size:
        return probability
    planes: Sequence[np.ndarray] = [
        cv2.resize(plane, size[::-1], interpolation=cv2.INTER_LINEAR) for plane in probability
    ]
    return np.stack(planes)
