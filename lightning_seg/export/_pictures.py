"""The pictures on which an export is verified and calibrated: real ones where there are any, never
those of the test split."""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from lightning_seg.data import SegmentationDataModule
from lightning_seg.data.sources.phantom import render_phantom
from lightning_seg.errors import InputError
from lightning_seg.inference.ensemble import Ensemble
from lightning_seg.inference.inputs import find_inputs
from lightning_seg.runs.checkpoints import read_checkpoint
from lightning_seg.tables import count_text

T = TypeVar("T")
CALIBRATE = "--calibrate"
_NAMES = {"val": "validation", "train": "training"}
_NATIVE = 96  # side of images for a network that takes any size


class Pictures(NamedTuple):
    """images: (H, W, C) uint8 each, of their own sizes. origin: in words."""

    images: list[np.ndarray]
    origin: str


def choose_pictures(
    network: Ensemble,
    checkpoint: Path,
    folder: str | None,
    count: int,
    split: str = "val",
    option: str = "--images",
) -> Pictures:
    """Choose up to ``count`` pictures: of ``folder``, else of the split that the checkpoint's data
    have, else phantoms.

    Args:
        split: ``val`` or ``train``.
        option: that gave the folder.

    Errors: InputError for a folder without pictures, or one that cannot be read, and for images of
        the test split in one that
    calibrates.
    """
    if folder is not None:
        found = [one for one in find_inputs(folder, option=option).inputs if one.kind == "image"]
        if not found:
            raise InputError(
                f"{folder!r} holds no picture; give a folder of images such as those the network "
                "is for."
            )
        network.trained.check_pictures()
        chosen = _spread_evenly(found, count)
        images = [network.trained.picture.read_checked(one.path) for one in chosen]
        if option == CALIBRATE:
            _refuse_test_images(_data_of(checkpoint), [one.path for one in chosen], images)
        return Pictures(images, f"{count_text(len(images), 'image')} of {folder}")
    data = _data_of(checkpoint)
    if data is not None:
        with contextlib.suppress(InputError, OSError):  # data that lack images
            images = [data.source.read(id).image for id in _spread_evenly(data.ids(split), count)]
            if images and all(image.shape[2] == network.trained.in_channels for image in images):
                return Pictures(
                    images,
                    f"{count_text(len(images), 'image')} of the {_NAMES[split]} split of "
                    f"{network.trained.dataset}",
                )
    few = min(count, 8)
    return Pictures(
        _phantoms(network, few),
        f"{count_text(few, 'phantom')} (synthetic: the checkpoint's own data are not here)",
    )


def _data_of(checkpoint: Path) -> SegmentationDataModule | None:
    """None where the data are not on this machine."""
    settings = dict(read_checkpoint(checkpoint)["datamodule_hyper_parameters"])
    given = {name: value for name, value in settings.items() if not name.startswith("_")}
    with contextlib.suppress(
        InputError, TypeError, OSError
    ):  # no such data, or settings of another version
        data = SegmentationDataModule(**given)
        data.ids("val")
        return data
    return None


def _refuse_test_images(
    data: SegmentationDataModule | None,
    paths: Sequence[Path],
    images: Sequence[np.ndarray],
) -> None:
    """InputError where one of the pictures is an image of the test split, by name and pixels: a
    renamed one is not found."""
    test = {id.rpartition("/")[2]: id for id in data.ids("test")} if data is not None else {}
    for path, image in zip(paths, images, strict=True):
        id = test.get(path.stem)
        if (
            data is not None
            and id is not None
            and np.array_equal(data.source.read(id).image, image)
        ):
            raise InputError(
                f"{path} is an image of the test split of {data.hparams['dataset']}, on which "
                "nothing is to be tuned; calibrate with "
                "others."
            )


def _phantoms(network: Ensemble, count: int) -> list[np.ndarray]:
    """Somewhat larger than the network's size and not square."""
    side, channels = network.trained.size or _NATIVE, network.trained.in_channels
    kind = "ct" if channels == 1 else "polyp"
    height = max(16, side * 4 // 3)
    images = [
        render_phantom(kind, 42, index, height)[0][:, : height - height // 8]
        for index in range(count)
    ]
    return [image[..., np.arange(channels) % image.shape[2]] for image in images]


def _spread_evenly(items: Sequence[T], count: int) -> list[T]:
    """Choose up to ``count`` of the items, evenly from all."""
    few = min(count, len(items))
    return [items[place * len(items) // few] for place in range(few)]
