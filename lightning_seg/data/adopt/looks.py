"""What a picture file looks like: a mask of few flat values, or a picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from lightning_seg.data.reading.conversion import WIDE_MODES
from lightning_seg.data.reading.deep import stored_channels
from lightning_seg.data.reading.masks import is_lossy
from lightning_seg.data.reading.pictures import DAMAGED, FORMATS
from lightning_seg.errors import InputError

_MOST_VALUES = 2048  # of a label map
_FLAT = 0.75  # share of its pixels whose neighbours have their value
_EXTREME, _BETWEEN = 0.85, 0.08  # shares of a soft mask that are black or white, and neither
SAMPLED = 6  # files that stand for those of one pattern


class Look(NamedTuple):
    """One picture file.

    Attributes:
        size: height and width.
        channels: stored for each pixel.
        wide: whether it has more than 8 bits a channel.
        masklike: whether it is flat areas of few values; None where it has one value alone.
    """

    size: tuple[int, int]
    channels: int
    wide: bool
    masklike: bool | None


def look_at(path: Path) -> Look | None:
    """Decode a file and look at its values; None where it cannot be decoded."""
    try:
        values, lossy, wide = stored_values(path)
    except InputError:
        return None
    channels = values.shape[2]
    numbers = _as_numbers(values)
    count = _distinct_count(numbers)
    masklike = None if count == 1 else _is_masklike(values, numbers, count, lossy)
    return Look(values.shape[:2], channels, wide, masklike)


def stored_values(path: Path) -> tuple[np.ndarray, bool, bool]:
    """The values (H, W, C) of a file as stored, whether they are lossy and of more than 8 bits."""
    try:
        with Image.open(path, formats=FORMATS) as picture:
            lossy = is_lossy(picture)
            if picture.format == "TIFF" and getattr(picture, "n_frames", 1) > 1:
                values = stored_channels(path)
                return values, lossy, values.dtype.itemsize > 1
            if picture.mode in ("1", "L", "P", "RGB", "RGBA", *WIDE_MODES):
                plain = picture.convert("L") if picture.mode == "1" else picture
                values = np.array(plain)
                wide = values.dtype.itemsize > 1
                return values.reshape(*values.shape[:2], -1), lossy, wide
            values = np.array(picture.convert("RGB"))
            return values, lossy, False
    except DAMAGED:
        values = stored_channels(path)
        return values, False, values.dtype.itemsize > 1


def _as_numbers(values: np.ndarray) -> np.ndarray:
    """(H, W): one number for each pixel's channels."""
    if values.shape[2] == 1:
        return values[..., 0]
    first, second, third = (values[..., k % values.shape[2]].astype(np.int32) for k in range(3))
    return first << 16 | second << 8 | third


def _distinct_count(numbers: np.ndarray) -> int:
    # numpy.unique hashes, which colours as numbers make hundred times slower
    ordered = np.sort(numbers, axis=None)
    return 1 + int(np.count_nonzero(ordered[1:] != ordered[:-1]))


def _is_masklike(values: np.ndarray, numbers: np.ndarray, count: int, lossy: bool) -> bool:
    if count == 2:
        return True
    here = numbers[1:, 1:]
    flat = (here == numbers[:-1, 1:]) & (here == numbers[1:, :-1])
    if not lossy and count <= _MOST_VALUES and flat.mean() >= _FLAT:
        return True
    colours = values[..., :3].astype(np.int64)
    grey = colours.mean(axis=2)
    if np.ptp(colours, axis=2).max() > 40 or grey.max() <= 1:
        return False
    share = grey / grey.max()
    between = ((share > 0.25) & (share < 0.75)).mean()
    extreme = ((share < 0.12) | (share > 0.88)).mean()
    return bool(extreme >= _EXTREME and between <= _BETWEEN)


def evenly_chosen(files: Sequence[Any], count: int) -> list[Any]:
    """Some of the files, ``count`` at most, evenly spread."""
    places = np.linspace(0, len(files) - 1, min(count, len(files))).astype(int)
    return [files[place] for place in dict.fromkeys(places.tolist())]


def header_size(path: Path) -> tuple[int, int] | None:
    """Height and width, from the head of the file alone; turned as EXIF says."""
    try:
        with Image.open(path, formats=FORMATS) as picture:
            turned = picture.getexif().get(0x0112, 1) in (5, 6, 7, 8)
            width, height = picture.size
            return (width, height) if turned else (height, width)
    except DAMAGED:
        return None
