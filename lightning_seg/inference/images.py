"""Pictures to masks: decoding and writing in threads beside the network, in batches, on any number of devices."""

import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from lightning_seg.errors import InputError
from lightning_seg.inference.ensemble import Ensemble, find_batch_size
from lightning_seg.inference.inputs import Input, read_picture
from lightning_seg.inference.mask_rule import MaskRule, Size
from lightning_seg.inference.pictures import overlay, write_png
from lightning_seg.inference.prediction import Prediction
from lightning_seg.inference.prefetch import prefetched
from lightning_seg.inference.results import Row, Table
from lightning_seg.inference.workers import Workers

COLUMNS = ("file", "height", "width", "class", "area", "share", "components", "confidence")
READERS = WRITERS = max(2, min(16, os.cpu_count() or 1))
TILES = 4  # windows at once
_AHEAD = 16  # pictures that are decoded, or written, beside the network


@dataclass(frozen=True)
class Options:
    """What is written of each picture besides its masks, and how it reaches the network.

    Attributes:
        tile: side of the windows in which a picture is predicted at its own resolution; None: scaled as in training.
        overlap: of neighbouring windows, as a share of their side.
        batch_size: None: found.
    """

    probabilities: bool = False
    overlays: bool = False
    tile: int | None = None
    overlap: float = 0.5
    batch_size: int | None = None

    def __post_init__(self) -> None:
        for name, value in (("tile", self.tile), ("batch_size", self.batch_size)):
            if value is not None and value < 1:
                raise InputError(f"{name} is {value}; give a whole number from 1.")
        if not 0 <= self.overlap < 1:
            raise InputError(
                f"the overlap is {self.overlap}; give a share of the window from 0, below 1, such as 0.5."
            )


class Failure(NamedTuple):
    """An input of which nothing could be made, and why."""

    path: Path
    reason: str


class _Loaded(NamedTuple):
    input: Input
    size: Size  # of the picture
    picture: np.ndarray | None  # kept where it is needed later
    scaled: np.ndarray  # what the network sees


def predict_images(
    inputs: Sequence[Input],
    workers: Workers,
    rule: MaskRule,
    options: Options,
    folder: Path,
    table: Table,
    tick: Callable[[], None] = lambda: None,
) -> list[Failure]:
    """Write masks, and what ``options`` says, into ``folder``, and the rows of the pictures into ``table``, in their order.

    Args:
        workers: copies of the network.
        tick: called after each picture.

    Returns the pictures that could not be read or predicted. An OSError of writing ends it; what is in the table stays.
    """
    failures, network = [], workers.first
    with ThreadPoolExecutor(READERS) as readers, ThreadPoolExecutor(WRITERS) as writers:
        loaded = _sized(
            prefetched(readers, lambda one: _load(one, network, options), inputs, _AHEAD),
            network,
            options,
        )
        predicted = workers.map(lambda network, batch: _forward(batch, network, options), loaded)
        singles = itertools.chain.from_iterable(predicted)
        for outcome in prefetched(
            writers, lambda one: _finish(one, rule, options, folder), singles, _AHEAD
        ):
            if isinstance(outcome, Failure):
                failures.append(outcome)
            else:
                table.add(outcome)
            tick()
    return failures


def predicted(
    pictures: Iterable[np.ndarray], workers: Workers, options: Options
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pictures (H, W, C) of one size, such as frames and slices, each with its probabilities (K, h, w)."""

    def work(network: Ensemble, batch: list[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
        seen = batch if options.tile else [network.scale(one) for one in batch]
        return list(zip(batch, _probabilities(seen, network, options), strict=True))

    yield from itertools.chain.from_iterable(
        workers.map(work, _of_one_size(pictures, workers.first, options))
    )


def _of_one_size(
    pictures: Iterable[np.ndarray], network: Ensemble, options: Options
) -> Iterator[list[np.ndarray]]:
    pictures, size = iter(pictures), options.batch_size
    for first in pictures:
        if size is None:
            size = 1 if options.tile else find_batch_size(network, network.scale(first).shape)
        yield [first, *itertools.islice(pictures, size - 1)]


def _probabilities(
    pictures: Sequence[np.ndarray], network: Ensemble, options: Options
) -> list[np.ndarray]:
    """(K, h, w) of each of several pictures of one shape."""
    if options.tile is None:
        return list(network(np.stack(pictures)))
    windows = options.batch_size or TILES
    return [network.tiled(one, options.tile, options.overlap, windows) for one in pictures]


def _load(one: Input, network: Ensemble, options: Options) -> _Loaded | Failure:
    try:
        picture = read_picture(one.path, network.trained.in_channels)
    except (InputError, MemoryError) as error:
        return Failure(one.path, str(error) or "not enough memory")
    scaled = picture if options.tile else network.scale(picture)
    return _Loaded(one, picture.shape[:2], picture if options.overlays else None, scaled)


def _sized(
    items: Iterable[_Loaded | Failure], network: Ensemble, options: Options
) -> Iterator[list[_Loaded] | list[Failure]]:
    """In batches of the given size, or of one that is found with the first picture."""
    items = iter(items)
    size = 1 if options.tile else options.batch_size
    while size is None:
        item = next(items, None)
        if item is None:
            return
        if isinstance(item, Failure):
            yield [item]
        else:
            size = find_batch_size(network, item.scaled.shape)
            items = itertools.chain([item], items)
    yield from batches(items, size)


def batches(
    items: Iterable[_Loaded | Failure], size: int
) -> Iterator[list[_Loaded] | list[Failure]]:
    """Neighbours of one shape together, up to ``size`` of them; each failure by itself."""
    batch: list[_Loaded] = []
    for item in items:
        if batch and (isinstance(item, Failure) or item.scaled.shape != batch[0].scaled.shape):
            yield batch
            batch = []
        if isinstance(item, Failure):
            yield [item]
            continue
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _forward(
    batch: list[_Loaded] | list[Failure], network: Ensemble, options: Options
) -> list[tuple[_Loaded, np.ndarray] | Failure]:
    """Each picture with its probabilities (K, h, w); where a batch fails, its pictures one by one."""
    good = [item for item in batch if isinstance(item, _Loaded)]
    if not good:
        return [item for item in batch if isinstance(item, Failure)]
    try:
        found = _probabilities([item.scaled for item in good], network, options)
        return list(zip(good, found, strict=True))
    except (RuntimeError, ValueError, MemoryError) as error:
        if len(good) == 1:
            return [
                Failure(
                    good[0].input.path,
                    f"{good[0].input.path} cannot be predicted: {_first_line(error)}",
                )
            ]
    return [outcome for item in good for outcome in _forward([item], network, options)]


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or ["not enough memory"])[0]


def _finish(
    one: tuple[_Loaded, np.ndarray] | Failure, rule: MaskRule, options: Options, folder: Path
) -> list[Row] | Failure:
    if isinstance(one, Failure):
        return one
    item, probability = one
    try:
        prediction = rule(probability, item.size)
        _write(item, prediction, options, folder)
        return rows(item.input.file, prediction)
    except MemoryError:
        return Failure(
            item.input.path, f"{item.input.path} is too large for the memory at {item.size} pixels"
        )


def rows(file: str, prediction: Prediction) -> list[Row]:
    """The rows of a picture in the table, one for each class."""
    height, width = prediction.mask.shape[1:]
    return [
        {
            "file": file,
            "height": height,
            "width": width,
            **found.columns(),
        }
        for found in prediction.findings()
    ]


def _write(item: _Loaded, prediction: Prediction, options: Options, folder: Path) -> None:
    masks = mask_files(folder, item.input.name, prediction.classes)
    for name, mask, probability in zip(
        prediction.classes, prediction.mask, prediction.probability, strict=True
    ):
        write_png(masks[name], mask.astype(np.uint8) * 255)
        if options.probabilities:
            file = folder / "probabilities" / masks[name].relative_to(folder / "masks")
            write_png(file, np.rint(probability * 65535).astype(np.uint16))
    if item.picture is not None:
        picture = torch.from_numpy(item.picture.transpose(2, 0, 1))
        if prediction.mask.shape[1:] != item.size:  # masks at the network's size
            picture = torch.from_numpy(item.scaled.transpose(2, 0, 1))
        write_png(
            folder / "overlays" / f"{item.input.name}.jpg",
            overlay(picture, torch.from_numpy(prediction.mask)),
        )


def mask_files(folder: Path, name: str, classes: Sequence[str]) -> dict[str, Path]:
    """class -> where its mask lies: ``masks/<name>.png``, or of several classes ``masks/<name>_<class>.png``."""
    return {
        label: folder / "masks" / f"{name}{f'_{label}' if len(classes) > 1 else ''}.png"
        for label in classes
    }
