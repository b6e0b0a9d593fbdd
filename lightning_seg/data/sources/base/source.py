"""What a data set offers to the rest of the package."""

from typing import NamedTuple, Protocol

import numpy as np


class Sample(NamedTuple):
    """One image (H, W, C) uint8, its masks (H, W, K) uint8 in {0, 1} and, where one is known, its
    region of interest.

    region: (H, W) uint8, or None: 0 ignored, 1 counted but outside the field of view, 2 inside it.
    """

    image: np.ndarray
    mask: np.ndarray
    region: np.ndarray | None = None


class Source(Protocol):
    """A data set: which samples there are, which of them belong together, and how one is read.

    ``classes``, ``in_channels`` and ``default_protocol`` are class attributes: they are known
    without opening any file. An argument ``classes`` or ``in_channels`` of the constructor takes
    their place. Where no file of ids can be shipped, a class names its own rules, ``rules``, or a
    source assigns its ids, ``assigned`` (see ``rules``).

    A source may have more, each of which has its default:

    * ``files(id) -> tuple[Path, ...]``: what ``read(id)`` opens; with it, samples can be kept in a
      cache on disk.
    * ``regions``: True where its samples have regions (default: False).
    * ``expand(id) -> tuple[str, ...]``: the samples of an id of the protocol, the slices of a scan;
      ``read`` takes those.
    * ``store(ids, size, cache) -> Store``: its own store of the samples ``ids`` (see ``cache``).
    * ``doubts -> Sequence[str]``: what the headers of its scans, or its table, leave open, in words.
    * ``left_aside -> Sequence[str]``: what of its folders it does not use, in words.
    * ``contents(ids) -> dict[str, Content]``: what these samples show, by larger units (see
      ``fingerprint``).
    * ``columns -> dict[str, dict[str, str]]``: id -> further columns of its row in a table.
    * ``spacing(scan, size) -> tuple[float, ...]``: mm between slices, rows and columns at a size;
      with it scans are scored whole.
    * ``training_ids(ids) -> Sequence[str]``: which of the training samples an epoch visits, and how
      often each.
    """

    classes: tuple[str, ...]
    in_channels: int
    default_protocol: str
    ids: list[str]  # sorted
    groups: dict[
        str, str
    ]  # id -> patient, sequence or near-duplicate group; the id itself where none is known

    def read(self, id: str) -> Sample: ...
