"""Pictures of any sizes, decoded once, of which windows are read.

On disk one file holds all images, another all masks, a third all regions, each picture behind the
other; a window is read without the rest of its picture. A source that does not name its files has
its pictures in memory.
"""

import json
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lightning_seg.data.cores import usable_cores
from lightning_seg.data.fingerprint import Content, content_of
from lightning_seg.data.sliding import Corner, cut_sample
from lightning_seg.data.sources.base import Sample, Source
from lightning_seg.data.store.cache import Cache
from lightning_seg.data.store.folders import default_folder, kept_on_disk, store_names

_POINTS = 64  # of the foreground that are known of each picture and class
_AT_ONCE = 2  # pictures that are decoded at once
_LARGE = 8 << 20  # bytes of one of them, above which they are decoded one by one
_INDEX, _FOREGROUND = "pictures.json", "foreground.npy"


class FilePart(NamedTuple):
    """An array of uint8 within a file."""

    path: Path
    offset: int
    shape: tuple[int, ...]

    def mapped(self) -> np.ndarray:
        """The array, of which only what is read takes memory, and no longer than it is used."""
        return np.memmap(self.path, np.uint8, "r", self.offset, self.shape)


class Picture:
    """A decoded picture with its masks, and perhaps its region, in memory or in files."""

    def __init__(
        self,
        parts: Sequence[np.ndarray | FilePart | None],
    ) -> None:
        self._parts = list(parts)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        part = self._parts[0]
        assert part is not None
        return part.shape[0], part.shape[1]

    @property
    def sample(self) -> Sample:
        """All of it; what is in files is read where it is touched."""
        return Sample(*(_array(part) for part in self._parts))  # type: ignore[arg-type]

    def window(
        self,
        corner: Corner,
        side: int,
        with_region: bool = False,
    ) -> Sample:
        """The square at a corner; see `cut_sample`."""
        return cut_sample(self.sample, corner, side, with_region)

    def rows(self, first: int, count: int) -> Sample:
        """Some rows in their full width."""
        found = (None if part is None else part[first : first + count] for part in self.sample)
        return Sample(*(None if part is None else np.array(part) for part in found))  # type: ignore[arg-type]


def _array(part: np.ndarray | FilePart | None) -> np.ndarray | None:
    return part.mapped() if isinstance(part, FilePart) else part


class WindowStore:
    """Pictures with what was found as they were decoded.

    Args:
        foreground: (N, K, points, 2) int32: rows and columns of some pixels of each class; -1 where
            it has none.
        contents: what each picture shows.
        overlaps: which pictures have pixels of several classes.
    """

    def __init__(
        self,
        pictures: Sequence[Picture],
        foreground: np.ndarray,
        contents: Sequence[Content],
        overlaps: Sequence[bool],
    ) -> None:
        self.pictures, self.foreground = list(pictures), foreground
        self.contents, self.overlaps = list(contents), list(overlaps)

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int, /) -> Sample:
        return self.pictures[index].sample

    def present(self, index: int) -> np.ndarray:
        """(K,) bool: the classes with counted foreground in a picture."""
        return self.foreground[index, :, 0, 0] >= 0

    @classmethod
    def mapped(cls, folder: Path) -> "WindowStore":
        """The store in a folder; OSError or ValueError where it is damaged."""
        index = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
        pictures, ends = [], dict.fromkeys(Sample._fields, 0)
        for shapes in index["shapes"]:
            parts: list[FilePart | None] = []
            for name in Sample._fields:
                shape = tuple(shapes[name] or ())
                path = _part_file(folder, name)
                parts.append(FilePart(path, ends[name], shape) if shape else None)
                ends[name] += int(np.prod(shape)) if shape else 0
            pictures.append(Picture(parts))
        for name, size in ends.items():
            if size and _part_file(folder, name).stat().st_size != size:
                raise ValueError(f"{name} is of another length")
        contents = [Content(*pair) for pair in index["contents"]]
        return cls(pictures, np.load(folder / _FOREGROUND), contents, index["overlaps"])


def window_store(
    source: Source,
    ids: Sequence[str],
    cache: Cache | None = None,
) -> WindowStore:
    """The pictures ``ids`` of a source at their own sizes.

    Args:
        cache: the folder of files; None keeps the pictures in memory, as do sources that do not
            name their files.

    Errors: InputError for damaged files, and for a folder that cannot be written.
    """
    if cache is None or not hasattr(source, "files"):
        read = [_ReadPicture.of(id, source.read(id)) for id in ids]
        pictures = [Picture(one.sample) for one in read]
        return WindowStore(pictures, *_joined_facts(read))
    parent = cache.folder or default_folder()
    names = store_names(source, ids, "windows", cache.settings)

    def find(folder: Path) -> WindowStore | None:
        try:
            found = WindowStore.mapped(folder)
        except (OSError, EOFError, ValueError, KeyError, TypeError):
            return None
        return found if len(found) == len(ids) else None

    def build(folder: Path) -> None:
        _write_pictures(folder, _decoded(source, ids))

    return kept_on_disk(parent, *names, find, build)


class _ReadPicture(NamedTuple):
    sample: Sample
    content: Content
    foreground: np.ndarray  # (K, points, 2)
    overlaps: bool

    @classmethod
    def of(cls, id: str, sample: Sample) -> "_ReadPicture":
        mask = sample.mask
        # row by row, as a sum over all of a large picture would take much memory
        overlaps = any(row.sum(1).max() > 1 for row in mask)
        return cls(sample, content_of(sample), _foreground_points(id, sample), overlaps)


def _joined_facts(
    read: Sequence[_ReadPicture],
) -> tuple[np.ndarray, list[Content], list[bool]]:
    points = np.stack([one.foreground for one in read])
    return points, [one.content for one in read], [one.overlaps for one in read]


def _decoded(source: Source, ids: Sequence[str]) -> Iterator[_ReadPicture]:
    """The pictures in their order; few are in memory at a time, as one may be large."""
    first = _ReadPicture.of(ids[0], source.read(ids[0]))
    large = first.sample.image.nbytes > _LARGE
    yield first
    # else two would be held while the next one is decoded
    del first
    at_once = 1 if large else min(_AT_ONCE, usable_cores())
    ids = ids[1:]
    with ThreadPoolExecutor(at_once) as pool:
        for start in range(0, len(ids), at_once):
            chunk = ids[start : start + at_once]
            for found in pool.map(lambda id: _ReadPicture.of(id, source.read(id)), chunk):
                yield found
                del found


def _foreground_points(id: str, sample: Sample) -> np.ndarray:
    """(K, points, 2) random pixels of each class, the same for the same id; -1 of an absent one."""
    classes = sample.mask.shape[2]
    found = np.full((classes, _POINTS, 2), -1, np.int32)
    random = np.random.default_rng(zlib.crc32(id.encode()))
    for k in range(classes):
        plane = sample.mask[..., k] > 0
        if sample.region is not None:
            plane &= sample.region > 0
        ends = plane.sum(1).cumsum()
        if ends[-1]:
            ranks = random.integers(ends[-1], size=_POINTS)
            rows = np.searchsorted(ends, ranks, side="right")
            found[k, :, 0] = rows
            starts = ends[rows] - plane[rows].sum(1)
            places = zip(rows, ranks - starts, strict=True)
            columns = [np.flatnonzero(plane[row])[rank] for row, rank in places]
            found[k, :, 1] = columns
    return found


def _part_file(folder: Path, name: str) -> Path:
    return folder / f"{name}s.bin"


def _write_pictures(folder: Path, read: Iterator[_ReadPicture]) -> None:
    facts: list[_ReadPicture] = []
    shapes: list[dict[str, Any]] = []
    nothing = Sample(np.empty(0), np.empty(0))
    files = {name: _part_file(folder, name).open("wb") for name in Sample._fields}
    try:
        for one in read:
            parts = one.sample._asdict()
            shapes.append({name: getattr(part, "shape", None) for name, part in parts.items()})
            for name, part in parts.items():
                if part is not None:
                    files[name].write(np.ascontiguousarray(part).data)
            facts.append(one._replace(sample=nothing))
            del one, parts
    finally:
        for file in files.values():
            file.close()
    points, contents, overlaps = _joined_facts(facts)
    np.save(folder / _FOREGROUND, points)
    index = {"shapes": shapes, "contents": contents, "overlaps": overlaps}
    (folder / _INDEX).write_text(json.dumps(index), encoding="utf-8")
