"""What does not fit in memory or must not be waited for at once: features in a file, work in
order."""

import os
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from functools import lru_cache
from itertools import islice
from typing import TypeVar, overload

import numpy as np

from lightning_seg.data.check.registration import Features, rooted

_KEPT = 1024  # pictures of which features are held in memory, 200 KB each
_AHEAD = 64  # pieces of work that wait for the one before them
Item = TypeVar("Item")
Result = TypeVar("Result")


class FeatureShelf(Sequence[Features]):
    """The features of many pictures, in a file that ends with it: 50 KB of each picture.

    They come out `rooted`; those asked for last are kept so.
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115, closed by `__exit__`
        self._places: list[tuple[int, int]] = []  # offset and number of a picture's features
        self._end = 0
        self._rooted = lru_cache(_KEPT)(self._read)

    def append(self, found: Features) -> None:
        """Keep the features of one more picture."""
        content = found.points.astype(np.float32).tobytes() + found.descriptors.tobytes()
        os.pwrite(self._file.fileno(), content, self._end)
        self._places.append((self._end, len(found.points)))
        self._end += len(content)

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> Features: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Features]: ...
    def __getitem__(self, index: int | slice) -> Features | Sequence[Features]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        return self._rooted(index)

    def _read(self, index: int) -> Features:
        offset, count = self._places[index]
        content = os.pread(self._file.fileno(), count * 136, offset)
        points = np.frombuffer(content, np.float32, count * 2).reshape(count, 2)
        descriptors = np.frombuffer(content, np.uint8, offset=count * 8).reshape(-1, 128)
        return rooted(Features(points, descriptors))

    def __enter__(self) -> "FeatureShelf":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def in_order(
    pool: Executor, work: Callable[[Item], Result], items: Iterable[Item]
) -> Iterator[Result]:
    """``work`` of each item, in order, a few ahead of the one that is asked for."""
    rest = iter(items)
    waiting: deque[Future[Result]] = deque(pool.submit(work, one) for one in islice(rest, _AHEAD))
    while waiting:
        result = waiting.popleft().result()
        waiting.extend(pool.submit(work, one) for one in islice(rest, 1))
        yield result
