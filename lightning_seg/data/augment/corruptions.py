"""Named corruptions of pictures at five severities: what `test --corrupt` scores a network under.

The way of Hendrycks and Dietterich, 2019 (ImageNet-C): a network that was trained on pictures as
they are is tested on worse ones. Lengths are shares of the shorter side of a picture, so that a
severity means the same at any size. A picture is corrupted at the size at which the network gets
it, and masks stay as they are.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from lightning_seg.data.augment.pipeline import Augmentation, Key, Transforms
from lightning_seg.data.sources.base import Sample
from lightning_seg.errors import InputError, unknown

SEVERITIES = (1, 2, 3, 4, 5)
_HIGHLIGHT = 0.04  # the longest half axis of a highlight, as a share of the shorter side


def all_corruptions(kinds: Sequence[str], seed: int) -> list["Corruption"]:
    """The kinds, or all where ``all`` is among them, at each severity.

    Errors: InputError for an unknown kind.
    """
    chosen = list(CORRUPTIONS) if "all" in kinds else list(dict.fromkeys(kinds))
    return [Corruption(kind, severity, seed) for kind in chosen for severity in SEVERITIES]


def _noise(deviation: float, side: int) -> dict[str, Any]:
    return {"name": "GaussNoise", "std_range": (deviation, deviation)}


def _blur(sigma: float, side: int) -> dict[str, Any]:
    pixels = sigma * side
    return {"name": "GaussianBlur", "sigma_limit": (pixels, pixels), "blur_limit": 0}


def _motion(length: float, side: int) -> dict[str, Any]:
    pixels = max(3, round(length * side / 2) * 2 + 1)
    return {"name": "MotionBlur", "blur_limit": (pixels, pixels), "allow_shifted": False}


def _jpeg(quality: float, side: int) -> dict[str, Any]:
    return {"name": "ImageCompression", "quality_range": (int(quality), int(quality))}


def _brightness(share: float, side: int) -> dict[str, Any]:
    limits = {"brightness_limit": (share, share), "contrast_limit": (0, 0)}
    return {"name": "RandomBrightnessContrast", **limits}


def _contrast(factor: float, side: int) -> dict[str, Any]:
    others = {"brightness": (1, 1), "saturation": (1, 1), "hue": (0, 0)}
    return {"name": "ColorJitter", "contrast": (factor, factor), **others}


def _highlights(count: float, side: int) -> dict[str, Any]:
    return {"name": "SpecularHighlights", "count": int(count), "size": _HIGHLIGHT}


@dataclass(frozen=True)
class CorruptionKind:
    """A way to make pictures worse.

    Attributes:
        meaning: of its levels, in words.
        levels: of the five severities.
        transform: from a level and the shorter side of a picture in pixels.
    """

    meaning: str
    levels: tuple[float, float, float, float, float]
    transform: Callable[[float, int], dict[str, Any]]


CORRUPTIONS = {
    "noise": CorruptionKind(
        "Gaussian noise, its standard deviation as a share of the range",
        (0.02, 0.04, 0.06, 0.09, 0.13),
        _noise,
    ),
    "blur": CorruptionKind(
        "Gaussian blur, its sigma as a share of the shorter side",
        (0.004, 0.008, 0.012, 0.018, 0.026),
        _blur,
    ),
    "motion": CorruptionKind(
        "blur along a random direction, its length as a share of the shorter side",
        (0.03, 0.05, 0.08, 0.12, 0.16),
        _motion,
    ),
    "jpeg": CorruptionKind("the quality of JPEG", (50, 30, 18, 10, 5), _jpeg),
    "brightness": CorruptionKind(
        "share of the range that is added", (0.1, 0.2, 0.3, 0.4, 0.5), _brightness
    ),
    "darkness": CorruptionKind(
        "share of the range that is taken away", (-0.1, -0.2, -0.3, -0.4, -0.5), _brightness
    ),
    "contrast": CorruptionKind(
        "the contrast that is left around the mean", (0.7, 0.5, 0.35, 0.2, 0.1), _contrast
    ),
    "highlights": CorruptionKind(
        "specular highlights: white spots, their number", (5, 10, 20, 35, 50), _highlights
    ),
}


@dataclass(frozen=True)
class Corruption:
    """One kind at one severity; with an id, its seed decides the picture.

    Errors: InputError for an unknown kind, or an illegal severity or seed.
    """

    kind: str
    severity: int
    seed: int = 0

    def __post_init__(self) -> None:
        if self.kind not in CORRUPTIONS:
            raise unknown("corruption", self.kind, [*CORRUPTIONS, "all"])
        if self.severity not in SEVERITIES:
            raise InputError(f"the severity is {self.severity!r}; give a whole number from 1 to 5.")
        if self.seed < 0:
            raise InputError(
                f"the seed of the corruptions is {self.seed}; give a whole number from 0."
            )

    @property
    def label(self) -> str:
        """``noise-3``."""
        return f"{self.kind}-{self.severity}"

    @property
    def words(self) -> str:
        """``noise of severity 3 of 5 (seed 0)``."""
        return f"{self.kind} of severity {self.severity} of {SEVERITIES[-1]} (seed {self.seed})"

    def transforms(self, side: int) -> Transforms:
        """Its chain for pictures of a shorter side in pixels."""
        kind = CORRUPTIONS[self.kind]
        return [kind.transform(kind.levels[self.severity - 1], side) | {"p": 1.0}]


class CorruptingAugmentation:
    """The change of pictures by a corruption: the same for the same seed, id, kind and severity."""

    def __init__(self, corruption: Corruption) -> None:
        self.corruption = corruption
        self._by_side: dict[int, Augmentation] = {}

    def change(self, sample: Sample, key: Key) -> Sample:
        """The sample with a corrupted image.

        Args:
            key: its last part is the id.

        Errors: InputError for an image that this kind cannot be of.
        """
        one = self.corruption
        side, channels = min(sample.image.shape[:2]), sample.image.shape[2]
        if one.kind == "jpeg" and channels not in (1, 3):
            raise InputError(
                f"the corruption jpeg is of pictures of 1 or 3 channels, and these have {channels}; "
                "name the other kinds by --corrupt."
            )
        if side not in self._by_side:
            self._by_side[side] = Augmentation(one.transforms(side), one.seed)
        # alike at all severities, so that nothing but the strength differs: the same direction of
        # motion, the same highlights and some more
        return self._by_side[side].change(sample, (one.kind, 0, key[-1]))
