"""What is to be known of each sample: read once, as training would read it, and kept small."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lightning_seg.data.check.views import View, view
from lightning_seg.data.mask_shares import mask_share
from lightning_seg.data.reading.masks import value_counts
from lightning_seg.data.reading.pictures import is_picture, read_grey
from lightning_seg.data.sources.base import Source
from lightning_seg.errors import InputError

SLICES = 5  # of a scan that are looked at


class Facts(NamedTuple):
    """One sample.

    Attributes:
        foreground: each class's share of the pixels.
        rim: share of the picture's outermost pixels that belong to a class.
        values: pixels per grey value of the mask's file, (256,) int64; None where masks are numbers
            of labels, or no pictures of 8 bits.
    """

    id: str
    shape: tuple[int, ...]  # (H, W, C)
    foreground: tuple[float, ...]
    rim: float
    image_hash: str
    mask_hash: str
    values: np.ndarray | None
    view: View


class Damage(NamedTuple):
    """A sample that cannot be read, and the sentence that says why."""

    id: str
    sentence: str


def sample_ids(source: Source) -> list[str]:
    """All samples; of a volume ``SLICES`` slices, evenly spread."""
    if not hasattr(source, "expand"):
        return list(source.ids)
    scans: dict[str, list[str]] = {}
    for id in source.ids:
        for sample in source.expand(id):
            scans.setdefault(source.groups.get(sample, id), []).append(sample)
    return [
        slices[int(place)] for slices in scans.values() for place in _spread_places(len(slices))
    ]


def _spread_places(count: int) -> Sequence[float]:
    return list(dict.fromkeys(np.linspace(0, count - 1, SLICES + 2)[1:-1].astype(int).tolist()))


def gather(
    source: Source,
    ids: Sequence[str],
) -> Iterator[Facts | Damage]:
    """The facts of each sample, in order; a file that cannot be read is a `Damage`, and the rest
    goes on."""
    workers = (
        1 if hasattr(source, "expand") else os.cpu_count()
    )  # a volume stays decoded while its slices are read
    with ThreadPoolExecutor(workers) as pool:
        yield from pool.map(lambda id: _sample_facts(source, id), ids)


def _sample_facts(source: Source, id: str) -> Facts | Damage:
    try:
        sample = source.read(id)
    except InputError as error:
        return Damage(id, str(error))
    hashes = (_array_digest(sample.image), _array_digest(sample.mask))
    return Facts(
        id,
        sample.image.shape,
        *mask_share(sample.mask),
        *hashes,
        _mask_values(source, id),
        view(sample.image),
    )


def _array_digest(array: np.ndarray) -> str:
    return hashlib.sha256(
        repr(array.shape).encode() + np.ascontiguousarray(array).tobytes()
    ).hexdigest()


def _mask_values(source: Any, id: str) -> np.ndarray | None:
    files: tuple[Path, ...] = source.files(id) if hasattr(source, "files") else ()
    labelled = getattr(source, "labelled", False)
    if labelled or len(files) < 2 or not is_picture(files[1].name):
        return None
    try:
        return value_counts(read_grey(files[1])[..., 0])
    except InputError:  # 16 bits, which `read` could make sense of
        return None
