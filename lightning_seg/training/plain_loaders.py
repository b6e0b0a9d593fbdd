"""Anybody's DataLoaders under a `SegmentationModule`: what a batch must be, and what stands in for
a data module."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import torch

from lightning_seg.errors import InputError

CONTRACT = (
    'a batch is {"image": (B, C, H, W) uint8, or float in [0, 1]; "mask": (B, K, H, W) of 0 and 1}'
)


class PlainLoaders:
    """What a `SegmentationModule` asks of its data where a trainer has DataLoaders alone.

    No protocol, no groups and no fingerprints: images are known by their place in the loader.

    Args:
        trainer: Lightning's, of one process.
        in_channels: of the network.
    """

    crops = None
    source = SimpleNamespace(groups={})

    def __init__(self, trainer: Any, in_channels: int) -> None:
        self.trainer = trainer
        self.channels = {1: "grey", 3: "RGB"}.get(in_channels, "")

    def ids(self, split: str) -> tuple[str, ...]:
        """``0``, ``1``, ... for the images of the ``val`` or ``test`` loader."""
        loaders = self.trainer.val_dataloaders if split == "val" else self.trainer.test_dataloaders
        return tuple(map(str, range(len(loaders.dataset))))


def check_batch(batch: Any, classes: int, in_channels: int) -> None:
    """InputError, in one sentence, for a batch that is not as `CONTRACT` says."""
    problem = _problem(batch, classes, in_channels)
    if problem:
        raise InputError(f"the DataLoader's batch {problem}; {CONTRACT}.")


def _problem(batch: Any, classes: int, in_channels: int) -> str:
    """What is wrong with a batch, in words; empty where nothing is."""
    if not isinstance(batch, Mapping):
        return f"is a {type(batch).__name__}"
    lacking = [key for key in ("image", "mask") if key not in batch]
    if lacking:
        return f"has the keys {sorted(map(str, batch))} and no {' and no '.join(lacking)}"
    image, mask = batch["image"], batch["mask"]
    for name, value, channels in (("image", image, in_channels), ("mask", mask, classes)):
        if not isinstance(value, torch.Tensor):
            return f"holds a {type(value).__name__} as {name}"
        if value.ndim != 4 or value.shape[1] != channels:
            return f"holds {name} of shape {tuple(value.shape)}, where {channels} channels are due"
    if image.shape[0] != mask.shape[0] or image.shape[2:] != mask.shape[2:]:
        return f"holds image of {tuple(image.shape)} but mask of {tuple(mask.shape)}"
    return _value_problem(image, mask)


def _value_problem(image: torch.Tensor, mask: torch.Tensor) -> str:
    if image.dtype != torch.uint8 and not image.is_floating_point():
        return f"holds image of {image.dtype}"
    low, high = float(image.min()), float(image.max())
    if image.is_floating_point() and not (low >= 0 and high <= 1):
        return f"holds image with values from {low:g} to {high:g}"
    odd = mask[(mask != 0) & (mask != 1)]
    return f"holds mask with the value {float(odd[0]):g}" if len(odd) else ""
