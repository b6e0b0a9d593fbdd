"""Windows that slide over a picture at its own resolution, and what is found in them as one map.

Windows of one side lie in rows, each overlapping its neighbours; what is found in them is blended
by Gaussians. Maps come in bands from top to bottom, so that memory grows with the width of a
picture and not with its height. A picture smaller than a window lies in the middle of one.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lightning_seg.data.sources.base import Sample

OVERLAP = 0.5  # of neighbouring windows, as a share of their side
_SIGMA = 0.125  # of the Gaussian, as a share of the side
_LEAST = 1e-3  # weight at a corner, against a division by nothing
Corner = tuple[int, int]  # row and column of a window's first pixel; may lie outside the picture
Predict = Callable[[Sequence[Corner]], Tensor]


class Band(NamedTuple):
    """Rows of a map, from the row ``top`` of the picture: (K, rows, W)."""

    top: int
    values: Tensor


def sliding_bands(
    shape: tuple[int, int],
    side: int,
    overlap: float,
    batch: int,
    predict: Predict,
) -> Iterator[Band]:
    """The map of a picture (H, W) in bands, each as soon as no further window touches it.

    Args:
        side: of the windows.
        overlap: of neighbours, as a share of the side.
        batch: windows at once.
        predict: gives (B, K, side, side) of the windows at some corners.
    """
    height, width = shape
    above, before = centred(height, side), centred(width, side)
    rows = window_starts(max(height, side), side, overlap)
    columns = window_starts(max(width, side), side, overlap)
    next_rows = [*rows[1:], rows[-1] + side]
    total = weights = weight = torch.empty(0)
    last = rows[0]
    for place, row in enumerate(rows):
        corners = [(row - above, column - before) for column in columns]
        for start in range(0, len(corners), batch):
            found = predict(corners[start : start + batch]).float()
            if not len(total):
                weight = gaussian_weight(side).to(found.device)
                total = found.new_zeros(found.shape[1], side, max(width, side))
                weights = torch.zeros_like(total[0])
            elif row > last:
                total = _moved(total, row - last)
                weights = _moved(weights, row - last)
            last = row
            for column, one in zip(columns[start : start + batch], found, strict=True):
                total[:, :, column : column + side] += one * weight
                weights[:, column : column + side] += weight
        end = next_rows[place]
        first, stop = max(row, above), min(end, above + height)
        if first < stop:
            kept = slice(first - row, stop - row), slice(before, before + width)
            values = total[(slice(None), *kept)] / weights[kept]
            yield Band(first - above, values)


def _moved(rows: Tensor, by: int) -> Tensor:
    """(..., side, W) without its first rows, with zeros after the last ones."""
    empty = torch.zeros_like(rows[..., :by, :])
    return torch.cat([rows[..., by:, :], empty], -2)


def sliding_map(
    shape: tuple[int, int],
    side: int,
    overlap: float,
    batch: int,
    predict: Predict,
) -> Tensor:
    """All bands together, (K, H, W); arguments as for `sliding_bands`."""
    return torch.cat(
        [band.values for band in sliding_bands(shape, side, overlap, batch, predict)], 1
    )


def window_starts(
    length: int,
    side: int,
    overlap: float,
) -> list[int]:
    """Where windows begin along an axis of ``length`` pixels, the last one at its end."""
    step = max(int(side * (1 - overlap)), 1)
    count = max(-(-(length - side) // step), 0) + 1
    return [min(place * step, length - side) for place in range(count)]


def centred(length: int, side: int) -> int:
    """The pixels before a picture of ``length`` in the middle of a window; 0 where it is larger."""
    return max(side - length, 0) // 2


def gaussian_weight(side: int) -> Tensor:
    """(side, side) highest in the middle."""
    axis = torch.arange(side, dtype=torch.float32) - (side - 1) / 2
    bell = torch.exp(-(axis**2) / (2 * (_SIGMA * side) ** 2))
    return torch.outer(bell, bell).clamp_min(_LEAST)


def cut_window(
    array: np.ndarray,
    corner: Corner,
    side: int,
) -> np.ndarray:
    """A square (side, side, ...) of an array (H, W, ...), whose edge pixels repeat outside it."""
    height, width = array.shape[:2]
    top, left = corner
    bottom, right = top + side, left + side
    rows = slice(max(top, 0), min(bottom, height))
    columns = slice(max(left, 0), min(right, width))
    inside = array[rows, columns]
    outside = [
        (max(-top, 0), max(bottom - height, 0)),
        (max(-left, 0), max(right - width, 0)),
        *[(0, 0)] * (array.ndim - 2),
    ]
    if not any(map(any, outside)):
        return np.array(inside)
    return np.pad(inside, outside, mode="edge")


def cut_sample(
    sample: Sample,
    corner: Corner,
    side: int,
    with_region: bool = False,
) -> Sample:
    """A square of a sample; what lies outside the picture is ignored.

    Args:
        with_region: whether it has a region also where the sample has none.
    """
    image, mask, region = sample
    height, width = image.shape[:2]
    if region is None and with_region:
        region = np.broadcast_to(np.uint8(2), (height, width))
    if region is not None:
        region = cut_window(region, corner, side)
        rows = np.arange(side) + corner[0]
        columns = np.arange(side) + corner[1]
        region[(rows < 0) | (rows >= height)] = 0
        region[:, (columns < 0) | (columns >= width)] = 0
    return Sample(cut_window(image, corner, side), cut_window(mask, corner, side), region)
