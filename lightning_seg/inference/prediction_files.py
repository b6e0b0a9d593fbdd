"""Predictions of any tool as files: which file is of which image, and what its values mean.

Masks and label maps are pictures, NumPy arrays or NIfTI volumes; probabilities are NumPy arrays,
or pictures where that is said. Nothing in a file is executed.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lightning_seg.data.reading.folders import Aside, walk_files
from lightning_seg.data.reading.masks import read_labels
from lightning_seg.data.reading.pictures import IMAGE_SUFFIXES
from lightning_seg.data.reading.volumes import read_grid, read_labels_volume, to_canonical
from lightning_seg.errors import InputError
from lightning_seg.files.alike_names import folded_name
from lightning_seg.tables import count_text

Values = Literal["auto", "probability", "logit"]
Maps = NDArray[np.float32]
Numbers = Mapping[str, Sequence[int]]
ID, CLASS = "{id}", "{class}"
_ARRAYS, _VOLUMES = (".npy", ".npz"), (".nii.gz", ".nii")
SUFFIXES = (*_VOLUMES, *_ARRAYS, *sorted(IMAGE_SUFFIXES))
_SAMPLE = 100  # ids from which patterns of names are learnt
_SHOWN = 5
# what nnU-Net calls the array of its archives
_ARCHIVE_KEYS = ("probabilities", "softmax")


@dataclass(frozen=True)
class Predicted:
    """The prediction of a tool for one image.

    Attributes:
        maps: (K, H, W) in [0, 1]; (K, slices, H, W) of a scan.
        graded: whether these are probabilities; masks are 0 and 1.
        exclusive: whether they are of a softmax with the background: the most probable class is
            meant.
        mark: the number that marks the one class of a mask; 0 where there is none.
    """

    maps: Maps
    graded: bool
    exclusive: bool = False
    mark: int = 0


@dataclass(frozen=True)
class PredictionFiles:
    """The files below a folder that hold the predictions of named images.

    Attributes:
        files: id -> one file, or one for each class.
        numbers: class -> the numbers of a label map that belong to it.
        values: what grey values and numbers with a point mean.
        aside: what is left aside, and why.
        missing: ids without a prediction.
    """

    files: Mapping[str, Sequence[Path]]
    numbers: Numbers
    values: Values = "auto"
    aside: Aside = field(default_factory=Aside)
    missing: tuple[str, ...] = ()
    _first_mark: list[Any] = field(default_factory=list)  # a file and its number, once known

    @classmethod
    def find(
        cls,
        root: Path,
        ids: Sequence[str],
        numbers: Numbers,
        pattern: str = "",
        values: Values = "auto",
    ) -> "PredictionFiles":
        """Pair the files below a folder with ids.

        Args:
            pattern: of their paths below ``root``, such as ``{id}_mask.png`` or
                ``{class}/{id}.npy``; empty: learnt from the names.

        Errors: InputError where no file, or more than one, may be meant.
        """
        if not root.is_dir():
            raise InputError(f"there is no folder {str(root)!r}; give that of the predictions.")
        paths = {file.relative_to(root).as_posix(): file for file in walk_files(root)}
        known = {name: file for name, file in paths.items() if name.lower().endswith(SUFFIXES)}
        if not known:
            endings = ", ".join(("PNG and other pictures", *_ARRAYS, *_VOLUMES))
            raise InputError(
                f"{str(root)!r} holds no predictions; there may be {endings}, {len(paths)} other "
                "files are there."
            )
        classes = list(numbers)
        patterns = _given(pattern, classes) if pattern else _learnt(known, ids, classes, root)
        files, missing = {}, []
        for id in ids:
            found = [known.get(one.replace(ID, id)) for one in patterns]
            if None in found:
                _refuse_alike(id, patterns, known, root)
                missing.append(id)
            else:
                files[id] = [file for file in found if file is not None]
        if not files:
            raise InputError(
                f"no file below {str(root)!r} is named as {' and '.join(patterns)}, with one of "
                f"the ids {_few(ids)}; give --pattern, such as '{{id}}_mask.png'."
            )
        used = {file for each in files.values() for file in each}
        aside = Aside()
        for name, file in paths.items():
            if file not in used:
                reason = "of no image of the split" if name in known else "no predictions"
                aside.add(f"files that are {reason}", file)
        return cls(files, numbers, values, aside, tuple(missing))

    @property
    def may_be_graded(self) -> bool:
        """Tell whether any file may hold probabilities, by its kind alone."""
        arrays = any(
            file.name.lower().endswith(_ARRAYS) for each in self.files.values() for file in each
        )
        return arrays or self.values != "auto"

    def read(self, id: str) -> Predicted:
        """The prediction of an image that has one; InputError for a file that holds none."""
        files = self.files[id]
        if len(files) == 1:
            found = _read_all(files[0], self.numbers, self.values)
            self._check_mark(files[0], found.mark)
            return found
        each = self.numbers.items()
        parts = [
            _read_all(file, {name: own}, self.values)
            for file, (name, own) in zip(files, each, strict=True)
        ]
        shapes = {part.maps.shape for part in parts}
        if len(shapes) > 1:
            raise InputError(
                f"the classes of {id} have maps of different sizes ({files[0]} and others); "
                "write them at one size."
            )
        maps = np.concatenate([part.maps for part in parts])
        return Predicted(maps, any(part.graded for part in parts))

    def _check_mark(self, file: Path, mark: int) -> None:
        """InputError for a mask whose class has another number than in an earlier one."""
        first, usual = self._first_mark or (file, mark)
        if not mark:
            return
        if not self._first_mark:
            self._first_mark.extend((file, mark))
        if mark != usual:
            raise InputError(
                f"{file} marks its class by {mark}, and {first} by {usual}: whether these are one "
                "class is not known; write the masks with one number, or score the classes by name."
            )


@dataclass(frozen=True)
class SliceFiles:
    """The predictions of scans as one volume each, read slice by slice.

    Attributes:
        volumes: of the scans.
        scans: scan -> its slices in order.
    """

    volumes: PredictionFiles
    scans: Mapping[str, Sequence[str]]

    @property
    def aside(self) -> Aside:
        """What is left aside, and why."""
        return self.volumes.aside

    @property
    def may_be_graded(self) -> bool:
        """Tell whether any file may hold probabilities, by its kind alone."""
        return self.volumes.may_be_graded

    @cached_property
    def missing(self) -> tuple[str, ...]:
        """Slices of scans without a prediction."""
        return tuple(id for scan in self.volumes.missing for id in self.scans[scan])

    @cached_property
    def files(self) -> dict[str, tuple[str, int]]:
        """Slice -> its scan, and its place there."""
        return {
            id: (scan, place)
            for scan in self.volumes.files
            for place, id in enumerate(self.scans[scan])
        }

    def read(self, id: str) -> Predicted:
        """The prediction of a slice; InputError where its volume has other slices than the scan."""
        scan, place = self.files[id]
        return replace(self._volume(scan), maps=self._volume(scan).maps[:, place])

    def _volume(self, scan: str) -> Predicted:
        # slices are read one after the other, so one volume is kept
        kept: dict[str, Predicted] = self.__dict__.setdefault("_kept", {})
        if scan not in kept:
            kept.clear()
            kept[scan] = self.volumes.read(scan)
            shape, expected = kept[scan].maps.shape, len(self.scans[scan])
            if len(shape) != 4 or shape[1] != expected:
                raise InputError(
                    f"{self.volumes.files[scan][0]} is no volume of the {expected} slices of "
                    f"{scan} (its shape is {shape[1:]}); write each scan as it was given."
                )
        return kept[scan]


def is_volume(name: str) -> bool:
    """Tell whether a file's name ends as that of a NIfTI volume."""
    return name.lower().endswith(_VOLUMES)


def _refuse_alike(id: str, patterns: Sequence[str], known: Mapping[str, Path], root: Path) -> None:
    """InputError for an id without a file where one has nearly its name: it may be of this id."""
    wanted = {folded_name(one.replace(ID, id)): one.replace(ID, id) for one in patterns}
    for name in known:
        expected = wanted.get(folded_name(name), name)
        if expected != name:
            raise InputError(
                f"{root} holds {name!r} and no {expected!r} for the image {id!r}, which differ by "
                "capitals or spaces alone; name predictions as the images are."
            )


def _given(pattern: str, classes: Sequence[str]) -> list[str]:
    if ID not in pattern:
        raise InputError(f"the pattern {pattern!r} lacks {ID}; give one such as '{ID}_mask.png'.")
    return [pattern.replace(CLASS, name) for name in classes] if CLASS in pattern else [pattern]


def _learnt(
    files: Mapping[str, Path], ids: Sequence[str], classes: Sequence[str], root: Path
) -> list[str]:
    """The pattern under which most ids have a file, or one pattern for each class."""
    sample = ids[:: max(1, len(ids) // _SAMPLE)]
    tried = Counter(name.replace(id, ID) for id in sample for name in files if id in name)
    counts = {
        pattern: sum(pattern.replace(ID, id) in files for id in ids)
        for pattern, _ in tried.most_common(50)
    }
    if not counts:
        raise InputError(
            f"no name below {str(root)!r} holds one of the ids {_few(ids)}; give predictions of "
            "this data set, named by its ids."
        )
    if len(classes) > 1:
        by_class = [_best({p: n for p, n in counts.items() if name in p}) for name in classes]
        if all(by_class) and len(set(map(tuple, by_class))) == len(classes):
            return [_single(found, root) for found in by_class]
    return [_single(_best(counts), root)]


def _best(counts: Mapping[str, int]) -> list[str]:
    most = max(counts.values(), default=0)
    return [pattern for pattern, count in counts.items() if count == most > 0]


def _single(patterns: Sequence[str], root: Path) -> str:
    if len(patterns) > 1:
        raise InputError(
            f"below {str(root)!r} the images have several files each: {', '.join(patterns)}; say "
            f"which are meant, as in --pattern '{patterns[0]}'."
        )
    return patterns[0]


def _few(names: Sequence[str]) -> str:
    more = ", ..." if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def usual_numbers(classes: Sequence[str]) -> Numbers:
    """1, 2, ... in the order of the classes."""
    return {name: (number,) for number, name in enumerate(classes, 1)}


def _read_all(file: Path, numbers: Numbers, values: Values) -> Predicted:
    """The maps of all classes in one file."""
    name = file.name.lower()
    if name.endswith(_ARRAYS):
        planes = _channels_first(_read_array(file), len(numbers), file)
        if len(planes) > len(numbers) and planes.dtype.kind == "f":
            return _of_softmax(planes, values, file)
        array = planes[len(planes) - len(numbers) :]
    elif name.endswith(_VOLUMES):
        array = _read_scan(file)[None]
    else:
        array = read_labels(file)[None]
    if len(array) == 1 and len(numbers) > 1:
        return Predicted(_of_labels(array[0], numbers, file), graded=False)
    if values == "logit" and array.dtype.kind == "f":
        return Predicted(_sigmoid(array, file), graded=True)
    if values == "probability" and array.dtype.kind in "iu":
        return Predicted(_scaled(array, file), graded=True)
    return _masks_or_probabilities(array, file)


def _read_scan(file: Path) -> NDArray[Any]:
    """A segmentation (slices, rows, columns), turned as the data sets' scans are."""
    return to_canonical(read_labels_volume(file), read_grid(file).affine)


def _read_array(file: Path) -> NDArray[Any]:
    try:
        content = np.load(file, allow_pickle=False)
        if isinstance(content, np.ndarray):
            return content
        with content:
            names = content.files
            key = next((key for key in _ARCHIVE_KEYS if key in names), names[0] if names else "")
            if len(names) > 1 and key not in _ARCHIVE_KEYS:
                raise InputError(
                    f"{file} holds {count_text(len(names), 'array')} ({_few(names)}); write one, "
                    f"or call it {_ARCHIVE_KEYS[0]!r}."
                )
            return np.asarray(content[key])
    except (OSError, ValueError, EOFError, KeyError) as error:
        raise InputError(
            f"{file} is no array of numbers ({error}); write it by numpy.save or numpy.savez."
        ) from error


def _channels_first(array: NDArray[Any], classes: int, file: Path) -> NDArray[Any]:
    """(K, H, W), (1, H, W) or, with the background, (K + 1, H, W) of any usual order of the
    axes."""
    array = np.asarray(array).squeeze()
    fits = (classes, classes + 1)
    if array.ndim == 2:
        return array[None]
    if array.ndim == 3 and array.shape[0] not in fits and array.shape[-1] in fits:
        array = np.moveaxis(array, -1, 0)
    if array.ndim != 3 or array.shape[0] not in fits:
        raise InputError(
            f"{file} has the shape {array.shape}; give (H, W), or such a plane for each of "
            f"{count_text(classes, 'class', 'classes')}, with or without the background before "
            "them."
        )
    return array


def _of_softmax(planes: NDArray[Any], values: Values, file: Path) -> Predicted:
    """The classes behind the background, which the softmax gave its share."""
    if values == "logit":
        _check_finite(planes, file)
        logits = planes.astype(np.float64)
        powers = np.exp(logits - logits.max(axis=0))
        planes = (powers / powers.sum(axis=0)).astype(np.float32)
    found = _masks_or_probabilities(planes[1:], file)
    return replace(found, exclusive=bool(np.allclose(planes.sum(axis=0), 1, atol=0.01)))


def _of_labels(labels: NDArray[Any], numbers: Numbers, file: Path) -> Maps:
    """One mask for each class of a label map, in which 0 is background."""
    known = {0, *(number for own in numbers.values() for number in own)}
    found = np.unique(labels)
    if labels.dtype.kind == "f" or not known.issuperset(found.tolist()):
        names = ", ".join(f"{' and '.join(map(str, own))} {name}" for name, own in numbers.items())
        raise InputError(
            f"{file} holds the values {_few(list(map(str, found)))}; a label map of these classes "
            f"holds 0 and {names}."
        )
    masks = [np.isin(labels, list(own)) for own in numbers.values()]
    return np.stack(masks).astype(np.float32)


def _sigmoid(logits: NDArray[Any], file: Path) -> Maps:
    _check_finite(logits, file)
    with np.errstate(over="ignore"):
        return (1 / (1 + np.exp(-logits.astype(np.float64)))).astype(np.float32)


def _check_finite(array: NDArray[Any], file: Path) -> None:
    if not np.isfinite(array).all():
        raise InputError(f"{file} holds NaN or infinity, which is no prediction; predict again.")


def _scaled(array: NDArray[Any], file: Path) -> Maps:
    """Grey values of 8 or 16 bits as probabilities."""
    full = 65535 if array.max() > 255 else 255
    if array.min() < 0 or array.max() > full:
        raise InputError(f"{file} holds values beyond 16 bits, which are no probabilities.")
    return (array / full).astype(np.float32)


def _masks_or_probabilities(array: NDArray[Any], file: Path) -> Predicted:
    if array.dtype.kind == "f":
        _check_finite(array, file)
        low, high = array.min(), array.max()
        if low < 0 or high > 1:
            raise InputError(
                f"{file} holds values from {low:g} to {high:g}; probabilities lie between 0 and 1, "
                "and logits need --values logit."
            )
        graded = bool(((array != 0) & (array != 1)).any())
        return Predicted(array.astype(np.float32), graded)
    found = np.unique(array)
    if len(found) > 2 or (len(found) == 2 and found[0] != 0) or found[0] not in (0, 1, 255, 65535):
        raise InputError(
            f"{file} holds {count_text(len(found), 'value')} ({_few(list(map(str, found)))}); a "
            "mask holds 0 and another, and grey values that are probabilities need --values "
            "probability."
        )
    mark = int(found[-1]) if len(array) == 1 else 0
    return Predicted((array != 0).astype(np.float32), graded=False, mark=mark)
