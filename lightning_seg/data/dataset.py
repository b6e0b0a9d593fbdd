"""Samples of a store, their copies and augmentation, and the order in which training visits
them."""

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, DistributedSampler, default_collate

from lightning_seg.data.augment.corruptions import CorruptingAugmentation
from lightning_seg.data.augment.on_device import DeviceAugmentation
from lightning_seg.data.augment.pipeline import Augmentation, Key
from lightning_seg.data.fingerprint import Content
from lightning_seg.data.mask_shares import MaskShare, mask_share
from lightning_seg.data.sources.base import Sample, Source
from lightning_seg.data.store.cache import Cache, contents_of, store
from lightning_seg.errors import InputError


class SegmentationDataset(Dataset[dict[str, Any]]):
    """The samples ``ids`` of a source, read and resized once, kept as uint8.

    Args:
        ids: of the samples; one that stands there several times is changed differently each time.
        size: (height, width) of every sample; None keeps their own, which must then be the same for
            all.
        augmentation: None leaves every item as it was read; one for the device only draws (``draw``
            in the item).
        copies: each image stands so often in the data set: copy ``c`` of image ``i`` at index ``c *
            len(ids) + i``.
        online: True: each item is changed anew in each epoch, by the key (epoch, copy, id). False:
            copy 0 is the original and the others are changed by the key (copy, id), alike in each
            epoch, as if written to disk.
        cache: see ``cache``; None keeps the samples in memory.
    """

    def __init__(
        self,
        source: Source,
        ids: Sequence[str],
        size: tuple[int, int] | None,
        augmentation: Augmentation | DeviceAugmentation | CorruptingAugmentation | None,
        copies: int = 1,
        online: bool = True,
        cache: Cache | None = None,
    ) -> None:
        if not ids:
            raise InputError("a data set needs at least one id; the list of ids is empty.")
        if copies < 1:
            raise InputError(f"copies is {copies}; give 1 for the images alone, or more.")
        self.ids = list(ids)
        unique = {id: place for place, id in enumerate(dict.fromkeys(ids))}
        self._places = [unique[id] for id in self.ids]
        self._names = _distinct(self.ids)
        self._source, self._unique = source, list(unique)
        self.store: Any = self._open(cache, size)
        self.augmentation, self.copies, self.online = augmentation, copies, online

    def _open(
        self,
        cache: Cache | None,
        size: tuple[int, int] | None,
    ) -> Any:
        """The store of the samples, each once."""
        return store(self._source, self._unique, size, cache)

    def _stored(self, epoch: int, copy: int, index: int) -> Sample:
        """The sample before its augmentation."""
        found: Sample = self.store[self._places[index]]
        return found

    def __len__(self) -> int:
        return len(self.ids) * self.copies

    def __getitem__(
        self,
        key: int | tuple[int, int],
    ) -> dict[str, Any]:
        """The item ``index`` (of epoch 0) or ``(epoch, index)``.

        Returns:
            image (C, H, W) uint8, mask (K, H, W) uint8 in {0, 1}, index: the position in ``ids``,
                id; and region (1, H, W)
            uint8 where the samples have one.
        """
        epoch, item = key if isinstance(key, tuple) else (0, key)
        if not -len(self) <= item < len(self):
            raise IndexError(f"item {item} of {len(self)}")
        copy, index = divmod(item % len(self), len(self.ids))
        sample = stored = self._stored(epoch, copy, index)
        draw: dict[str, Any] = {}
        if isinstance(self.augmentation, DeviceAugmentation):
            draw = {"draw": self.augmentation.draw(stored, self._key(epoch, copy, index))}
        elif self.augmentation is not None and (seed := self._key(epoch, copy, index)) is not None:
            sample = self.augmentation.change(stored, seed)
        parts = zip(Sample._fields, sample, stored, strict=True)
        tensors = {
            name: _tensor(part, kept)
            for name, part, kept in parts
            if part is not None and kept is not None
        }
        return tensors | {"index": index, "id": self.ids[index]} | draw

    @cached_property
    def contents(self) -> dict[str, Content]:
        """The content of each sample, or each scan; known from reading them (see
        ``fingerprint``)."""
        return contents_of(self._source, self._unique, self.store)

    def absent(self, classes: Sequence[str]) -> list[str]:
        """The classes of which no sample has a counted pixel of foreground; reads until it has met
        the others."""
        left = set(range(len(classes)))
        for place in range(len(self.store)):
            mask = _counted(self.store[place])
            left -= {k for k in left if mask[..., k].any()}
            if not left:
                break
        return [name for k, name in enumerate(classes) if k in left]

    def lost(self, classes: Sequence[str]) -> dict[str, int]:
        """The classes whose foreground has no pixel at this size in some samples, or slices of
        scans, and in how many."""
        known = [place for gone in getattr(self.store, "lost", []) for place in gone]
        counts = Counter(known)
        return {classes[place]: counts[place] for place in sorted(counts)}

    def mask_shares(self) -> list[MaskShare]:
        """How far the classes of each sample reach; of stores of whole samples alone."""
        masks = getattr(self.store, "masks", ())
        return [mask_share(mask) for mask in masks]

    def has_foreground(self) -> np.ndarray:
        """(N,) bool: the ids whose sample has counted foreground of any class; reads all of
        them."""
        shown = [bool(_counted(self.store[place]).any()) for place in range(len(self.store))]
        return np.array(shown)[self._places]

    def overlapping(self) -> str:
        """The id of a sample of which some pixels are of several classes; empty where none is."""
        for place, id in enumerate(self._unique):
            mask = self.store[place].mask
            if mask.shape[2] > 1 and (mask.sum(2) > 1).any():
                return id
        return ""

    def _key(
        self,
        epoch: int,
        copy: int,
        index: int,
    ) -> Key | None:
        """The values on which the change of an item depends; None where it stays as it is."""
        if self.online:
            return epoch, copy, self._names[index]
        return (copy, self._names[index]) if copy else None


def _counted(sample: Sample) -> np.ndarray:
    """The masks (H, W, K) where pixels count."""
    if sample.region is None:
        return sample.mask
    return sample.mask * (sample.region[..., None] > 0)


def _tensor(array: np.ndarray, stored: np.ndarray) -> torch.Tensor:
    """(H, W, C) -> (C, H, W), or (H, W) -> (1, H, W), in the same order of the memory, which the
    store does not share."""
    array = array.copy() if np.may_share_memory(array, stored) else array
    return torch.from_numpy(np.atleast_3d(array)).permute(2, 0, 1)


def collate(
    items: list[dict[str, Any]],
) -> dict[str, Any]:
    """The batch of items, as torch's own; images stay channels last, as networks want them, so no
    pixel moves twice."""
    batch = default_collate([item | {"image": item["image"].permute(1, 2, 0)} for item in items])
    return batch | {"image": batch["image"].permute(0, 3, 1, 2)}


def _distinct(ids: Sequence[str]) -> list[str]:
    """``a, b, a`` -> ``a, b, a#1``."""
    seen: Counter[str] = Counter()
    names = []
    for id in ids:
        names.append(f"{id}#{seen[id]}" if seen[id] else id)
        seen[id] += 1
    return names


class EpochSampler(DistributedSampler[tuple[int, int]]):
    """Keys (epoch, index), shuffled by (seed, epoch) alone.

    Rank r of R takes every R-th key, so that the b-th batches of all ranks hold together the same
    samples for any R, as long as the global batch is the same. The epoch travels in the key:
    workers hold no state. Lightning calls ``set_epoch`` and leaves a DistributedSampler in place,
    also in a run on one device.

    Args:
        start: an epoch and how many of its keys this rank has had before the run was resumed within
            it.
        weights: how often each key is visited, in proportion; they are drawn with replacement.
            None: each once.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        num_replicas: int,
        rank: int,
        seed: int,
        drop_last: bool,
        start: tuple[int, int] = (0, 0),
        weights: np.ndarray | None = None,
    ) -> None:
        super().__init__(dataset, num_replicas, rank, shuffle=True, seed=seed, drop_last=drop_last)
        self.start, self.weights = start, weights

    def __iter__(self) -> Iterator[tuple[int, int]]:
        count = len(self.dataset)  # type: ignore[arg-type]
        random = np.random.default_rng([self.seed, self.epoch])
        order = random.permutation(count)
        if self.weights is not None:
            order = random.choice(count, count, p=self.weights / self.weights.sum())
        if self.total_size > count:
            # not drop_last: the first keys stand in for those that the last ranks lack
            order = np.resize(order, self.total_size)
        own = order[self.rank : self.total_size : self.num_replicas]
        epoch, taken = self.start
        own = own[taken if self.epoch == epoch else 0 :]
        return iter([(self.epoch, int(index)) for index in own])
