"""Training on random crops of pictures at their own resolution, and pictures whole for windows."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from lightning_seg.data.augment.on_device import DeviceAugmentation
from lightning_seg.data.augment.pipeline import Augmentation
from lightning_seg.data.dataset import SegmentationDataset
from lightning_seg.data.sliding import OVERLAP, Corner, centred
from lightning_seg.data.sources.base import Sample, Source
from lightning_seg.data.store.cache import Cache
from lightning_seg.data.store.windows import Picture, WindowStore, window_store
from lightning_seg.errors import InputError

_STREAM = 17  # the numbers of crops, apart from those of the augmentation


@dataclass(frozen=True)
class Crops:
    """Squares of pictures at their own resolution.

    Attributes:
        side: in pixels.
        foreground: share of the training's crops that hold foreground, if their picture does; its
            class is drawn first, each alike.
        overlap: of neighbouring windows in validation, test and prediction, as a share of the side.
    """

    side: int
    foreground: float = 0.5
    overlap: float = OVERLAP

    def __post_init__(self) -> None:
        if self.side < 16:
            raise InputError(f"data.crop is {self.side}; give a side in pixels from 16.")
        if not 0 <= self.foreground <= 1:
            raise InputError(
                f"data.crop_foreground is {self.foreground}; give a share from 0 to 1, such as 0.5."
            )
        if not 0 <= self.overlap < 1:
            raise InputError(
                f"data.crop_overlap is {self.overlap}; give a share of the window from 0, below "
                "1, such as 0.5."
            )

    def draw(
        self,
        store: WindowStore,
        place: int,
        random: np.random.Generator,
    ) -> Corner:
        """The corner of a random crop of a picture."""
        held, point = random.random() < self.foreground, None
        present = np.flatnonzero(store.present(place))
        if held and len(present):
            points = store.foreground[place, random.choice(present)]
            point = points[random.integers(len(points))]
        sides = store.pictures[place].shape
        held_row, held_column = (None, None) if point is None else point.tolist()
        row = _start(sides[0], self.side, held_row, random)
        return row, _start(sides[1], self.side, held_column, random)


def _start(
    length: int,
    side: int,
    held: int | None,
    random: np.random.Generator,
) -> int:
    """Where a crop begins along an axis; ``held``: a pixel that lies in it."""
    if length <= side:
        return -centred(length, side)
    low, high = 0, length - side
    if held is not None:
        low, high = max(low, held - side + 1), min(high, held)
    return int(random.integers(low, high + 1))


class _PictureData(SegmentationDataset):
    """Pictures of any sizes in a `WindowStore`."""

    store: WindowStore

    def _open(
        self,
        cache: Cache | None,
        size: tuple[int, int] | None,
    ) -> WindowStore:
        return window_store(self._source, self._unique, cache)

    def absent(self, classes: Sequence[str]) -> list[str]:
        present = self.store.foreground[:, :, 0, 0].max(0) >= 0
        return [name for name, found in zip(classes, present, strict=True) if not found]

    def has_foreground(self) -> np.ndarray:
        shown = self.store.foreground[:, :, 0, 0].max(1) >= 0
        return np.asarray(shown[self._places])

    def overlapping(self) -> str:
        place = next((k for k, found in enumerate(self.store.overlaps) if found), None)
        return "" if place is None else self._unique[place]


class CropDataset(_PictureData):
    """Random crops; which one follows from the seed and the key of an item.

    Where a picture is smaller than a crop, all crops have a region, which leaves out what lies
    outside.

    Args:
        seed: of the crops.
        See `SegmentationDataset` for the others.
    """

    def __init__(
        self,
        source: Source,
        ids: Sequence[str],
        crops: Crops,
        seed: int,
        augmentation: Augmentation | DeviceAugmentation | None = None,
        copies: int = 1,
        online: bool = True,
        cache: Cache | None = None,
    ) -> None:
        super().__init__(source, ids, None, augmentation, copies, online, cache)
        self.crops, self.seed = crops, seed
        self._has_small = any(min(one.shape) < crops.side for one in self.store.pictures)

    def _stored(self, epoch: int, copy: int, index: int) -> Sample:
        place, name = self._places[index], self._names[index]
        numbers = [self.seed, _STREAM, epoch if self.online else 0, copy]
        random = np.random.default_rng([*numbers, zlib.crc32(name.encode())])
        corner = self.crops.draw(self.store, place, random)
        picture = self.store.pictures[place]
        return picture.window(corner, self.crops.side, self._has_small)


class WholeDataset(_PictureData):
    """Pictures for a sliding window: an item holds a `Picture`, of which nothing is read yet, unless
    it is changed by an ``augmentation``."""

    def __getitem__(
        self,
        key: int | tuple[int, int],
    ) -> dict[str, Any]:
        index = key[1] if isinstance(key, tuple) else key
        picture = self.store.pictures[self._places[index]]
        if self.augmentation is not None:
            assert not isinstance(self.augmentation, DeviceAugmentation)
            changed = self.augmentation.change(picture.sample, (0, 0, self._names[index]))
            picture = Picture(changed)
        return {"picture": picture, "index": index, "id": self.ids[index]}


def collate_pictures(
    items: list[dict[str, Any]],
) -> dict[str, Any]:
    """The batch of whole pictures, which may differ in size: ``picture`` is a list of `Picture`."""
    return {
        "picture": [item["picture"] for item in items],
        "index": torch.tensor([item["index"] for item in items]),
        "id": [item["id"] for item in items],
    }


def windows_batch(
    picture: Picture,
    corners: Sequence[Corner],
    side: int,
    device: torch.device | str = "cpu",
) -> dict[str, torch.Tensor]:
    """The windows of a picture as a batch: image, mask and, where pixels are ignored, region."""
    small = min(picture.shape) < side
    cut = [picture.window(corner, side, small) for corner in corners]
    batch = {
        "image": np.stack([one.image for one in cut]).transpose(0, 3, 1, 2),
        "mask": np.stack([one.mask for one in cut]).transpose(0, 3, 1, 2),
    }
    if cut[0].region is not None:
        batch["region"] = np.stack([one.region for one in cut])[:, None]  # type: ignore[misc]
    return {name: torch.from_numpy(values).to(device) for name, values in batch.items()}
