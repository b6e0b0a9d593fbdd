"""The pictures on which an export is verified and calibrated: real ones where there are any, never those of the test split."""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from lightning_seg.checkpoint import read_checkpoint
from lightning_seg.data import SegmentationDataModule
from lightning_seg.data.phantom import render
from lightning_seg.errors import InputError
from lightning_seg.inference.inputs import find_inputs, read_picture
from lightning_seg.inference.network import Network

T = TypeVar("T")
_NATIVE = 96  # side of images for a network that takes any size


class Pictures(NamedTuple):
    """images: (H, W, C) uint8 each, of their own sizes. origin: in words."""

    images: list[np.ndarray]
    origin: str


def choose_pictures(network: Network, checkpoint: Path, folder: str | None, count: int) -> Pictures:
    """At most ``count`` pictures: of ``folder``, else of the validation split if its data are here, else phantoms.

    Errors: InputError for a folder without pictures, or one that cannot be read.
    """
    if folder is not None:
        found = [one for one in find_inputs(folder, Path("/dev/null")) if one.kind == "image"]
        if not found:
            raise InputError(f"{folder!r} holds no picture; give a folder of images such as those the network is for.")
        images = [read_picture(one.path, network.trained.in_channels) for one in _spread(found, count)]
        return Pictures(images, f"{len(images)} images of {folder}")
    validation = _validation(network, checkpoint, count)
    return validation or Pictures(_phantoms(network, min(count, 8)), f"{min(count, 8)} phantoms (synthetic)")


def _validation(network: Network, checkpoint: Path, count: int) -> Pictures | None:
    """None where the data are not on this machine."""
    settings = dict(read_checkpoint(checkpoint)["datamodule_hyper_parameters"])
    given = {name: value for name, value in settings.items() if not name.startswith("_")}
    with contextlib.suppress(InputError, TypeError, OSError):  # no such data, or settings of another version
        data = SegmentationDataModule(**given)
        ids = _spread(data.ids("val"), count)
        images = [data.source.read(id).image for id in ids]
        if images and all(image.shape[2] == network.trained.in_channels for image in images):
            return Pictures(images, f"{len(images)} images of the validation split of {network.trained.dataset}")
    return None


def _phantoms(network: Network, count: int) -> list[np.ndarray]:
    """Somewhat larger than the network's size and not square."""
    side, channels = network.trained.size or _NATIVE, network.trained.in_channels
    kind = "ct" if channels == 1 else "polyp"
    height = max(16, side * 4 // 3)
    images = [render(kind, 42, index, height)[0][:, : height - height // 8] for index in range(count)]
    return [image[..., np.arange(channels) % image.shape[2]] for image in images]


def _spread(items: Sequence[T], count: int) -> list[T]:
    """At most ``count`` of the items, evenly from all."""
    step = max(1, len(items) // max(1, count))
    return list(items[::step])[:count]
