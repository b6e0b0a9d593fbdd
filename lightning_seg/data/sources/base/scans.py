"""Data sets of CT scans, whose samples are slices: what LiTS and Synapse share.

Protocols name scans, so that no scan stands in two splits. Each scan is decoded once into a file
(see ``store.slices``).
"""

import contextlib
import hashlib
import itertools
import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import cv2
import numpy as np

from lightning_seg.data.fingerprint import Content
from lightning_seg.data.reading.folders import Aside, walk_files
from lightning_seg.data.sources.base import Sample
from lightning_seg.data.store.folders import default_folder, lock
from lightning_seg.data.store.planes import Planes, Scan, Settings, Size, neighbours
from lightning_seg.data.store.slices import (
    ScanFile,
    SliceStore,
    around,
    label_table,
    masks,
    stacked,
)
from lightning_seg.errors import InputError, unknown
from lightning_seg.files import whole
from lightning_seg.files.states import file_state
from lightning_seg.tables import count_text

FORMAT = 1  # another number where the same files and settings give other pixels
_THREADS = 2  # a decoded scan takes up to 1 GB
Labels = Mapping[str, Sequence[int]]  # class -> its numbers in a segmentation
Slices = str | dict[str, float]
_Value = TypeVar("_Value")


class OfScans(dict[str, _Value]):
    """Scan -> its group or its row; a slice has that of its scan."""

    def __missing__(self, id: str) -> _Value:
        scan, slash, _ = id.rpartition("/")
        if not slash:
            raise KeyError(id)
        return self[scan]

    def get(self, id: str, default: Any = None) -> Any:
        try:
            return self[id]
        except KeyError:
            return default


class ScanSource:
    """The slices of scans; a data set says which files belong together and what their labels mean.

    ``ids`` and protocols name scans; samples are slices, ``<scan>/<slice>``, four digits counted
    from the feet.
    """

    classes: tuple[str, ...]
    in_channels: int = 1
    default_protocol: ClassVar[str]

    def __init__(
        self,
        scans: Mapping[str, Scan],
        labels: Labels,
        settings: Settings,
        slices: Slices,
        aside: Aside | None = None,
        groups: Mapping[str, str] | None = None,
    ) -> None:
        self.left_aside = [] if aside is None else aside.sentences()
        self.classes, self.in_channels = tuple(labels), settings.in_channels
        self.doubts = _header_doubts(scans)
        self._scans, self._labels, self._settings = scans, labels, settings
        self.label_numbers = labels
        self._tables = np.stack([label_table(numbers) for numbers in labels.values()])
        self._slices = _checked_slices(slices, labels)
        self._decoded: tuple[str, Planes] | None = None
        self.ids = sorted(scans)
        for scan in scans.values():
            scan.lattice(settings, None)  # what cannot be padded is found at once
        self.groups: dict[str, str] = OfScans(groups or {scan: scan for scan in self.ids})

    def expand(self, id: str) -> tuple[str, ...]:
        """The slices of a scan, from the feet to the head."""
        count = self._scans[id].lattice(self._settings, None).shape[0]
        return tuple(f"{id}/{index:04d}" for index in range(count))

    def files(self, id: str) -> tuple[Path, ...]:
        """CT and segmentation of a slice or scan."""
        return self._scans[_scan_of(id)].files

    def spacing(
        self,
        scan: str,
        size: Size,
    ) -> tuple[float, float, float]:
        """Distances of slices, rows and columns in mm, of samples at ``size`` (height, width)."""
        return self._scans[scan].lattice(self._settings, size).spacing

    def read(self, id: str) -> Sample:
        """Image (H, W, C) and masks (H, W, K) before they are brought to a size. The last scan stays decoded."""
        scan, index = _scan_of(id), _index(id)
        decoded = self._decoded
        if decoded is None or decoded[0] != scan:
            decoded = self._decoded = (scan, Planes(self._scans[scan], self._settings))
        planes = decoded[1]
        shown = around(index, planes.count, self._settings.in_channels)
        return Sample(
            stacked([planes.image(place) for place in shown]),
            masks(planes.labels(index), self._tables),
        )

    def training_ids(self, ids: Sequence[str]) -> Sequence[str]:
        """The slices that an epoch of training visits, as the option ``slices`` says."""
        if self._slices == "all":
            return ids
        names = list(self._labels if isinstance(self._slices, str) else self._slices)
        numbers = {number for name in names for number in self._labels[name]}
        shown = {scan: self._shown(scan) for scan in dict.fromkeys(_scan_of(id) for id in ids)}
        marked = [bool(numbers & shown[_scan_of(id)][_index(id)]) for id in ids]
        if not any(marked):
            raise InputError(
                f"dataset_options.slices is {self._slices!r}, but none of the {len(ids)} slices to train on shows "
                f"{' or '.join(names)}; give 'all'."
            )
        if isinstance(self._slices, str):
            return list(itertools.compress(ids, marked))
        return oversampled(ids, marked, *self._slices.values())

    def _shown(self, scan: str) -> list[set[int]]:
        """The label numbers in each slice; known from the last time where the segmentation has not
        changed."""
        chosen = self._scans[scan]
        file = default_folder() / "labels" / f"{scan}-{_state(chosen.files[1:])}.json"
        try:
            native = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            native = chosen.shown()
            with contextlib.suppress(OSError):  # then it is found out again next time
                with whole(file) as part:
                    part.write_text(json.dumps(native), encoding="utf-8")
        count = len(self.expand(scan))
        places = (neighbours(index, count, len(native)) for index in range(count))
        return [set(native[low + (share > 0.5)]) for low, share in places]

    def store(
        self,
        ids: Sequence[str],
        size: Size,
        cache: Path | None,
    ) -> "SliceStore":
        """The samples ``ids`` in files below ``cache``, or in the user's cache folder; what is not there yet is decoded."""
        names = list(dict.fromkeys(_scan_of(id) for id in ids))
        shapes = {name: self._scans[name].lattice(self._settings, size).shape for name in names}
        if len({shape[1:] for shape in shapes.values()}) > 1:
            sizes = ", ".join(
                sorted({f"{height} x {width}" for _, height, width in shapes.values()})[:4]
            )
            raise InputError(
                f"the scans differ in size ({sizes}); give data.size, to which all are brought."
            )
        folder = (cache or default_folder()) / self._folder(size)
        files = {
            name: ScanFile(folder / f"{name}-{_state(self._scans[name].files)}.npy", shapes[name])
            for name in names
        }
        missing = [name for name in names if not files[name].complete()]
        if missing:
            print(
                f"decoding {count_text(len(missing), 'scan')} into {folder}, once", file=sys.stderr
            )
            _in_threads(lambda name: self._build(name, size, files[name]), missing)
        return SliceStore(
            files,
            [(_scan_of(id), _index(id)) for id in ids],
            self._tables,
            self._settings.in_channels,
            self._lost(ids, files, size),
        )

    def _lost(
        self,
        ids: Sequence[str],
        files: Mapping[str, ScanFile],
        size: Size,
    ) -> list[list[int]]:
        """Of each of the slices ``ids`` the classes whose foreground has no pixel at ``size``."""
        if size is None and self._settings.spacing is None:
            return []
        names = list(files)
        _in_threads(lambda name: self._shown_in(files[name]), names)
        before = {name: self._shown(name) for name in names}
        after = {name: self._shown_in(files[name]) for name in names}
        classes = [set(numbers) for numbers in self._labels.values()]
        found = []
        for id in ids:
            scan, index = _scan_of(id), _index(id)
            native, left = before[scan][index], set(after[scan][index])
            found.append([k for k, own in enumerate(classes) if own & native and not own & left])
        return found

    def _shown_in(self, file: ScanFile) -> list[list[int]]:
        """The label numbers in each slice of a file of the cache, kept beside it."""
        kept = file.path.with_suffix(".labels.json")
        try:
            found: list[list[int]] = json.loads(kept.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            found = file.shown()
            with contextlib.suppress(OSError), whole(kept) as part:
                part.write_text(json.dumps(found), encoding="utf-8")
        return found

    def contents(self, ids: Sequence[str]) -> dict[str, Content]:
        """What each scan of the slices ``ids`` shows; known since it was decoded, or decoded now."""
        return {scan: self._content(scan) for scan in dict.fromkeys(_scan_of(id) for id in ids)}

    def _content(self, scan: str) -> Content:
        try:
            return Content(*json.loads(self._content_file(scan).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return self._keep_content(scan, Planes(self._scans[scan], self._settings))

    def _content_file(self, scan: str) -> Path:
        return default_folder() / "contents" / f"{scan}-{_state(self._scans[scan].files)}.json"

    def _keep_content(self, scan: str, planes: Planes) -> Content:
        found = planes.content()
        # where it cannot be written, it is found out again next time
        with contextlib.suppress(OSError), whole(self._content_file(scan)) as part:
            part.write_text(json.dumps(found), encoding="utf-8")
        return found

    def _folder(self, size: Size) -> str:
        what = [
            FORMAT,
            self._settings._replace(in_channels=1),
            size,
            cv2.__version__,
        ]  # channels are stacked when read
        scale = "x".join(map(str, size)) if size else "as-is"
        return f"{type(self).__name__}-{scale}-{_settings_digest(what)}"

    def _build(self, scan: str, size: Size, file: ScanFile) -> None:
        target = file.path
        try:
            with lock(target.parent, target.stem) as alone:
                if file.complete():
                    return  # another process was faster
                same = target.stem.rpartition("-")[0]
                for old in (
                    [
                        *target.parent.glob(f"{same}-*.npy"),
                        *target.parent.glob(f"{same}-*.labels.json"),
                        *target.parent.glob(f".{same}-*.npy-*"),
                    ]
                    if alone
                    else []
                ):
                    old.unlink(
                        missing_ok=True
                    )  # of files that have changed since, damaged, or left by a killed process
                planes = Planes(self._scans[scan], self._settings, size)
                file.write(planes)
                self._keep_content(scan, planes)
        except OSError as error:
            raise InputError(
                f"cannot keep {scan} in the cache {target.parent} ({error.strerror or error}); give data.cache a folder that "
                "can be written and has room, or make data.size smaller."
            ) from error


def _header_doubts(scans: Mapping[str, Scan]) -> list[str]:
    """What the headers of scans leave open, in words; of many alike the first."""
    doubtful = [scan.grid for scan in scans.values() if scan.grid.doubts]
    first: dict[str, str] = {}
    for grid in doubtful:
        for doubt in grid.doubts:
            kind = re.sub(r"[\d.]+ mm", "mm", doubt.replace(str(grid.path), ""))
            first.setdefault(kind, doubt)
    found = list(first.values())
    if len(doubtful) > 1:
        found.append(f"{len(doubtful)} of {len(scans)} scans have headers with such doubts")
    return found


def find_scans(
    place: Path,
    ct: str,
    segmentation: str,
    layout: str,
    known: Sequence[int] | None = None,
    aside: Aside | None = None,
) -> dict[int, tuple[Path, Path]]:
    """Number of a scan -> its CT and segmentation, ``<prefix><number>.nii[.gz]`` anywhere below
    ``place``.

    Args:
        ct, segmentation: the two prefixes.
        layout: what the sentence says where there are none.
        known: the only numbers that count; None: all.
        aside: takes the volumes that are no scans of the data set, and segmentations without one.
    """
    aside = Aside() if aside is None else aside
    found: dict[str, dict[int, Path]] = {ct: {}, segmentation: {}}
    volumes = (path for path in walk_files(place) if ".nii" in path.suffixes)
    for path in volumes:
        match = re.fullmatch(rf"({ct}|{segmentation})(\d+)\.nii(\.gz)?", path.name)
        if match is None or (known is not None and int(match[2]) not in known):
            aside.add("volumes that are no scans of the data set", path)
            continue
        other = found[match[1]].setdefault(int(match[2]), path)
        if other != path:
            raise InputError(f"{other} and {path} bear one name; keep one of them.")
    if not found[ct]:
        raise InputError(f"no scans below {place}; {layout}.")
    for number, path in found[ct].items():
        if number not in found[segmentation]:
            name = path.name.replace(ct, segmentation).partition(".")[0]
            raise InputError(f"{path} has no {name}.nii[.gz]; restore it or remove the scan.")
    for number in found[segmentation].keys() - found[ct].keys():
        aside.add("segmentations without a scan", found[segmentation][number])
    return {number: (path, found[segmentation][number]) for number, path in found[ct].items()}


def oversampled(
    ids: Sequence[str],
    marked: Sequence[bool],
    share: float,
) -> list[str]:
    """All ids, the marked ones (one at least) repeated in turn until they are ``share`` of the
    list; none is left out."""
    chosen = list(itertools.compress(ids, marked))
    wanted = round(share / (1 - share) * (len(ids) - len(chosen)))
    return [*ids, *itertools.islice(itertools.cycle(chosen), max(wanted - len(chosen), 0))]


def chosen_labels(classes: Sequence[str], known: Labels) -> Labels:
    """The labels of ``classes``; InputError for one that is not known, or stands twice."""
    for name in classes:
        if name not in known:
            raise unknown("class of the data set", name, known)
    if not classes or len(set(classes)) < len(classes):
        raise InputError(
            f"classes is {list(classes)}; give each of {', '.join(known)} at most once, and one at least."
        )
    return {name: known[name] for name in classes}


def _checked_slices(slices: Slices, labels: Labels) -> Slices:
    if isinstance(slices, str):
        if slices not in ("all", "organ"):
            raise unknown("sampling of slices", slices, ("all", "organ"))
        return slices
    for name in slices:
        if name not in labels:
            raise unknown("class of dataset_options.slices", name, labels)
    if len(slices) != 1 or not all(0 < share < 1 for share in slices.values()):
        raise InputError(
            f"slices is {slices}; give 'all', 'organ', or one class and its share between 0 and 1: {{tumor: 0.5}}."
        )
    return slices


def _scan_of(id: str) -> str:
    """The scan of a slice, or the scan itself."""
    return id.partition("/")[0]


def _index(id: str) -> int:
    return int(id.rpartition("/")[2])


def _in_threads(
    work: Callable[[str], Any],
    names: Sequence[str],
) -> None:
    with ThreadPoolExecutor(_THREADS) as pool:
        try:
            for _ in pool.map(work, names):
                pass
        except BaseException:
            pool.shutdown(
                cancel_futures=True
            )  # else the rest would be decoded before the error is told
            raise


def _state(files: Sequence[Path]) -> str:
    """The files and their state, as ``<digest>-<digest>``."""
    places = [str(path.absolute()) for path in files]
    state = [file_state(path) for path in files]
    return f"{_settings_digest(places)}-{_settings_digest(state)}"


def _settings_digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]
