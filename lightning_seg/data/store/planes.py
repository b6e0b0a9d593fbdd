"""A CT scan and its segmentation as slices of 8 bits, at the scan's own size, a spacing in mm or
that of the network.

The scan is turned into the canonical frame (see ``reading.volumes``) and windowed; where it is
asked for, it is resampled to a spacing and padded. Then its slices are scaled to the network's
size, as the samples of every data set.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import cv2
import numpy as np

from lightning_seg.data.fingerprint import Content, pixels_digest
from lightning_seg.data.reading.hounsfield import check_hounsfield, sampled_slices
from lightning_seg.data.reading.volumes import (
    farthest_corner,
    read_grid,
    read_labels_volume,
    read_volume,
    to_canonical,
)
from lightning_seg.data.reading.windowing import PERCENTILES, percentile_window
from lightning_seg.errors import InputError, unknown

Size = tuple[int, int] | None
ALIGN = ("headers", "voxels")
_ROUNDING = 0.1  # of the smallest side of a voxel


def window(
    array: np.ndarray,
    low: float,
    high: float,
) -> np.ndarray:
    """Grey values 0 to 255, uint8, of HU from ``low`` to ``high``; beyond, they are cut off."""
    scale = 255 / (high - low)
    return np.rint((np.clip(array, low, high).astype(np.float32) - low) * scale).astype(np.uint8)


class Settings(NamedTuple):
    """The settings on which the pixels of a sample depend, besides the files and the size."""

    window: tuple[float, float] | Literal["percentiles"]  # of each scan, where HU are unknown
    in_channels: int
    spacing: tuple[float, float, float] | None  # mm, of slices, rows and columns
    pad: int | None  # pixels, of both sides


class Lattice(NamedTuple):
    """Slices of a scan at some size."""

    shape: tuple[int, int, int]  # slices, rows, columns
    spacing: tuple[float, float, float]  # mm


def settings(
    window: Sequence[float] | str,
    in_channels: int,
    spacing: Sequence[float] | None,
    pad: int | None,
) -> Settings:
    """The checked settings; InputError for a window, spacing or padding that is none, an even number of channels."""
    if window != PERCENTILES and (isinstance(window, str) or _is_no_window(window)):
        shown = window if isinstance(window, str) else list(window)
        raise InputError(
            f"window is {shown}; give the lowest and the highest HU, such as [-200, 250], or "
            f"{PERCENTILES}."
        )
    if in_channels < 1 or in_channels % 2 == 0:
        raise InputError(
            f"in_channels is {in_channels}; give 1 for single slices, 3 for one neighbour on each side, 5, ..."
        )
    if spacing is not None and (len(spacing) != 3 or not all(0 < step < 100 for step in spacing)):
        raise InputError(
            f"spacing is {list(spacing)}; give mm between slices, rows and columns, such as [3, 0.8, 0.8]."
        )
    if pad is not None and pad < 1:
        raise InputError(f"pad is {pad}; give the side in pixels to which slices are padded.")
    steps = None if spacing is None else _triple(np.array(spacing, float))
    if isinstance(window, str):
        return Settings("percentiles", in_channels, steps, pad)
    return Settings((float(window[0]), float(window[1])), in_channels, steps, pad)


def _is_no_window(window: Sequence[float]) -> bool:
    return len(window) != 2 or not -math.inf < window[0] < window[1] < math.inf


def window_of(chosen: Settings, shown: np.ndarray, path: Path) -> tuple[float, float]:
    """The values that become black and white in a scan.

    Args:
        shown: its slices at `sampled_slices`.
        path: of the file, for the sentence where a window of HU does not fit.
    """
    if isinstance(chosen.window, str):
        return percentile_window(shown)
    check_hounsfield(shown, chosen.window, path)
    return chosen.window


class Scan:
    """A CT and its segmentation.

    Args:
        ct, segmentation: their files.
        highest: the highest label number.
        align: ``headers``: both headers must turn the axes alike. ``voxels``: the segmentation's voxels are those of the CT
            whatever its header says.
        legal: the only label numbers; None: all up to ``highest``.
    """

    def __init__(
        self,
        ct: Path,
        segmentation: Path,
        highest: int,
        align: str,
        legal: frozenset[int] | None = None,
    ) -> None:
        if align not in ALIGN:
            raise unknown("way to align", align, ALIGN)
        self.legal = legal
        self.files, self.highest = (ct, segmentation), highest
        self.grid, other = read_grid(ct), read_grid(segmentation)
        if self.grid.shape != other.shape:
            raise InputError(
                f"{ct} has the shape {self.grid.shape} and {segmentation} {other.shape}; restore the pair."
            )
        ours, theirs = self.grid.orientation, other.orientation
        if align == "headers" and ours != theirs:
            raise InputError(
                f"the axes of {ct} run to {ours} and those of {segmentation} to {theirs}; correct the wrong header, or set "
                "dataset_options.align to 'voxels' where the voxels correspond one by one."
            )
        apart = farthest_corner(self.grid, other)
        if align == "headers" and apart > _ROUNDING * min(self.grid.canonical_spacing):
            raise InputError(
                f"the headers of {ct} and {segmentation} place the same voxel up to {apart:.3g} mm "
                "apart; correct the wrong header, or set dataset_options.align to 'voxels' where "
                "the voxels correspond one by one."
            )

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """HU and labels, (slices, rows, columns) each, decoded."""
        ct, labels = read_volume(self.files[0]), self._label_volume()
        return to_canonical(ct, self.grid.affine), to_canonical(labels, self.grid.affine)

    def shown(self) -> list[list[int]]:
        """The label numbers in each slice."""
        labels = to_canonical(self._label_volume(), self.grid.affine)
        return [
            np.flatnonzero(np.bincount(plane.ravel(), minlength=256)).tolist() for plane in labels
        ]

    def _label_volume(self) -> np.ndarray:
        labels = read_labels_volume(self.files[1])
        if labels.max() > self.highest:
            raise InputError(
                f"{self.files[1]} holds the label {labels.max()}, but they end at {self.highest}; restore the file."
            )
        if self.legal is not None:
            found = np.flatnonzero(np.bincount(labels.ravel(order="K"), minlength=256)).tolist()
            strange = sorted({*found} - self.legal)
            if strange:
                raise InputError(
                    f"{self.files[1]} holds the labels {', '.join(map(str, strange[:4]))}, which "
                    "belong to no class; name them in labels or background."
                )
        return labels

    def resampled(
        self,
        spacing: tuple[float, float, float] | None,
    ) -> Lattice:
        """The slices at ``spacing``, as near as whole numbers of them allow; at its own where it is
        None."""
        own, steps = self.grid.canonical_shape, self.grid.canonical_spacing
        if spacing is None:
            return Lattice(own, steps)
        extent = np.multiply(own, steps)
        slices, height, width = np.maximum(np.rint(extent / spacing), 1).astype(int).tolist()
        return Lattice((slices, height, width), _triple(extent / (slices, height, width)))

    def lattice(self, chosen: Settings, size: Size) -> Lattice:
        """The slices under settings, scaled to ``size`` (height, width) where it is given;
        InputError where none could be padded."""
        (slices, height, width), steps = self.resampled(chosen.spacing)
        if chosen.pad is not None:
            if max(height, width) > chosen.pad:
                raise InputError(
                    f"{self.files[0]} has slices of {height} x {width} pixels, more than the {chosen.pad} to which they are "
                    "padded; give a larger dataset_options.pad or spacing."
                )
            height = width = chosen.pad
        if size is None:
            return Lattice((slices, height, width), steps)
        return Lattice(
            (slices, *size), (steps[0], steps[1] * height / size[0], steps[2] * width / size[1])
        )


def _triple(values: np.ndarray) -> tuple[float, float, float]:
    first, second, third = values.tolist()
    return first, second, third


class Planes:
    """The slices of a decoded scan under settings, image and labels apart, scaled to ``size`` where
    it is given."""

    def __init__(
        self,
        scan: Scan,
        chosen: Settings,
        size: Size = None,
    ) -> None:
        self._ct, self._labels = scan.arrays()
        shown = self._ct[sampled_slices(len(self._ct))]
        self._window = window_of(chosen, shown, scan.files[0])
        self._pad, self._size = chosen.pad, size
        self.count, *inplane = scan.resampled(chosen.spacing).shape
        self._inplane = inplane[0], inplane[1]

    def content(self) -> Content:
        """The content of the scan before any setting touches it."""
        return Content(pixels_digest(self._ct), pixels_digest(self._labels))

    def image(self, index: int) -> np.ndarray:
        """(H, W) uint8; between two slices of the scan their weighted mean."""
        low, share = neighbours(index, self.count, len(self._ct))
        plane = window(self._ct[low], *self._window)
        if share > 0:
            plane = cv2.addWeighted(
                plane, 1 - share, window(self._ct[low + 1], *self._window), share, 0
            )
        return self._brought(plane, scaled)

    def labels(self, index: int) -> np.ndarray:
        """(H, W) uint8, of the nearest slice and pixel."""
        low, share = neighbours(index, self.count, len(self._ct))
        return self._brought(np.ascontiguousarray(self._labels[low + (share > 0.5)]), nearest)

    def _brought(
        self,
        plane: np.ndarray,
        scale: Callable[[np.ndarray, tuple[int, int]], np.ndarray],
    ) -> np.ndarray:
        plane = scale(plane, self._inplane)
        plane = plane if self._pad is None else padded(plane, (self._pad, self._pad))
        return plane if self._size is None else scale(plane, self._size)


def neighbours(
    index: int,
    count: int,
    slices: int,
) -> tuple[int, float]:
    """The source of a new slice: of ``slices`` resampled to ``count``, the one below the new slice
    ``index``, and the share of the one above."""
    place = min(max((index + 0.5) * slices / count - 0.5, 0), slices - 1)
    return int(place), round(place - int(place), 6)


def scaled(
    plane: np.ndarray,
    size: tuple[int, int],
) -> np.ndarray:
    """(H, W) at ``size``: by area where it shrinks, else bilinear."""
    if plane.shape == size:
        return plane
    shrinks = size[0] <= plane.shape[0] and size[1] <= plane.shape[1]
    return cv2.resize(
        plane, size[::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    )


def nearest(
    plane: np.ndarray,
    size: tuple[int, int],
) -> np.ndarray:
    """(H, W) at ``size``: the nearest pixel's value."""
    return (
        plane
        if plane.shape == size
        else cv2.resize(plane, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    )


def padded(
    plane: np.ndarray,
    size: tuple[int, int],
) -> np.ndarray:
    """(H, W) in the middle of zeros of ``size``."""
    rows, columns = size[0] - plane.shape[0], size[1] - plane.shape[1]
    return np.pad(plane, ((rows // 2, rows - rows // 2), (columns // 2, columns - columns // 2)))
