"""Samples decoded and resized once: in memory where they fit, else in memory-mapped files that the
next run finds again.

Beside the samples it keeps what each of them shows, a digest of its image and masks as they were
decoded (``contents``), so that it is computed once, when the sample is read for the first time.

A cache on disk is one folder for a data set, its settings and a list of ids (see ``folders``). What
another folder of the same data set, settings and size holds already is copied from there in place
of being decoded again, as long as no file of the data set has changed since.
"""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import numpy as np

from lightning_seg.data.fingerprint import Content, content_of
from lightning_seg.data.sources.base import Sample, Source
from lightning_seg.data.store.folders import (
    data_state,
    default_folder,
    kept_on_disk,
    name_start,
    store_names,
)
from lightning_seg.data.store.sized import SizedRead, read_sized, sized_sample
from lightning_seg.errors import InputError

MEMORY_SHARE = 0.25  # of the memory that is available, for all processes of a run together
_CONTENTS = "contents.json"
_LOST = "lost.json"
_SAMPLES = "samples.json"
_AHEAD = 64  # samples that are decoded before they are stored


class Store(Protocol):
    """Samples at the network's size, uint8; readable in forked workers."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Sample: ...


class Cache(NamedTuple):
    """The place where samples are kept, and the settings that, with the files, determine them.

    settings: the arguments of the data set's constructor. folder: of mapped files; None: memory
    where the samples take at most a quarter of what is available, for ``processes`` together, else
    mapped files in ``default_folder()``.
    """

    settings: Mapping[str, Any]
    folder: Path | None = None
    processes: int = 1


class ArrayStore:
    """A store of arrays: images (N, H, W, C), masks (N, H, W, K) and, or None, regions (N, H, W);
    in memory or mapped."""

    def __init__(
        self,
        images: np.ndarray,
        masks: np.ndarray,
        regions: np.ndarray | None = None,
    ) -> None:
        self.images, self.masks, self.regions = images, masks, regions
        self.contents: list[Content] = []  # what each sample shows; not in a copy for a worker
        self.lost: list[list[int]] = []  # the classes of each that its size has no pixel for
        self.folder: Path | None = None

    @classmethod
    def mapped(cls, folder: Path) -> "ArrayStore":
        """The store in the files ``images.npy``, ``masks.npy`` and ``regions.npy``, where it is, of
        a folder."""
        paths = [path for name in Sample._fields if (path := folder / f"{name}s.npy").exists()]
        found = cls(
            *(np.asarray(np.load(path, mmap_mode="r")) for path in paths)
        )  # the plain array is faster to index
        found.folder = folder
        found.contents = _read_contents(folder)
        found.lost = _read_lost(folder)
        return found

    def __reduce__(self) -> tuple[Any, ...]:
        if self.folder:  # a worker that is spawned maps the files anew; pickle would copy them
            return ArrayStore.mapped, (self.folder,)
        return ArrayStore, (self.images, self.masks, self.regions)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int, /) -> Sample:
        return Sample(
            self.images[index],
            self.masks[index],
            None if self.regions is None else self.regions[index],
        )

    def sized_read(self, index: int) -> SizedRead:
        """A sample as it was read, with what it showed."""
        return SizedRead(self[index], self.contents[index], self.lost[index])


def store(
    source: Source,
    ids: Sequence[str],
    size: tuple[int, int] | None,
    cache: Cache | None = None,
) -> Store:
    """The samples ``ids`` of a source, read and resized once; a source with a method ``store``
    supplies its own.

    Args:
        size: (height, width) of every sample; None keeps their own, which must then be the same for
            all.
        cache: None keeps them in memory, whatever they take, as do sources that do not name their
            files (``files``).

    Errors: InputError for damaged files, for shapes that differ where there is no size, for a
    folder that cannot be written.
    """
    if hasattr(source, "store"):
        own: Store = source.store(list(ids), size, cache.folder if cache else None)
        return own
    if cache is None or not hasattr(source, "files"):
        return _in_memory(ids, _samples(source, ids, size))
    if cache.folder is None:
        first = sized_sample(source.read(ids[0]), size)
        need = len(ids) * sum(part.nbytes for part in first if part is not None)
        if need * cache.processes <= MEMORY_SHARE * available_memory():
            return _in_memory(ids, _samples(source, ids, size))
    parent, settings = cache.folder or default_folder(), cache.settings
    scale = "x".join(map(str, size)) if size else "as-is"

    def build(folder: Path) -> None:
        state = data_state(source, scale, settings)
        held = _held(parent, name_start(source, scale), state, ids)
        _write_arrays(folder, len(ids), _samples(source, ids, size, held))
        _write_json(folder / _SAMPLES, {"state": state, "ids": list(ids)})

    names = store_names(source, ids, scale, settings)
    return kept_on_disk(parent, *names, lambda folder: _found(folder, len(ids)), build)


def contents_of(
    source: Source,
    ids: Sequence[str],
    kept: Store,
) -> dict[str, Content]:
    """The content of each of the samples ``ids``, kept with them where the store does so.

    A source with a method ``contents`` says it of larger units, such as scans.
    """
    if hasattr(source, "contents"):
        found: dict[str, Content] = source.contents(ids)
        return found
    known: list[Content] = getattr(kept, "contents", [])
    if len(known) == len(ids):
        return dict(zip(ids, known, strict=True))
    return {id: content_of(source.read(id)) for id in ids}


def contents_of_ids(source: Source, ids: Sequence[str]) -> list[Content]:
    """The contents of samples, or of scans, as read now or, of scans, when they were decoded."""
    if hasattr(source, "contents"):
        return list(source.contents(ids).values())
    return [content_of(source.read(id)) for id in ids]


def available_memory() -> int:
    """Bytes that can be had without swapping, within the limit of a container (cgroup v2)."""
    try:
        lines = dict(
            line.split(":")
            for line in Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        )
        free = int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):  # no Linux
        free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    with contextlib.suppress(OSError, ValueError):  # no such group, or "max"
        group = Path("/sys/fs/cgroup")
        free = min(
            free,
            int((group / "memory.max").read_text(encoding="utf-8"))
            - int((group / "memory.current").read_text(encoding="utf-8")),
        )
    return max(free, 0)


def _samples(
    source: Source,
    ids: Sequence[str],
    size: tuple[int, int] | None,
    held: Mapping[str, "_Place"] = MappingProxyType({}),
) -> Iterator[SizedRead]:
    """The samples in their order, those of other caches from there.

    Args:
        held: id -> its place in another cache.
    """

    def read(id: str) -> SizedRead:
        if id not in held:
            return read_sized(source, id, size)
        place = held[id]
        return place.kept.sized_read(place.row)

    first: Sample | None = None
    # decoding and resizing release the interpreter's lock
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(ids), _AHEAD):
            chunk = ids[start : start + _AHEAD]
            for id, found in zip(chunk, pool.map(read, chunk), strict=True):
                first = first or found.sample
                if _shapes(found.sample) != _shapes(first):
                    raise InputError(
                        f"sample {id!r} has the shape {found.sample.image.shape} and {ids[0]!r} "
                        f"{first.image.shape}; give a size, to which all are scaled."
                    )
                yield found


class _Place(NamedTuple):
    """Where a cache holds a sample."""

    kept: ArrayStore
    row: int


def _held(
    parent: Path,
    start: str,
    state: str,
    ids: Sequence[str],
) -> dict[str, _Place]:
    """Those of the samples ``ids`` that whole caches of the same state hold.

    Args:
        start: of the names of their folders.
        state: as `data_state` gives it.
    """
    held: dict[str, _Place] = {}
    for folder in sorted(parent.glob(f"{start}*")):
        rows = _rows_of_state(folder, state)
        new = [id for id in ids if id in rows and id not in held]
        found = _found(folder, len(rows)) if new else None
        if found is not None:
            held |= {id: _Place(found, rows[id]) for id in new}
    return held


def _rows_of_state(folder: Path, state: str) -> dict[str, int]:
    """id -> its row in a cache; none in one of another state, or of before they were named."""
    try:
        samples = json.loads((folder / _SAMPLES).read_text(encoding="utf-8"))
        rows = {id: row for row, id in enumerate(samples["ids"])}
        return rows if samples["state"] == state else {}
    except (OSError, ValueError, TypeError, KeyError):  # none, or a damaged one
        return {}


def _shapes(sample: Sample) -> list[tuple[int, ...] | None]:
    return [None if part is None else part.shape for part in sample]


def _in_memory(ids: Sequence[str], samples: Iterator[SizedRead]) -> ArrayStore:
    parts: list[np.ndarray] = []
    contents: list[Content] = []
    lost: list[list[int]] = []
    for index, (sample, content, gone) in enumerate(samples):
        given = [part for part in sample if part is not None]
        parts = parts or [np.empty((len(ids), *part.shape), np.uint8) for part in given]
        for part, values in zip(parts, given, strict=True):
            part[index] = values
        contents.append(content)
        lost.append(gone)
    made = ArrayStore(*parts)
    made.contents, made.lost = contents, lost
    return made


def _found(folder: Path, count: int) -> ArrayStore | None:
    """The store in a folder; None where there is none, or a damaged one."""
    try:
        found = ArrayStore.mapped(folder)
    except (
        OSError,
        EOFError,
        TypeError,
        ValueError,
    ):  # missing, of no length, a file too few, shorter than it says
        return None
    whole = len(found) == len(found.contents) == len(found.lost) == count
    return found if whole else None


def _read_contents(folder: Path) -> list[Content]:
    """The contents of the samples of a folder; none in one from before they were kept, which is
    built anew."""
    file = folder / _CONTENTS
    if not file.exists():
        return []
    return [Content(*pair) for pair in json.loads(file.read_text(encoding="utf-8"))]


def _read_lost(folder: Path) -> list[list[int]]:
    file = folder / _LOST
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else []


def _write_arrays(
    content: Path,
    count: int,
    samples: Iterator[SizedRead],
) -> None:
    with contextlib.ExitStack() as stack:
        files: dict[str, Any] = {}
        contents: list[Content] = []
        lost: list[list[int]] = []
        for sample, what, gone in samples:
            contents.append(what)
            lost.append(gone)
            for name, part in zip(Sample._fields, sample, strict=True):
                if part is None:
                    continue
                if name not in files:
                    files[name] = stack.enter_context(open(content / f"{name}s.npy", "wb"))
                    header = {
                        "descr": "|u1",
                        "fortran_order": False,
                        "shape": (count, *part.shape),
                    }
                    np.lib.format.write_array_header_1_0(files[name], header)
                # through a mapping, a full disk would kill us
                files[name].write(np.ascontiguousarray(part))
        for file in files.values():
            file.flush()
            os.fsync(file.fileno())
    _write_json(content / _CONTENTS, contents)
    _write_json(content / _LOST, lost)


def _write_json(file: Path, value: Any) -> None:
    file.write_text(json.dumps(value), encoding="utf-8")
