"""`Prediction`: what a network finds in one image, and what a table says of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lightning_seg.errors import InputError
from lightning_seg.evaluation.confidence import expected_dice
from lightning_seg.inference.label_maps import label_map
from lightning_seg.inference.postprocess import components

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SUFFIXES = (".png", ".npz")


@dataclass(frozen=True)
class Prediction:
    """The masks that a network finds in one image.

    Attributes:
        mask: (K, H, W) bool, at the size of the image.
        probability: (K, H, W) float32 in [0, 1].
        classes: the names of the K channels.
        exclusive: whether each pixel is of one class at most.
        contours: ``outer`` and ``inner`` -> (K, H, W) bool, as far as the network's checkpoint
            holds a guarantee of them.
        note: what the masks may be wrong in, in words; empty where nothing is known to be.
    """

    mask: NDArray[np.bool_]
    probability: NDArray[np.float32]
    classes: tuple[str, ...]
    exclusive: bool = False
    contours: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    note: str = ""

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
        note = f" ({self.note})" if self.note else ""
        return f"Prediction of {height} x {width} pixels: {found}{note}"

    def overlay(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The image with the outline and a tint of each class, (H, W, 3) RGB uint8.

        Args:
            image: (H, W), (H, W, 1) or (H, W, 3) RGB uint8, of the size of the mask.

        InputError for an image of another size or type.
        """
        import torch

        from lightning_seg.inference.pictures import overlay

        pixels = np.asarray(image)
        pixels = pixels[..., None] if pixels.ndim == 2 else pixels
        fits = pixels.ndim == 3 and pixels.shape[2] in (1, 3)
        if not fits or pixels.shape[:2] != self.mask.shape[1:] or pixels.dtype != np.uint8:
            height, width = self.mask.shape[1:]
            raise InputError(
                f"the image has the shape {np.shape(image)} and is of {pixels.dtype}; give the "
                f"picture of this prediction, ({height}, {width}) or ({height}, {width}, 3) uint8."
            )
        channels_first = torch.from_numpy(np.array(pixels.transpose(2, 0, 1)))
        return overlay(channels_first, torch.from_numpy(self.mask))

    def plot(self, image: NDArray[np.uint8]) -> "Figure":
        """A matplotlib figure: the image with its masks, and a map of probability for each class.

        Args:
            image: see `overlay`.
        """
        from matplotlib.figure import Figure

        count, (height, width) = 1 + len(self.classes), self.mask.shape[1:]
        side = 3.2  # inches of a panel
        figure = Figure((side * count, side * height / width + 0.5), layout="constrained")
        first, *others = np.atleast_1d(figure.subplots(1, count))
        first.imshow(self.overlay(image))
        first.set_title("masks")
        for axes, name, probability in zip(others, self.classes, self.probability, strict=True):
            shown = axes.imshow(probability, vmin=0, vmax=1, cmap="viridis")
            axes.set_title(f"probability of {name}")
        figure.colorbar(shown, ax=others, fraction=0.046)
        for axes in (first, *others):
            axes.set_axis_off()
        return figure

    def save(self, path: str | Path) -> list[Path]:
        """Write the masks and return the files.

        A ``.png`` is 0 and 255, of several classes one file each, ``<name>_<class>.png``; an
        ``.npz`` holds ``mask``, ``probability`` and ``classes``. Files are written whole, in place
        of those of these names. InputError for another ending.
        """
        from lightning_seg.files import whole
        from lightning_seg.inference.output_names import safe_part
        from lightning_seg.inference.pictures import write_png

        target = Path(path)
        if target.suffix not in _SUFFIXES:
            raise InputError(f"{target} has no ending of a mask; give .png or .npz.")
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.suffix == ".npz":
            names = np.array(self.classes)
            with whole(target) as part, part.open("wb") as stream:
                np.savez_compressed(
                    stream, classes=names, mask=self.mask, probability=self.probability
                )
            return [target]
        files = [target]
        if len(self.classes) > 1:
            files = [
                target.with_name(f"{target.stem}_{safe_part(name)}.png") for name in self.classes
            ]
        for file, mask in zip(files, self.mask, strict=True):
            write_png(file, mask.astype(np.uint8) * 255)
        return files

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
        expected_dice: the Dice to expect where the probabilities are right: the lower, the sooner
            a person should look.
    """

    name: str
    area: int
    share: float
    components: int
    confidence: float
    expected_dice: float

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
            "expected_dice": f"{self.expected_dice:.4f}",
        }


def describe_mask(
    name: str,
    mask: NDArray[np.bool_],
    probability: NDArray[np.float32],
) -> ClassFinding:
    """Describe the mask of one class by itself and its probabilities, which have its shape."""
    area = int(mask.sum())
    confidence = float(probability[mask].mean()) if area else 1 - float(probability.max())
    expected = expected_dice(probability, mask)
    return ClassFinding(name, area, area / mask.size, components(mask), confidence, expected)
