"""Pixels of any depth to 8 bits, by a stated window.

What is black and white in a picture of more than 8 bits, or of other channels than grey and RGB, is
not known from its file. A ``window`` says it: two values, or ``percentiles``, those of each
channel's own 0.5 and 99.5 percentile.

Exported models carry this file, so it imports nothing that they would lack.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from PIL import Image

from lightning_seg.data.reading.conversion import (
    WIDE_MODES,
    check_opened,
    check_transparency,
    check_unmasked,
    forbid_mapping,
    is_wide,
    upright_image,
)
from lightning_seg.errors import InputError

PERCENTILES = "percentiles"
Window = tuple[float, float] | Literal["percentiles"] | None
_LOW, _HIGH = 0.5, 99.5
_BEYOND_8_BITS = 512  # a window that ends here or above is of values that 8 bits do not hold


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


def windowed(
    values: np.ndarray,
    channels: int,
    window: Window,
    name: str = "the picture",
) -> np.ndarray:
    """Stored values (H, W, C) as (H, W, channels) uint8, each channel by the window.

    Args:
        name: of the picture in the sentence of an error.
    """
    assert window is not None
    found = values.shape[2]
    if found == 1 and channels == 3:
        values = np.repeat(values, 3, axis=2)
    elif found != channels:
        raise InputError(
            f"{name} has {found} channels instead of {channels}; "
            "give in_channels, or take it out of the data set."
        )
    if values.dtype == np.uint8 and _is_beyond(window):
        raise InputError(
            f"{name} has 8 bits, and the window {list(window)} is of values that 8 bits do not "
            "hold; give the picture as it was stored first."
        )
    planes = [_to_8_bits(plane, window) for plane in np.moveaxis(values, 2, 0)]
    return np.stack(planes, axis=2)


def percentile_window(values: np.ndarray) -> tuple[float, float]:
    """The two percentiles of what lies above the lowest value, with which frames are filled."""
    counted = values[values > values.min()]
    if not counted.size:
        return float(values.min()), float(values.min()) + 1
    low, high = np.percentile(counted, (_LOW, _HIGH)).tolist()
    return low, high if high > low else low + 1


def _is_beyond(window: tuple[float, float] | str) -> bool:
    return not isinstance(window, str) and window[1] >= _BEYOND_8_BITS


def _to_8_bits(plane: np.ndarray, window: tuple[float, float] | str) -> np.ndarray:
    low, high = percentile_window(plane) if isinstance(window, str) else window
    share = (plane.astype(np.float32) - low) / (high - low)
    return np.rint(np.clip(share, 0, 1) * 255).astype(np.uint8)


def channels_in_memory(picture: Any) -> np.ndarray:
    """The values (H, W, C) of a PIL image, an array (H, W) or (H, W, C), or a tensor (C, H, W)."""
    if isinstance(picture, Image.Image):
        return channels_of_image(picture)
    check_unmasked(picture)
    is_tensor = hasattr(picture, "detach")
    values = np.asarray(picture.detach().cpu() if is_tensor else picture)
    if values.ndim == 2:
        return values[..., None]
    if values.ndim != 3 or values.dtype.kind not in "fiu" or 0 in values.shape:
        raise InputError(
            f"an array of shape {values.shape} and type {values.dtype} is no picture; give (H, W) "
            "or (H, W, C) as stored in the file, or a tensor (C, H, W)."
        )
    return np.moveaxis(values, 0, 2) if is_tensor else values


def channels_of_image(picture: Image.Image, name: str = "the picture") -> np.ndarray:
    """The values (H, W, C) of an opened picture, upright; InputError for what Pillow would cut or
    leave out of it."""
    check_opened(picture, name)
    forbid_mapping(picture)
    if is_wide(picture) and picture.mode not in WIDE_MODES:
        raise InputError(
            f"{name} has colours of more than 8 bits, of which Pillow reads 8; store it as TIFF."
        )
    check_transparency(picture, name)
    image = upright_image(picture)
    if image.mode not in ("L", "RGB", *WIDE_MODES):
        image = image.convert("RGB")
    values = np.array(image)
    return values.reshape(*values.shape[:2], -1)


def turned_channels(values: np.ndarray, orientation: int) -> np.ndarray:
    """Values (H, W, C) turned and mirrored as a viewer does by the orientation (1 to 8) of their
    file."""
    mirrored = {2: 1, 4: 0, 5: 1, 7: 1}  # the axis that is turned round first
    quarters = {3: 2, 5: 1, 6: 3, 7: 3, 8: 1}  # counter-clockwise
    if orientation in mirrored:
        values = np.flip(values, mirrored[orientation])
    return np.ascontiguousarray(np.rot90(values, quarters.get(orientation, 0)))
