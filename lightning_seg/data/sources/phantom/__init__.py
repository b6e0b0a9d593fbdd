"""Phantom: procedural images that stand in for data while the bench is tried, tested and shown.

Everything here is synthetic: each pixel follows from a seed, nothing is downloaded and no patient
was imaged. A score on these images says whether the software works; it says nothing about clinical
performance.
"""

import math
from pathlib import Path

import numpy as np

from lightning_seg.data.sources.base import Sample
from lightning_seg.data.sources.phantom.abdomen import SLICES_PER_PATIENT, draw_abdomen
from lightning_seg.data.sources.phantom.colonoscopy import draw_colonoscopy
from lightning_seg.data.sources.phantom.kidney import draw_kidney
from lightning_seg.errors import InputError, unknown

KINDS = {"polyp": 0, "ct": 1, "kidney": 3}
_MOST_SIDE = 16_384
_MOST_IMAGES = 1_000_000
_PATIENT_STREAM = 2  # the anatomy of a CT patient, apart from the streams of KINDS


def render_phantom(
    kind: str, seed: int, index: int, size: int = 256
) -> tuple[np.ndarray, np.ndarray]:
    """One image and its masks, the same on every call.

    Another ``size`` shows the same scene with other sensor noise.

    Returns:
        ``polyp``: image (size, size, 3) uint8 RGB and mask (size, size, 1) uint8 in {0, 1}: polyp.
        ``ct``: image (size, size, 1) uint8 and mask (size, size, 2): liver including its tumours,
        tumour. The slices 4n..4n+3 cut one patient.
        ``kidney``: image (size, size, 1) uint8 and mask (size, size, 3): cortex, medulla, pelvis,
        which touch and do not overlap.
    """
    if kind not in KINDS:
        raise unknown("phantom kind", kind, KINDS)
    _at_least("seed", seed, 0)
    _at_least("index", index, 0)
    _at_least("size", size, 16, _MOST_SIDE)
    rng = np.random.default_rng([seed, index, KINDS[kind]])
    if kind == "polyp":
        return draw_colonoscopy(rng, size)
    if kind == "kidney":
        return draw_kidney(rng, size)
    patient, level = divmod(index, SLICES_PER_PATIENT)
    anatomy = np.random.default_rng([seed, patient, _PATIENT_STREAM])
    return draw_abdomen(anatomy, level, rng, size)


def _at_least(name: str, value: int, least: int, most: float = math.inf) -> None:
    if value < least:
        raise InputError(f"{name} {value} is too small for a phantom: give {least} or more.")
    if value > most:
        raise InputError(f"{name} {value} is too large for a phantom: give {most} or less.")


class Phantom:
    """The common part of both phantoms: images by number, rendered when read; nothing lies on disk.

    Args:
        root: is ignored.
        count: of images.
        seed: of all images.
        resolution: height and width in pixels.
    """

    synthetic = True
    kind: str
    classes: tuple[str, ...]
    in_channels: int
    default_protocol: str

    def __init__(
        self,
        root: Path | None = None,
        count: int = 400,
        seed: int = 0,
        resolution: int = 256,
    ) -> None:
        _at_least("count", count, 1, _MOST_IMAGES)
        _at_least("seed", seed, 0)
        _at_least("resolution", resolution, 16, _MOST_SIDE)
        self.seed, self.resolution = seed, resolution
        self.ids = [f"{self.kind}-{index:04d}" for index in range(count)]  # sorted up to 10,000
        self._index = {name: index for index, name in enumerate(self.ids)}
        self.groups = {name: self.group(index) for name, index in self._index.items()}

    def group(self, index: int) -> str:
        """The group of an image: its own."""
        return self.ids[index]

    def read(self, id: str) -> Sample:
        """Image (H, W, C) uint8 and masks (H, W, K) uint8 in {0, 1} at ``resolution``."""
        if id not in self._index:
            raise InputError(
                f"no image named {id!r}; there are {self.ids[0]} to {self.ids[-1]}: "
                "raise count for more."
            )
        return Sample(*render_phantom(self.kind, self.seed, self._index[id], self.resolution))
