"""Samples in memory, their copies and augmentation, and the order in which training visits them."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset, DistributedSampler

from lightning_seg.data._source import Sample, Source
from lightning_seg.data.augment import Augmentation
from lightning_seg.errors import InputError


class SegmentationDataset(Dataset[dict[str, Any]]):
    """The samples ``ids`` of a source, read and resized once, kept as uint8.

    Args:
        size: (height, width) of every sample; None keeps their own, which must then be the same for all.
        augmentation: None leaves every item as it was read.
        copies: each image stands so often in the data set: copy ``c`` of image ``i`` at index ``c * len(ids) + i``.
        online: True: each item is changed anew in each epoch, by the key (epoch, copy, id). False: copy 0 is the
            original and the others are changed by the key (copy, id), alike in each epoch, as if written to disk.
    """

    def __init__(
        self,
        source: Source,
        ids: Sequence[str],
        size: tuple[int, int] | None,
        augmentation: Augmentation | None,
        copies: int = 1,
        online: bool = True,
    ) -> None:
        if not ids:
            raise InputError("a data set needs at least one id; the list of ids is empty.")
        if copies < 1:
            raise InputError(f"copies is {copies}; give 1 for the images alone, or more.")
        self.ids = list(ids)
        self.images, self.masks = _load(source, self.ids, size)  # (N, H, W, C), (N, H, W, K)
        self.augmentation, self.copies, self.online = augmentation, copies, online

    def __len__(self) -> int:
        return len(self.ids) * self.copies

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Any]:
        """The item ``index`` (of epoch 0) or ``(epoch, index)``.

        Returns:
            image (C, H, W) uint8, mask (K, H, W) uint8 in {0, 1}, index: the position in ``ids``, id.
        """
        epoch, item = key if isinstance(key, tuple) else (0, key)
        if not -len(self) <= item < len(self):
            raise IndexError(f"item {item} of {len(self)}")
        copy, index = divmod(item % len(self), len(self.ids))
        image, mask, id = self.images[index], self.masks[index], self.ids[index]
        if self.augmentation is not None and (self.online or copy > 0):
            image, mask = self.augmentation(image, mask, (epoch, copy, id) if self.online else (copy, id))
        return {"image": _tensor(image), "mask": _tensor(mask), "index": index, "id": id}


def _tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array.transpose(2, 0, 1).copy())  # (H, W, C) -> (C, H, W); a copy: the store stays as it is


def _load(source: Source, ids: list[str], size: tuple[int, int] | None) -> tuple[np.ndarray, np.ndarray]:
    def sample(id: str) -> Sample:
        return resize(source.read(id), size) if size else source.read(id)

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # decoding and resizing release the interpreter's lock
        samples = pool.map(sample, ids)
        first = next(samples)
        images, masks = (np.empty((len(ids), *part.shape), np.uint8) for part in first)
        images[0], masks[0] = first
        for index, (image, mask) in enumerate(samples, start=1):
            if image.shape != first.image.shape or mask.shape != first.mask.shape:
                raise InputError(
                    f"sample {ids[index]!r} has the shape {image.shape} and {ids[0]!r} {first.image.shape}; "
                    "give a size, to which all are scaled."
                )
            images[index], masks[index] = image, mask
    return images, masks


def resize(sample: Sample, size: tuple[int, int]) -> Sample:
    """The sample at ``size`` (height, width): images by area when shrunk, else bilinear; masks by the nearest pixel."""
    image, mask = sample
    if image.shape[:2] == size:
        return sample
    height, width = size
    shrinks = height <= image.shape[0] and width <= image.shape[1]
    scaled = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    planes = [
        cv2.resize(plane, (width, height), interpolation=cv2.INTER_NEAREST_EXACT) for plane in mask.transpose(2, 0, 1)
    ]
    return Sample(scaled.reshape(height, width, -1), np.stack(planes, axis=2))  # cv2 drops the axis of a single channel


class EpochSampler(DistributedSampler[tuple[int, int]]):
    """Keys (epoch, index), shuffled by (seed, epoch) alone.

    Rank r of R takes every R-th key, so that the b-th batches of all ranks hold together the same samples for any R, as
    long as the global batch is the same. The epoch travels in the key: workers hold no state. Lightning calls
    ``set_epoch`` and leaves a DistributedSampler in place, also in a run on one device.
    """

    def __init__(self, dataset: Dataset[Any], num_replicas: int, rank: int, seed: int, drop_last: bool) -> None:
        super().__init__(dataset, num_replicas, rank, shuffle=True, seed=seed, drop_last=drop_last)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = np.random.default_rng([self.seed, self.epoch]).permutation(len(self.dataset))  # type: ignore[arg-type]
        if self.total_size > len(order):  # not drop_last: the first keys stand in for those that the last ranks lack
            order = np.resize(order, self.total_size)
        return iter([(self.epoch, int(index)) for index in order[self.rank : self.total_size : self.num_replicas]])
