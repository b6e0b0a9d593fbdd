"""Pictures of more than 8 bits, or of other channels than grey and RGB: by a stated window.

What is black and white in such a picture is not known from the file. A ``window`` says it: two
values, or ``percentiles``, those of each channel's own 0.5 and 99.5 percentile. TIFF files are read
by tifffile, also those of several pages, which then are the channels.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from PIL import Image

from lightning_seg.data.reading.conversion import WIDE_MODES, colour_spread, upright_image
from lightning_seg.data.reading.pictures import (
    DAMAGED,
    decoded,
    read_grey,
    read_image,
    read_picture,
)
from lightning_seg.errors import InputError

PERCENTILES = "percentiles"
_LOW, _HIGH = 0.5, 99.5
# levels by which channels differ in colours, and share of such pixels; JPEG tints grey a little
_COLOURED, _COLOURED_SHARE = 24, 0.02
Window = tuple[float, float] | Literal["percentiles"] | None


class PictureForm(NamedTuple):
    """How a data set's picture files become arrays (H, W, channels) of uint8.

    Attributes:
        window: None for pictures of 8 bits, 1 or 3 channels, as they are.
    """

    channels: int
    window: Window = None

    def read(self, path: Path) -> np.ndarray:
        """The picture; InputError for one of other channels or, without a window, of more bits."""
        if self.window is None:
            return read_image(path) if self.channels == 3 else read_grey(path)
        return self._windowed(path)

    def read_checked(self, path: Path) -> np.ndarray:
        """As `read`, where a picture is too large with the option that allows it."""
        return read_picture(path, self.channels) if self.window is None else self.read(path)

    def loses_colours(self, path: Path) -> bool:
        """Tell whether a picture in colour is read as grey."""
        if self.channels != 1 or self.window is not None:
            return False
        coloured = colour_spread(read_image(path)) > _COLOURED
        return bool(coloured.mean() > _COLOURED_SHARE)

    def _windowed(self, path: Path) -> np.ndarray:
        window = self.window
        assert window is not None
        values = stored_channels(path)
        found = values.shape[2]
        if found == 1 and self.channels == 3:
            values = np.repeat(values, 3, axis=2)
        elif found != self.channels:
            raise InputError(
                f"{path} has {found} channels instead of {self.channels}; "
                "give in_channels, or take it out of the data set."
            )
        planes = [_to_8_bits(plane, window) for plane in np.moveaxis(values, 2, 0)]
        return np.stack(planes, axis=2)


def picture_form(channels: int, window: Sequence[float] | str | None) -> PictureForm:
    """The checked form; InputError for channels that only a window allows."""
    checked = checked_window(window)
    if channels not in (1, 3) and (checked is None or channels < 1):
        raise InputError(
            f"in_channels is {channels}; give 3 for RGB or 1 for grey, or a window for pictures of "
            "other channels."
        )
    return PictureForm(channels, checked)


def checked_window(window: Sequence[float] | str | None) -> Window:
    """The window as a value; InputError for one that is none."""
    if window is None or window == PERCENTILES:
        return window  # type: ignore[return-value]
    if isinstance(window, str) or len(window) != 2 or not window[0] < window[1]:
        raise InputError(
            f"window is {window!r}; give the lowest and the highest value, such as [0, 4095], or "
            f"'{PERCENTILES}'."
        )
    return float(window[0]), float(window[1])


def percentile_window(values: np.ndarray) -> tuple[float, float]:
    """The two percentiles of what lies above the lowest value, with which frames are filled."""
    counted = values[values > values.min()]
    if not counted.size:
        return float(values.min()), float(values.min()) + 1
    low, high = np.percentile(counted, (_LOW, _HIGH)).tolist()
    return low, high if high > low else low + 1


def _to_8_bits(plane: np.ndarray, window: tuple[float, float] | str) -> np.ndarray:
    low, high = percentile_window(plane) if isinstance(window, str) else window
    share = (plane.astype(np.float32) - low) / (high - low)
    return np.rint(np.clip(share, 0, 1) * 255).astype(np.uint8)


def stored_channels(path: Path) -> np.ndarray:
    """The values (H, W, C) as they are stored: pages or samples of a TIFF file are channels."""
    if path.suffix.lower() in (".tif", ".tiff"):
        return _tiff_channels(path)
    return decoded(path, lambda picture, name: _pillow_channels(picture))


def _pillow_channels(picture: Image.Image) -> np.ndarray:
    image = upright_image(picture)
    if image.mode not in ("L", "RGB", *WIDE_MODES):
        image = image.convert("RGB")
    values = np.array(image)
    return values.reshape(*values.shape[:2], -1)


def _tiff_channels(path: Path) -> np.ndarray:
    import tifffile

    try:
        values: Any = tifffile.imread(path)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; restore the file.") from None
    except (*DAMAGED, tifffile.TiffFileError, KeyError, ImportError) as error:
        raise InputError(
            f"{path} cannot be decoded ({error}); fetch or copy this file again."
        ) from error
    values = np.squeeze(np.asarray(values))
    if values.ndim == 2:
        return values[..., None]
    if values.ndim != 3 or values.dtype.kind not in "fiu":
        raise InputError(
            f"{path} has the shape {values.shape}, not that of one picture; extract one from it."
        )
    # channels are the shortest axis, first or last
    first = values.shape[0] < values.shape[2]
    return np.moveaxis(values, 0, 2) if first else values
