"""CT volumes to masks, slice by slice as the network was trained, in memory that does not grow
with the number of slices.

A slice goes through the window, spacing, padding and neighbours that the checkpoint's data set was
made with; probabilities go the way back to the voxels of the file.
"""

import inspect
import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from lightning_seg.data.reading.dicom import Series, series_as_nifti
from lightning_seg.data.reading.hounsfield import sampled_slices
from lightning_seg.data.sources.base import source_class
from lightning_seg.data.store.planes import Settings, neighbours, padded, window, window_of
from lightning_seg.data.store.planes import scaled as scaled_plane
from lightning_seg.data.store.planes import settings as checked_settings
from lightning_seg.data.store.slices import around, stacked
from lightning_seg.errors import InputError
from lightning_seg.files.leftovers import part_folder
from lightning_seg.inference._nifti import SliceFile, SliceReader, check_room
from lightning_seg.inference.component_counter import ComponentCounter
from lightning_seg.inference.dicom_seg import dicom_seg_file
from lightning_seg.inference.ensemble import Trained
from lightning_seg.inference.inputs import Input
from lightning_seg.inference.label_maps import label_file
from lightning_seg.inference.mask_rule import MaskRule, resized
from lightning_seg.inference.options import PredictOptions
from lightning_seg.inference.output_names import mask_files
from lightning_seg.inference.pipeline import loaded, must_succeed, predicted
from lightning_seg.inference.prefetch import in_background
from lightning_seg.inference.results import Row
from lightning_seg.inference.volume_files import (
    sheet_file,
    write_label_volume,
    write_segmentation,
    write_sheet_of_slices,
)
from lightning_seg.inference.workers import Workers

VOLUME_COLUMNS = (
    "file",
    "slices",
    "rows",
    "columns",
    "class",
    "voxels",
    "ml",
    "components",
    "confidence",
)
_AHEAD = 4  # slices that are read beside the network
Planes = Iterator[np.ndarray]  # of uint8


class SliceView(NamedTuple):
    """The way from a slice of a volume to a picture such as the network was trained on."""

    settings: Settings
    turns: int = 0  # by a quarter, counterclockwise
    coloured: bool = False  # the network takes pictures in RGB, not neighbouring slices


def view_of(
    trained: Trained,
    given: Sequence[float] | None = None,
) -> SliceView:
    """Read what the checkpoint's data set says; InputError where it says no window and none is
    given.

    Args:
        given: lowest and highest HU, in place of the data set's window.
    """
    kind = source_class(trained.dataset)
    values = {
        name: one.default for name, one in inspect.signature(kind).parameters.items()
    } | trained.dataset_options
    chosen = given or values.get("window") or getattr(kind, "window", None)
    if chosen is None:
        raise InputError(
            f"the network was trained on pictures of {trained.dataset!r}, whose window is not "
            "known; give --window with the HU "
            "that are black and white in them, such as --window -200 250."
        )
    settings = checked_settings(
        chosen, trained.in_channels, values.get("spacing"), values.get("pad")
    )
    coloured = trained.channels == "RGB"
    return SliceView(settings, getattr(kind, "quarter_turns", 0), coloured)


class VolumeResult(NamedTuple):
    """What was found in a volume.

    Args:
        rows: of the table, one for each class.
        doubt: what they may be wrong in, in words.
    """

    rows: list[Row]
    doubt: str


def predict_volume(
    one: Input,
    workers: Workers,
    rule: MaskRule,
    options: PredictOptions,
    view: SliceView,
    folder: Path,
    tick: Callable[[], None] = lambda: None,
) -> VolumeResult:
    """Write the masks of a volume as NIfTI with its affine and header, and what ``options`` says.

    Args:
        tick: called after each slice.

    Errors: InputError for a damaged volume. Post-processing and DICOM-SEG, where they are asked
        for, take the masks into memory.
    """
    with part_folder(folder / "volume") as place:
        series = series_as_nifti(one.path, place) if one.kind == "dicom" else None
        reader = SliceReader(one.path if series is None else series.file, place)
        view, doubt = _fitting_view(reader, view, one, series)
        doubts = [reader.grid.doubt if series is None else series.doubt, doubt]
        bytes_a_voxel = len(rule.classes) * (5 if options.probabilities else 1)
        bytes_a_voxel += int(rule.exclusive)
        check_room(place, math.prod(reader.grid.shape) * bytes_a_voxel, one.path)
        masks, maps = _slice_files(reader, place, rule, options)
        trust = [_Trust() for _ in rule.classes]
        plain = replace(rule, native=True, postprocess="")
        for index, probability in enumerate(_slice_probabilities(reader, workers, view, options)):
            found = plain(probability, reader.grid.canonical_shape[1:])
            for k, mask in enumerate(found.mask):
                masks[k][index] = mask
                trust[k].add(found.probability[k], mask)
                if maps:
                    maps[k][index] = found.probability[k]
            tick()
        _postprocess(masks, rule)
        found_in = zip(rule.classes, masks, trust, strict=True)
        rows = [_volume_row(one, reader, *of_class) for of_class in found_in]
        targets = mask_files(folder, one.name, rule.classes, ".nii.gz")
        for k, target in enumerate(targets.values()):
            if maps:
                maps[k].save(folder / "probabilities" / target.relative_to(folder / "masks"))
            masks[k].save(target)
        if rule.exclusive:
            target = label_file(folder, one.name, ".nii.gz")
            write_label_volume(masks, reader, place, target)
        if options.overlays:
            target = sheet_file(folder, one.name)
            write_sheet_of_slices(masks, reader, _levels(view), target)
        if options.dicom_seg and series is not None:
            target = dicom_seg_file(folder, one.name)
            write_segmentation(masks, rule.classes, series, target)
    return VolumeResult(rows, "; ".join(filter(None, doubts)))


def _fitting_view(
    reader: SliceReader, view: SliceView, one: Input, series: Series | None
) -> tuple[SliceView, str]:
    """The view with the window of this volume, told by some of its slices, and what is doubtful.

    InputError for a volume whose values are no Hounsfield units; of a DICOM series the sentence.
    """
    shown = np.stack([reader[place] for place in sampled_slices(len(reader))])
    try:
        low_and_high = window_of(view.settings, shown, one.path)
        fitting = view._replace(settings=view.settings._replace(window=low_and_high))
        return fitting, ""
    except InputError as error:
        # a DICOM header may say itself that its values are HU
        if series is None or not series.is_scaled:
            raise
        return view, str(error)


def _slice_files(
    reader: SliceReader, place: Path, rule: MaskRule, options: PredictOptions
) -> tuple[list[SliceFile], list[SliceFile]]:
    """One file for the mask of each class, and one for its map where maps are asked for."""
    channels = range(len(rule.classes))
    masks = [SliceFile(place / f"mask{k}", reader, np.uint8) for k in channels]
    kept = channels if options.probabilities else ()
    return masks, [SliceFile(place / f"map{k}", reader, np.float32) for k in kept]


def _postprocess(masks: Sequence[SliceFile], rule: MaskRule) -> None:
    """All classes together, in three dimensions."""
    if rule.steps:
        before = np.stack([np.asarray(file) > 0 for file in masks])
        for file, mask in zip(masks, rule.finished(before), strict=True):
            for index, plane in enumerate(mask):
                file[index] = plane


@dataclass
class _Trust:
    """The confidence of a mask, slice by slice, as `prediction.describe_mask` has it."""

    total: float = 0
    voxels: int = 0
    highest: float = 0

    def add(
        self,
        probability: NDArray[np.float32],
        mask: NDArray[np.bool_],
    ) -> None:
        self.total += float(probability[mask].sum(dtype=np.float64))
        self.voxels += int(mask.sum())
        self.highest = max(self.highest, float(probability.max()))

    @property
    def confidence(self) -> float:
        """The mean over the mask before post-processing."""
        return self.total / self.voxels if self.voxels else 1 - self.highest


def _volume_row(
    one: Input,
    reader: SliceReader,
    label: str,
    mask: SliceFile,
    trust: _Trust,
) -> Row:
    parts, voxels = ComponentCounter(), 0
    for plane in mask:
        parts.add(plane > 0)
        voxels += int(np.count_nonzero(plane))
    volume = voxels * float(np.prod(reader.grid.canonical_spacing)) / 1000  # mm^3 -> ml
    place = [one.file, *reader.grid.canonical_shape, label]
    values = [*place, voxels, f"{volume:.3f}", parts.count, f"{trust.confidence:.4f}"]
    return dict(zip(VOLUME_COLUMNS, values, strict=True))


def _slice_probabilities(
    reader: SliceReader, workers: Workers, view: SliceView, options: PredictOptions
) -> Iterator[NDArray[np.float32]]:
    """(K, h, w) of each slice of the file, in the canonical frame, at any size."""
    shape = _resampled(reader, view.settings.spacing)
    pictures = enumerate(in_background(_slice_pictures(reader, shape, view), _AHEAD))
    items = (
        loaded(reader.path, number, picture, workers.first, options) for number, picture in pictures
    )
    found = must_succeed(predicted(items, workers, options))
    back = (_turned_back(one, item.size, shape, view) for item, one in found)
    yield from _between(back, shape[0], len(reader))


def _resampled(
    reader: SliceReader, spacing: tuple[float, float, float] | None
) -> tuple[int, int, int]:
    """Slices, rows and columns at a spacing, as `data.store.planes.Scan.resampled` has them."""
    own = reader.grid.canonical_shape
    if spacing is None:
        return own
    extent = np.multiply(own, reader.grid.canonical_spacing)
    slices, height, width = np.maximum(np.rint(extent / spacing), 1).astype(int).tolist()
    return slices, height, width


def _slice_pictures(
    reader: SliceReader,
    shape: tuple[int, int, int],
    view: SliceView,
) -> Planes:
    """The pictures (H, W, C) of all resampled slices, before they are brought to the network's
    size."""
    chosen, count = view.settings, shape[0]
    planes = (np.rot90(plane, view.turns) for plane in _planes(reader, shape, view))
    held: deque[tuple[int, np.ndarray]] = deque()
    numbered = enumerate(planes)
    for index in range(count):
        # red, green and blue of a grey slice are the slice, as of any grey picture
        channels = chosen.in_channels
        wanted = [index] * channels if view.coloured else around(index, count, channels)
        while not held or held[-1][0] < wanted[-1]:
            held.append(next(numbered))
        while held[0][0] < wanted[0]:
            held.popleft()
        known = dict(held)
        yield stacked([np.ascontiguousarray(known[place]) for place in wanted])


def _levels(view: SliceView) -> tuple[float, float]:
    """The HU that are black and white."""
    found = view.settings.window
    # what a volume's own percentiles are is known by now
    assert not isinstance(found, str)
    return found


def _planes(reader: SliceReader, shape: tuple[int, int, int], view: SliceView) -> Planes:
    """The resampled slices (H, W), as `data.store.planes.Planes` has them."""
    chosen = view.settings
    count, height, width = shape
    levels = _levels(view)
    grey: dict[int, np.ndarray] = {}  # the two slices in use
    for index in range(count):
        low, share = neighbours(index, count, len(reader))
        wanted = (low, low + 1) if share > 0 else (low,)
        grey = {
            place: grey[place] if place in grey else window(reader[place], *levels)
            for place in wanted
        }
        plane = (
            cv2.addWeighted(grey[low], 1 - share, grey[low + 1], share, 0)
            if share > 0
            else grey[low]
        )
        plane = scaled_plane(np.ascontiguousarray(plane), (height, width))
        yield plane if chosen.pad is None else padded(plane, (chosen.pad, chosen.pad))


def _turned_back(
    one: NDArray[np.float32],
    size: tuple[int, int],
    shape: tuple[int, int, int],
    view: SliceView,
) -> NDArray[np.float32]:
    """(K, h, w) of a picture of ``size`` as a resampled slice, at any size; without its padding,
    for which it is scaled."""
    pad = view.settings.pad
    back = np.rot90(one if pad is None else resized(one, size), -view.turns, (1, 2))
    if pad is None:
        return back
    top, left = (pad - shape[1]) // 2, (pad - shape[2]) // 2
    return back[:, top : top + shape[1], left : left + shape[2]]


def _between(
    found: Iterator[NDArray[np.float32]], count: int, slices: int
) -> Iterator[NDArray[np.float32]]:
    """``count`` resampled slices as the ``slices`` of the file: between two of them their weighted
    mean."""
    numbered = enumerate(found)
    held: dict[int, NDArray[np.float32]] = {}
    for index in range(slices):
        low, share = neighbours(index, slices, count)
        last = low + 1 if share > 0 else low
        held = {place: one for place, one in held.items() if place >= low}
        while not held or max(held) < last:
            place, one = next(numbered)
            held |= {place: one} if place >= low else {}
        yield (
            held[low] * np.float32(1 - share) + held[last] * np.float32(share)
            if share > 0
            else held[low]
        )
