"""Pictures of more than 8 bits, or of other channels than grey and RGB, as files and in memory (see
``windowing`` for the rule).

TIFF files are read by tifffile, also those of several pages, which then are the channels.
"""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lightning_seg.data.reading.conversion import (
    COLOURS_LOST,
    NEARLY_BLACK,
    WHITE_IS_ZERO,
    is_coloured,
    white_is_zero,
)
from lightning_seg.data.reading.pictures import (
    DAMAGED,
    as_picture,
    decoded,
    read_grey,
    read_image,
    read_picture,
)
from lightning_seg.data.reading.windowing import (
    Window,
    channels_in_memory,
    channels_of_image,
    checked_window,
    turned_channels,
    windowed,
)
from lightning_seg.errors import InputError

_ORIENTATION = 274  # a tag of TIFF


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
        return windowed(stored_channels(path), self.channels, self.window, str(path))

    def read_checked(self, path: Path, content: bytes | None = None) -> np.ndarray:
        """As `read`, where a picture is too large with the option that allows it.

        ``content``: of the file, where it is in memory and ``path`` is but its name.
        """
        if self.window is None:
            return read_picture(path, self.channels, content)
        return windowed(stored_channels(path, content), self.channels, self.window, str(path))

    def take(self, picture: Any) -> np.ndarray:
        """A path, PIL image, array or tensor as `read_checked` takes the file of the same values."""
        if isinstance(picture, str | Path):
            return self.read_checked(Path(picture).expanduser())
        if self.window is None:
            return as_picture(picture, self.channels)
        return windowed(channels_in_memory(picture), self.channels, self.window)

    def doubt(self, picture: Any, read: np.ndarray, content: bytes | None = None) -> str:
        """The note on a picture beside its mask; empty for none.

        Args:
            picture: of `take`'s kinds, or a name with ``content``.
            read: what it was read as (H, W, C).
        """
        if self.loses_colours(picture, content):
            return COLOURS_LOST
        return NEARLY_BLACK if read.max() <= 1 else ""

    def loses_colours(self, picture: Any, content: bytes | None = None) -> bool:
        """Tell whether a picture in colour is read as grey; of `take`'s kinds, or a name with
        ``content``."""
        if self.channels != 1 or self.window is not None:
            return False
        pixels = as_picture(picture, 3) if content is None else read_image(picture, content)
        return is_coloured(pixels)


def picture_form(channels: int, window: Sequence[float] | str | None) -> PictureForm:
    """The checked form; InputError for channels that only a window allows."""
    checked = checked_window(window)
    if channels not in (1, 3) and (checked is None or channels < 1):
        raise InputError(
            f"in_channels is {channels}; give 3 for RGB or 1 for grey, or a window for pictures of "
            "other channels."
        )
    return PictureForm(channels, checked)


def stored_channels(path: Path, content: bytes | None = None) -> np.ndarray:
    """The values (H, W, C) as they are stored: pages or samples of a TIFF file are channels."""
    if path.suffix.lower() in (".tif", ".tiff"):
        return _tiff_channels(path, content)
    return decoded(path, lambda picture, name: channels_of_image(picture, str(name)), content)


def _tiff_channels(path: Path, content: bytes | None) -> np.ndarray:
    import tifffile

    try:
        with tifffile.TiffFile(path if content is None else io.BytesIO(content)) as file:
            values: Any = file.asarray()
            tag = file.pages.first.tags.get(_ORIENTATION)
            photometric = int(file.pages.first.photometric)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; restore the file.") from None
    except (*DAMAGED, tifffile.TiffFileError, KeyError, ImportError) as error:
        raise InputError(
            f"{path} cannot be decoded ({error}); fetch or copy this file again."
        ) from error
    if photometric == WHITE_IS_ZERO:
        raise InputError(white_is_zero(str(path)))
    values = np.squeeze(np.asarray(values))
    if values.ndim not in (2, 3) or values.dtype.kind not in "fiu":
        raise InputError(
            f"{path} has the shape {values.shape}, not that of one picture; extract one from it."
        )
    if values.ndim == 2:
        values = values[..., None]
    # channels are the shortest axis, first or last
    elif values.shape[0] < values.shape[2]:
        values = np.moveaxis(values, 0, 2)
    return turned_channels(values, int(tag.value) if tag is not None else 1)
