"""`Prediction`: what a network finds in one image, and what a table says of it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_seg.errors import InputError
from lightning_seg.inference.label_maps import label_map
from lightning_seg.inference.postprocess import components


@dataclass(frozen=True)
class Prediction:
    """The masks that a network finds in one image.

    Attributes:
        mask: (K, H, W) bool, at the size of the image.
        probability: (K, H, W) float32 in [0, 1].
        classes: the names of the K channels.
        exclusive: whether each pixel is of one class at most.
    """

    mask: NDArray[np.bool_]
    probability: NDArray[np.float32]
    classes: tuple[str, ...]
    exclusive: bool = False

    @property
    def labels(self) -> NDArray[np.uint8]:
        """(H, W) the number of the class of each pixel, from 1; 0 where there is none.

        InputError where the classes are not exclusive, as their masks may overlap.
        """
        if not self.exclusive:
            raise InputError(
                "the classes of this network are not exclusive: their masks may overlap, and no "
                "label map holds them; use mask."
            )
        return label_map(self.mask)

    def __repr__(self) -> str:
        """``Prediction of 480 x 640 pixels: polyp 3.1 % in 1 part, confidence 0.93``."""
        height, width = self.mask.shape[1:]
        found = ", ".join(map(str, self.findings()))
        return f"Prediction of {height} x {width} pixels: {found}"

    def findings(self) -> list["ClassFinding"]:
        """Describe each class, as the table of results does."""
        return [
            describe_mask(name, mask, probability)
            for name, mask, probability in zip(
                self.classes, self.mask, self.probability, strict=True
            )
        ]


@dataclass(frozen=True)
class ClassFinding:
    """One class in one image.

    Attributes:
        area: pixels of the mask; ``share``: of all pixels.
        components: connected parts of the mask.
        confidence: the mean probability over the mask; where it is empty, one minus the highest
            probability.
    """

    name: str
    area: int
    share: float
    components: int
    confidence: float

    def __str__(self) -> str:
        if not self.area:
            return f"no {self.name}, confidence {self.confidence:.2f}"
        parts = f"{self.components} part{'s' if self.components > 1 else ''}"
        share = f"{100 * self.share:.2g} %"
        return f"{self.name} {share} in {parts}, confidence {self.confidence:.2f}"

    def columns(self) -> dict[str, Any]:
        """The columns of a table of results."""
        return {
            "class": self.name,
            "area": self.area,
            "share": f"{self.share:.6f}",
            "components": self.components,
            "confidence": f"{self.confidence:.4f}",
        }


def describe_mask(
    name: str,
    mask: NDArray[np.bool_],
    probability: NDArray[np.float32],
) -> ClassFinding:
    """Describe the mask of one class by itself and its probabilities, which have its shape."""
    area = int(mask.sum())
    confidence = float(probability[mask].mean()) if area else 1 - float(probability.max())
    return ClassFinding(name, area, area / mask.size, components(mask), confidence)
