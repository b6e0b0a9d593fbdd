"""Files of a volume's results: masks and label map as NIfTI, an overlay of some slices, and a
DICOM-SEG."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from lightning_seg.data.reading.dicom import Series
from lightning_seg.data.store.planes import window
from lightning_seg.inference._nifti import SliceFile, SliceReader
from lightning_seg.inference.dicom_seg import dicom_seg_file, write_dicom_seg
from lightning_seg.inference.inputs import Input
from lightning_seg.inference.label_maps import label_file, label_map
from lightning_seg.inference.mask_rule import MaskRule
from lightning_seg.inference.options import PredictOptions
from lightning_seg.inference.output_names import mask_files
from lightning_seg.inference.pictures import Image, overlay, titled_grid, write_png

MOST_SLICES = 25  # of one overlay
CELL = 256  # pixels of a slice's longer side there


def volume_results(
    folder: Path, inputs: Iterable[Input], rule: MaskRule, options: PredictOptions
) -> dict[str, Sequence[Path]]:
    """The files of all results of each volume, by its own file."""
    found: dict[str, Sequence[Path]] = {}
    for one in inputs:
        files = [*mask_files(folder, one.name, rule.classes, ".nii.gz").values()]
        if rule.exclusive:
            files.append(label_file(folder, one.name, ".nii.gz"))
        if options.overlays:
            files.append(sheet_file(folder, one.name))
        if options.dicom_seg and one.kind == "dicom":
            files.append(dicom_seg_file(folder, one.name))
        found[one.file] = files
    return found


def sheet_file(folder: Path, name: str) -> Path:
    """The overlay of a volume: ``overlays/<name>.jpg``."""
    return folder / "overlays" / f"{name}.jpg"


def write_label_volume(
    masks: Sequence[SliceFile], reader: SliceReader, place: Path, target: Path
) -> None:
    """Write the number of the class of each voxel, of masks that do not overlap, as NIfTI.

    Args:
        place: a folder for the file while it is filled.
    """
    labels = SliceFile(place / "labels", reader, np.uint8)
    for index, planes in enumerate(zip(*masks, strict=True)):
        labels[index] = label_map(np.stack(planes) > 0)
    labels.save(target)


def write_segmentation(
    masks: Sequence[SliceFile], classes: Sequence[str], series: Series, target: Path
) -> None:
    """Write the masks of a series as DICOM-SEG; all of them are taken into memory."""
    # a file of NIfTI made from a series holds columns, rows, slices in the order of its files
    planes = np.stack([mask.as_stored() > 0 for mask in masks]).transpose(0, 3, 2, 1)
    write_dicom_seg(target, planes, classes, series.slices)


def write_sheet_of_slices(
    masks: Sequence[SliceFile], reader: SliceReader, levels: tuple[float, float], target: Path
) -> None:
    """Write slices with the outlines drawn in, as one picture.

    Slices lie as they are looked at: front up, the patient's left on the right, square pixels.

    Args:
        levels: HU that are black and white.
    """
    shown = np.any([[plane.any() for plane in mask] for mask in masks], axis=0)
    places = chosen_slices(shown)
    cells = [_drawn_slice(masks, reader, levels, place) for place in places]
    write_png(target, titled_grid(cells, [f"{place + 1} of {len(reader)}" for place in places]))


def chosen_slices(shown: NDArray[np.bool_]) -> list[int]:
    """Up to `MOST_SLICES` places, evenly between the first and the last that is shown; of all
    where none is."""
    found = np.flatnonzero(shown)
    first, last = (found[0], found[-1]) if len(found) else (0, len(shown) - 1)
    count = min(MOST_SLICES, last - first + 1)
    places: list[int] = np.rint(np.linspace(first, last, count)).astype(int).tolist()
    return places


def _drawn_slice(
    masks: Sequence[SliceFile], reader: SliceReader, levels: tuple[float, float], place: int
) -> Image:
    size = _square_pixels(reader)
    grey = np.ascontiguousarray(window(reader[place], *levels))
    planes = [np.ascontiguousarray(mask[place]) for mask in masks]
    shrinks = max(size) < max(grey.shape)
    way = cv2.INTER_AREA if shrinks else cv2.INTER_NEAREST
    picture = cv2.resize(grey, size, interpolation=way)
    outlined = [cv2.resize(plane, size, interpolation=cv2.INTER_NEAREST) for plane in planes]
    return overlay(torch.from_numpy(picture[None]), torch.from_numpy(np.stack(outlined)))


def _square_pixels(reader: SliceReader) -> tuple[int, int]:
    """Width and height of a slice whose pixels are square."""
    lengths = np.multiply(reader.grid.canonical_shape, reader.grid.canonical_spacing)
    _, height, width = CELL * lengths / max(lengths[1:])
    return max(1, math.floor(width + 0.5)), max(1, math.floor(height + 0.5))
