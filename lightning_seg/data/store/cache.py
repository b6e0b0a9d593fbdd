"""Samples decoded and resized once: in memory where they fit, else in memory-mapped files that the
next run finds again.

Beside the samples it keeps what each of them shows, a digest of its image and masks as they were
decoded (``contents``), so that it is computed once, when the sample is read for the first time.

A cache on disk is one folder for a data set, its settings and a list of ids. Its name ends with a
digest of all else that the pixels depend on: the state of every file (``file_state``; a hash of the
content would read the files, which the cache is there to avoid), the code that reads and resizes,
the versions of the decoders. When one of them changes, so does the name, and the folder of the old
name is removed once the new one stands. A folder appears by renaming, complete or not at all.
"""

import contextlib
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import cv2
import numpy as np

from lightning_seg.data import reading
from lightning_seg.data.fingerprint import Content, content_of
from lightning_seg.data.sources.base import Sample, Source
from lightning_seg.errors import InputError
from lightning_seg.files.leftovers import part_folder
from lightning_seg.files.locks import locked
from lightning_seg.files.states import file_state

Kept = TypeVar("Kept")
MEMORY_SHARE = 0.25  # of the memory that is available, for all processes of a run together
_DECODERS = ("pillow", "opencv-python-headless", "numpy")
_CONTENTS = "contents.json"
_LOST = "lost.json"
_READING = Path(reading.__file__).parent
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
    samples = _samples(source, ids, size)
    if cache is None or not hasattr(source, "files"):
        return _in_memory(ids, samples)
    if cache.folder is None:
        first = _sized_sample(source.read(ids[0]), size)
        need = len(ids) * sum(part.nbytes for part in first if part is not None)
        if need * cache.processes <= MEMORY_SHARE * available_memory():
            return _in_memory(ids, samples)
    parent, count = cache.folder or default_folder(), len(ids)
    scale = "x".join(map(str, size)) if size else "as-is"
    return kept_on_disk(
        parent,
        *store_names(source, ids, scale, cache.settings),
        lambda folder: _found(folder, count),
        lambda folder: _write_arrays(folder, count, samples),
    )


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


def default_folder() -> Path:
    """``$XDG_CACHE_HOME/lightning_seg``, or in ``~/.cache``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "lightning_seg"


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


class _SizedRead(NamedTuple):
    """A sample at the network's size, and what it showed in its own."""

    sample: Sample
    content: Content
    lost: list[int]  # the channels of its mask whose foreground is gone


def _sized_sample(
    sample: Sample,
    size: tuple[int, int] | None,
) -> Sample:
    return resize_sample(sample, size) if size else sample


def _read_sized(
    source: Source,
    id: str,
    size: tuple[int, int] | None,
) -> _SizedRead:
    sample = source.read(id)
    sized = _sized_sample(sample, size)
    return _SizedRead(sized, content_of(sample), _lost_classes(sample.mask, sized.mask))


def _lost_classes(before: np.ndarray, after: np.ndarray) -> list[int]:
    """The channels that have foreground before the masks (H, W, K) are resized, and none after."""
    if before is after:
        return []
    gone = before.any(axis=(0, 1)) & ~after.any(axis=(0, 1))
    return [int(place) for place in np.flatnonzero(gone)]


def _samples(
    source: Source,
    ids: Sequence[str],
    size: tuple[int, int] | None,
) -> Iterator[_SizedRead]:
    first: Sample | None = None
    # decoding and resizing release the interpreter's lock
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(ids), _AHEAD):
            chunk = ids[start : start + _AHEAD]
            read = pool.map(lambda id: _read_sized(source, id, size), chunk)
            for id, found in zip(chunk, read, strict=True):
                first = first or found.sample
                if _shapes(found.sample) != _shapes(first):
                    raise InputError(
                        f"sample {id!r} has the shape {found.sample.image.shape} and {ids[0]!r} "
                        f"{first.image.shape}; give a size, to which all are scaled."
                    )
                yield found


def _shapes(sample: Sample) -> list[tuple[int, ...] | None]:
    return [None if part is None else part.shape for part in sample]


def _in_memory(ids: Sequence[str], samples: Iterator[_SizedRead]) -> ArrayStore:
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


def store_names(
    source: Any,
    ids: Sequence[str],
    scale: str,
    settings: Mapping[str, Any],
) -> tuple[str, str]:
    """What is cached, and in which state: two parts of the folder's name.

    Args:
        scale: what becomes of the size of the samples.
    """
    kind = type(source)
    files = [path.absolute() for id in ids for path in source.files(id)]
    what = [kind.__name__, settings, scale, list(ids), files]
    states = [file_state(path) for path in files if path.exists()]  # read() names what is missing
    code = [file.read_text(encoding="utf-8") for file in _code_files(kind)]
    state = [
        states,
        code,
        [_installed_version(name) for name in _DECODERS],
    ]
    return f"{kind.__name__}-{scale}-{_state_digest(what)}", _state_digest(state)


def _code_files(kind: type[Any]) -> list[Path]:
    """The files that say how a data set's samples are read and resized."""
    modules = [sys.modules[part.__module__] for part in (*kind.__mro__, resize_sample)]
    # the built-in `object` has no file
    homes = dict.fromkeys(getattr(module, "__file__", None) for module in modules)
    return [*(Path(home) for home in homes if home), *sorted(_READING.glob("*.py"))]


def _installed_version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # another build of the same library, as opencv-python
        return ""


def _state_digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[
        :12
    ]


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


def kept_on_disk(
    parent: Path,
    what: str,
    state: str,
    find: Callable[[Path], Kept | None],
    build: Callable[[Path], None],
) -> Kept:
    """The store in the folder ``what-state``, which one process builds where it is not found.

    Args:
        find: the store in a folder; None where there is none, or a damaged one.
        build: write it into an empty folder.

    Errors: InputError where the folder cannot be written.
    """
    folder = parent / f"{what}-{state}"
    found = find(folder)
    if found is not None:
        return found
    try:
        with lock(parent, what) as alone:
            if (found := find(folder)) is None:  # else another process was faster
                if alone:
                    # of another state, damaged, or left by a process that was killed
                    for old in [*parent.glob(f"{what}-*"), *parent.glob(f".{what}-*")]:
                        shutil.rmtree(old)
                _build_folder(folder, build)
                found = find(folder)
                if found is None:
                    raise OSError(f"{folder} is damaged and cannot be replaced")
    except OSError as error:
        raise InputError(
            f"cannot keep {what} in the cache {parent} ({error.strerror or error}); give data.cache a folder that can be "
            "written and has room, or make data.size smaller."
        ) from error
    return found


@contextlib.contextmanager
def lock(parent: Path, what: str) -> Iterator[bool]:
    """Wait until no other process builds the same; False where the folder allows no lock."""
    with contextlib.suppress(OSError):  # a read-only folder
        parent.mkdir(parents=True, exist_ok=True)
    # without locks renaming alone keeps the cache whole
    with locked(parent / f".{what}.lock") as alone:
        yield alone


def _build_folder(
    folder: Path,
    build: Callable[[Path], None],
) -> None:
    """Write a folder that appears complete or not at all."""
    with part_folder(folder) as scratch:
        content = scratch / "content"
        content.mkdir()
        build(content)
        try:
            content.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise


def _write_arrays(
    content: Path,
    count: int,
    samples: Iterator[_SizedRead],
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
    (content / _CONTENTS).write_text(json.dumps(contents), encoding="utf-8")
    (content / _LOST).write_text(json.dumps(lost), encoding="utf-8")


def resize_sample(sample: Sample, size: tuple[int, int]) -> Sample:
    """The sample at ``size`` (height, width): images by area when shrunk, else bilinear; masks and
    region by the nearest pixel."""
    image, mask, region = sample
    if image.shape[:2] == size:
        return sample
    planes = [_nearest_pixels(plane, size) for plane in mask.transpose(2, 0, 1)]
    kept = None if region is None else _nearest_pixels(region, size)
    return Sample(scale(image, size), np.stack(planes, axis=2), kept)


def scale(
    image: np.ndarray,
    size: tuple[int, int],
) -> np.ndarray:
    """Pixels (H, W, C) at ``size`` (height, width): by area when shrunk, else bilinear."""
    height, width = size
    shrinks = height <= image.shape[0] and width <= image.shape[1]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    if image.shape[2] > 4:  # cv2 takes no more
        return np.concatenate([scale(image[..., :4], size), scale(image[..., 4:], size)], axis=2)
    scaled = cv2.resize(np.ascontiguousarray(image), (width, height), interpolation=how)
    return scaled.reshape(height, width, -1)  # cv2 drops a single channel's axis


def _nearest_pixels(
    plane: np.ndarray,
    size: tuple[int, int],
) -> np.ndarray:
    return cv2.resize(plane, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
