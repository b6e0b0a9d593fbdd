"""Decoded slices of scans on disk, one file a scan, from which a slice is read in microseconds.

A file holds (slices, 2, height, width) uint8, image and labels of each slice, as ``.npy``. It is
read piece by piece, not mapped, so that memory does not grow with the number of scans, and appears
by renaming, complete or not at all.
"""

import io
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np

from lightning_seg.data.sources.base import Sample
from lightning_seg.data.store.planes import Planes
from lightning_seg.errors import InputError
from lightning_seg.files import whole


@dataclass(frozen=True)
class ScanFile:
    """The decoded slices of one scan: image and labels, (slices, 2, height, width) uint8."""

    path: Path
    shape: tuple[int, int, int]  # slices, height, width

    @cached_property
    def _header(self) -> bytes:
        buffer = io.BytesIO()
        slices, height, width = self.shape
        header = {"descr": "|u1", "fortran_order": False, "shape": (slices, 2, height, width)}
        np.lib.format.write_array_header_1_0(buffer, header)
        return buffer.getvalue()

    def complete(self) -> bool:
        """Tell whether the file is there, at its full length."""
        try:
            return self.path.stat().st_size == len(self._header) + 2 * math.prod(self.shape)
        except OSError:
            return False

    def write(self, planes: Planes) -> None:
        """Decode everything; the file appears complete or not at all."""
        with whole(self.path) as part, part.open("wb") as file:
            file.write(self._header)
            for index in range(self.shape[0]):
                file.write(np.ascontiguousarray(planes.image(index)).data)
                file.write(np.ascontiguousarray(planes.labels(index)).data)
            file.flush()
            os.fsync(file.fileno())  # some file systems say only here that they are full

    def read(self, first: int, count: int) -> np.ndarray:
        """(count, 2, height, width) of the slices from ``first``. The file is open no longer than
        this takes."""
        _, height, width = self.shape
        size = 2 * height * width
        try:
            found = np.fromfile(
                self.path, np.uint8, count * size, offset=len(self._header) + first * size
            )
            return found.reshape(count, 2, height, width)
        except (OSError, ValueError) as error:
            raise InputError(
                f"{self.path} was removed or cut while it was in use; start again to restore it."
            ) from error

    def shown(self) -> list[list[int]]:
        """The label numbers in each slice."""
        count = self.shape[0]
        planes = (self.read(index, 1)[0, 1] for index in range(count))
        return [np.flatnonzero(np.bincount(one.ravel(), minlength=256)).tolist() for one in planes]


class SliceStore:
    """Slices of scans, read from their files when asked for.

    Args:
        files: scan -> its file.
        places: scan and position of each slice.
        tables: (K, 256) uint8: whether a label number belongs to a class.
        in_channels: the slice and as many on either side; at the ends of a scan the outermost one
            repeats.
        lost: of each slice the classes of which the size leaves no pixel; None: not known.
    """

    def __init__(
        self,
        files: Mapping[str, ScanFile],
        places: Sequence[tuple[str, int]],
        tables: np.ndarray,
        in_channels: int,
        lost: list[list[int]] | None = None,
    ) -> None:
        self.lost = lost or []
        numbers = {name: number for number, name in enumerate(files)}
        self._files, self._tables, self._channels = list(files.values()), tables, in_channels
        self._places = np.array([(numbers[name], index) for name, index in places], np.int32)

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int, /) -> Sample:
        number, position = self._places[index].tolist()
        file = self._files[number]
        shown = around(position, file.shape[0], self._channels)
        block = file.read(shown[0], shown[-1] - shown[0] + 1)
        image = stacked([block[place - shown[0], 0] for place in shown])
        return Sample(image, masks(block[position - shown[0], 1], self._tables))


def around(
    index: int,
    count: int,
    channels: int,
) -> list[int]:
    """The slices that are the channels of slice ``index`` of ``count``: as many on either side, at
    the ends the last one again."""
    reach = channels // 2
    return [min(max(place, 0), count - 1) for place in range(index - reach, index + reach + 1)]


def masks(labels: np.ndarray, tables: np.ndarray) -> np.ndarray:
    """(H, W) label numbers as (H, W, K) in {0, 1}, by the tables of ``label_table``."""
    return stacked([cv2.LUT(labels, table) for table in tables])


def label_table(numbers: Sequence[int]) -> np.ndarray:
    """(256,) uint8: whether a label is one of ``numbers``."""
    return np.isin(np.arange(256), numbers).astype(np.uint8)


def stacked(planes: Sequence[np.ndarray]) -> np.ndarray:
    """(H, W) each as (H, W, C); five times as fast as `numpy.stack`."""
    return cv2.merge(planes).reshape(*planes[0].shape, len(planes))
