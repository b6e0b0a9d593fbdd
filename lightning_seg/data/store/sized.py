"""A sample at the network's size, and what it showed in its own."""

from typing import NamedTuple

import cv2
import numpy as np

from lightning_seg.data.fingerprint import Content, content_of
from lightning_seg.data.sources.base import Sample, Source


class SizedRead(NamedTuple):
    """A sample at the network's size, and what it showed in its own."""

    sample: Sample
    content: Content
    lost: list[int]  # the channels of its mask whose foreground is gone


def sized_sample(
    sample: Sample,
    size: tuple[int, int] | None,
) -> Sample:
    return resize_sample(sample, size) if size else sample


def read_sized(
    source: Source,
    id: str,
    size: tuple[int, int] | None,
) -> SizedRead:
    sample = source.read(id)
    sized = sized_sample(sample, size)
    return SizedRead(sized, content_of(sample), _lost_classes(sample.mask, sized.mask))


def _lost_classes(before: np.ndarray, after: np.ndarray) -> list[int]:
    """The channels that have foreground before the masks (H, W, K) are resized, and none after."""
    if before is after:
        return []
    gone = before.any(axis=(0, 1)) & ~after.any(axis=(0, 1))
    return [int(place) for place in np.flatnonzero(gone)]


def resize_sample(sample: Sample, size: tuple[int, int]) -> Sample:
    """The sample at ``size`` (height, width): images by area when shrunk, else bilinear; masks and
    region by the nearest pixel."""
    image, mask, region = sample
    if image.shape[:2] == size:
        return sample
    planes = [_nearest_pixels(plane, size) for plane in mask.transpose(2, 0, 1)]
    kept = None if region is None else _nearest_pixels(region, size)
    return Sample(scale(image, size), np.stack(planes, axis=2), kept)


def scale(
    image: np.ndarray,
    size: tuple[int, int],
) -> np.ndarray:
    """Pixels (H, W, C) at ``size`` (height, width): by area when shrunk, else bilinear."""
    height, width = size
    shrinks = height <= image.shape[0] and width <= image.shape[1]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    if image.shape[2] > 4:  # cv2 takes no more
        return np.concatenate([scale(image[..., :4], size), scale(image[..., 4:], size)], axis=2)
    scaled = cv2.resize(np.ascontiguousarray(image), (width, height), interpolation=how)
    return scaled.reshape(height, width, -1)  # cv2 drops a single channel's axis


def _nearest_pixels(
    plane: np.ndarray,
    size: tuple[int, int],
) -> np.ndarray:
    return cv2.resize(plane, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
