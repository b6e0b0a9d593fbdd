"""The one way from pictures to probabilities: of files, frames of a video, slices of a volume, a
data set's split."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lightning_seg.errors import InputError
from lightning_seg.inference.ensemble import Ensemble
from lightning_seg.inference.mask_rule import Size
from lightning_seg.inference.options import PredictOptions
from lightning_seg.inference.workers import Workers

TILES = 4  # windows at once
Probability = NDArray[np.float32]


class FailedInput(NamedTuple):
    """An input of which nothing could be made, and why."""

    path: Path
    reason: str


class Loaded(NamedTuple):
    """A picture on its way through the network.

    Attributes:
        source: its file, for messages.
        key: which picture it is to its sink: an `Input`, a number, a sample.
        size: of the picture (H, W).
        picture: (H, W, C) uint8, kept where the sink needs it.
        seen: what the network sees (h, w, C) uint8; with windows the picture itself.
        portion: a number; pictures of different ones share no batch.
    """

    source: Path
    key: Any
    size: Size
    picture: np.ndarray | None
    seen: np.ndarray
    portion: int = 0


Outcome = tuple[Loaded, Probability] | FailedInput


def loaded(
    source: Path,
    key: Any,
    picture: np.ndarray,
    network: Ensemble,
    options: PredictOptions,
    keep: bool = False,
) -> Loaded:
    """A picture (H, W, C) uint8 scaled for the network; ``keep`` it itself, too."""
    seen = picture if options.tile else network.scale(picture)
    return Loaded(source, key, picture.shape[:2], picture if keep else None, seen)


def predicted(
    items: Iterable[Loaded | FailedInput], workers: Workers, options: PredictOptions
) -> Iterator[Outcome]:
    """Each picture with its probabilities (K, h, w) at the size that the network saw, in order.

    Where a batch fails its pictures are predicted one by one, so that one of them fails alone.
    """
    batches = _batches_by_size(items, workers, options)
    outcomes = workers.map(lambda network, batch: _forward(batch, network, options), batches)
    return itertools.chain.from_iterable(outcomes)


def must_succeed(outcomes: Iterable[Outcome]) -> Iterator[tuple[Loaded, Probability]]:
    """Those of one file, such as its frames: InputError at the first that fails."""
    for outcome in outcomes:
        if isinstance(outcome, FailedInput):
            raise InputError(outcome.reason)
        yield outcome


def _batches_by_size(
    items: Iterable[Loaded | FailedInput], workers: Workers, options: PredictOptions
) -> Iterator[list[Loaded] | list[FailedInput]]:
    """Form batches of the given size, or of one that is found with the first picture."""
    items = iter(items)
    size = 1 if options.tile else options.batch_size
    while size is None:
        item = next(items, None)
        if item is None:
            return
        if isinstance(item, FailedInput):
            yield [item]
        else:
            size = workers.batch_size(item.seen.shape)
            items = itertools.chain([item], items)
    yield from in_batches(items, size)


def in_batches(
    items: Iterable[Loaded | FailedInput], size: int
) -> Iterator[list[Loaded] | list[FailedInput]]:
    """Neighbours of one shape and portion, up to ``size`` of them; each failure by itself."""
    batch: list[Loaded] = []
    for item in items:
        if batch and not _belongs(item, batch[0]):
            yield batch
            batch = []
        if isinstance(item, FailedInput):
            yield [item]
            continue
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _belongs(item: Loaded | FailedInput, first: Loaded) -> bool:
    """Tell whether an item may lie in the batch of ``first``."""
    if isinstance(item, FailedInput):
        return False
    return item.seen.shape == first.seen.shape and item.portion == first.portion


def _forward(
    batch: list[Loaded] | list[FailedInput], network: Ensemble, options: PredictOptions
) -> list[Outcome]:
    good = [item for item in batch if isinstance(item, Loaded)]
    if not good:
        return [item for item in batch if isinstance(item, FailedInput)]
    try:
        found = _picture_probabilities([item.seen for item in good], network, options)
        return list(zip(good, found, strict=True))
    except (RuntimeError, ValueError, MemoryError) as error:
        if len(good) == 1:
            return [_failed(good[0], error)]
    return [outcome for item in good for outcome in _forward([item], network, options)]


def _failed(item: Loaded, error: Exception) -> FailedInput:
    reason = (str(error).splitlines() or ["not enough memory"])[0]
    return FailedInput(item.source, f"{item.source} cannot be predicted: {reason}")


def _picture_probabilities(
    pictures: Sequence[np.ndarray], network: Ensemble, options: PredictOptions
) -> list[Probability]:
    """(K, h, w) of each of several pictures of one shape."""
    if options.tile is None:
        return list(network(np.stack(pictures)))
    windows = options.batch_size or TILES
    overlap = network.trained.crop_overlap if options.overlap is None else options.overlap
    return [network.tiled(one, options.tile, overlap, windows) for one in pictures]
