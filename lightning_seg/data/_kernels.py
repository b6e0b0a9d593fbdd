"""Two transforms that most recipes use, pixel for pixel as albumentations 2.0.8 computes them, at half its time.

The random numbers stay the library's: these take the parameters that its transforms have drawn.
"""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np

_IDENTITY = np.eye(3)
_LEVELS = np.arange(256, dtype=np.float32)


def rotate(transform: Any, image: np.ndarray, params: dict[str, Any]) -> np.ndarray:
    """As ``Rotate.apply``, for (H, W, C) uint8."""
    return _warp(image, params["matrix"], transform.interpolation, transform.border_mode, transform.fill)


def rotate_mask(transform: Any, mask: np.ndarray, params: dict[str, Any]) -> np.ndarray:
    """As ``Rotate.apply_to_mask``."""
    return _warp(mask, params["matrix"], transform.mask_interpolation, transform.border_mode, transform.fill_mask)


def _warp(image: np.ndarray, matrix: np.ndarray, interpolation: int, border: int, fill: Any) -> np.ndarray:
    if (np.abs(matrix - _IDENTITY) <= 1e-8 + 1e-5 * _IDENTITY).all():
        return image
    height, width, channels = image.shape
    value = (fill,) * channels if np.isscalar(fill) else tuple(fill)
    # OpenCV interpolates four channels in half the time of three, to the same values
    source = cv2.cvtColor(image, cv2.COLOR_RGB2RGBA) if channels == 3 else image
    warped = cv2.warpAffine(
        source, matrix[:2], (width, height), flags=interpolation, borderMode=border, borderValue=(*value, 0)[:4]
    )
    return cv2.cvtColor(warped, cv2.COLOR_RGBA2RGB) if channels == 3 else warped.reshape(image.shape)


def jitter(transform: Any, image: np.ndarray, params: dict[str, Any]) -> np.ndarray:
    """As ``ColorJitter.apply``, for (H, W, 3) and (H, W, 1) uint8."""
    for number in params["order"]:
        name, change = _COLOUR[number]
        if params[name] != (0 if name == "hue" else 1) and (image.shape[2] == 3 or number < 2):
            image = change(transform, image, params[name])
    return image


def _brighter(_: Any, image: np.ndarray, factor: float) -> np.ndarray:
    return _looked_up(image, _LEVELS * np.float32(factor))


def _contrasted(_: Any, image: np.ndarray, factor: float) -> np.ndarray:
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if image.shape[2] == 3 else image
    mean = cv2.sumElems(grey)[0] / grey.size
    return _looked_up(image, _LEVELS * factor + mean * (1 - factor))


def _looked_up(image: np.ndarray, values: np.ndarray) -> np.ndarray:
    from albucore import sz_lut  # ten times as fast as cv2.LUT

    return sz_lut(image, values.clip(0, 255).astype(np.uint8), inplace=False)


def _saturated(_: Any, image: np.ndarray, factor: float) -> np.ndarray:
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return grey if factor == 0 else cv2.addWeighted(image, factor, grey, 1 - factor, 0)


def _hue(transform: Any, image: np.ndarray, factor: float) -> np.ndarray:
    return transform.transforms[3](image, factor)


_COLOUR: list[tuple[str, Callable[[Any, np.ndarray, float], np.ndarray]]] = [
    ("brightness", _brighter),
    ("contrast", _contrasted),
    ("saturation", _saturated),
    ("hue", _hue),
]
