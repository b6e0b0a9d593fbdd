"""The transforms that most recipes use, pixel for pixel as albumentations 2.0.8 computes them, at
half its time.

The random numbers stay the library's: its transforms draw them, in the same order.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import cv2
import numpy as np
from stringzilla import translate  # as albumentations does

Params = dict[str, Any]
Change = Callable[
    [Any, np.ndarray, Params], np.ndarray
]  # (transform, image (H, W, C) uint8, its parameters)


class Kernel(NamedTuple):
    """A kernel: how a transform draws its parameters for an image and its mask, and how it changes
    the one and the other."""

    draw: Callable[[Any, np.ndarray, np.ndarray], Params]
    image: Change
    mask: Change


def _unchanged(
    transform: Any,
    mask: np.ndarray,
    params: Params,
) -> np.ndarray:
    return mask


def _draw_params(
    transform: Any,
    image: np.ndarray,
    mask: np.ndarray,
) -> Params:
    params: Params = transform.get_params()
    return params


def _library_draw(
    transform: Any,
    image: np.ndarray,
    mask: np.ndarray,
) -> Params:
    given = {"image": image, "mask": mask}
    params: Params = transform.update_transform_params(transform.get_params(), given)
    return params | transform.get_params_dependent_on_data(params, given)


def _library_image(
    transform: Any,
    image: np.ndarray,
    params: Params,
) -> np.ndarray:
    return np.ascontiguousarray(transform.apply(image, **params))


def _library_mask(
    transform: Any,
    mask: np.ndarray,
    params: Params,
) -> np.ndarray:
    return np.ascontiguousarray(transform.apply_to_mask(mask, **params))


def kernel(transform: Any) -> Kernel:
    """The kernel of a transform of albumentations: one from here, or the library's own
    functions."""
    name = type(transform).__name__
    if name in _KERNELS and not getattr(transform, "crop_border", False):
        return _KERNELS[name]
    return Kernel(
        _library_draw,
        _library_image,
        _library_mask if hasattr(transform, "apply_to_mask") else _unchanged,
    )


def _flip(axis: int) -> Change:
    return lambda transform, image, params: cv2.flip(image, axis).reshape(image.shape)


def _turn_matrix(
    transform: Any,
    image: np.ndarray,
    mask: np.ndarray,
) -> Params:
    """The matrix (2, 3) of a rotation about the centre."""
    angle = np.deg2rad(transform.py_random.uniform(*transform.limit) % 360)
    cos, sin = np.cos(angle), np.sin(angle)
    x, y = image.shape[1] / 2 - 0.5, image.shape[0] / 2 - 0.5
    return {
        "matrix": np.array(
            [[cos, sin, x - (cos * x + sin * y)], [-sin, cos, y - (cos * y - sin * x)]]
        )
    }


def _rotate(
    transform: Any,
    image: np.ndarray,
    params: Params,
) -> np.ndarray:
    return _warp(
        image, params["matrix"], transform.interpolation, transform.border_mode, transform.fill
    )


def _rotate_mask(
    transform: Any,
    mask: np.ndarray,
    params: Params,
) -> np.ndarray:
    return _warp(
        mask,
        params["matrix"],
        transform.mask_interpolation,
        transform.border_mode,
        transform.fill_mask,
    )


def _warp(
    image: np.ndarray,
    matrix: np.ndarray,
    interpolation: int,
    border: int,
    fill: Any,
) -> np.ndarray:
    height, width, channels = image.shape
    value = (fill,) * channels if np.isscalar(fill) else tuple(fill)
    # OpenCV interpolates four channels in little more than half the time of three, to the same values
    source = cv2.cvtColor(image, cv2.COLOR_RGB2RGBA) if channels == 3 else image
    warped = cv2.warpAffine(
        source,
        matrix,
        (width, height),
        flags=interpolation,
        borderMode=border,
        borderValue=(*value, 0)[:4],
    )
    return (
        cv2.cvtColor(warped, cv2.COLOR_RGBA2RGB) if channels == 3 else warped.reshape(image.shape)
    )


def _jitter_colour(
    transform: Any,
    image: np.ndarray,
    params: Params,
) -> np.ndarray:
    image = image.copy()  # then changed in place
    for number in params["order"]:
        name, change = _COLOUR[number]
        neutral = 0 if name == "hue" else 1
        if params[name] != neutral and (image.shape[2] == 3 or name in ("brightness", "contrast")):
            image = change(transform, image, params[name])
    return image


_LEVELS = np.arange(256, dtype=np.float32)


def _brighter(
    transform: Any,
    image: np.ndarray,
    factor: float,
) -> np.ndarray:
    return _looked_up(image, _LEVELS * np.float32(factor))


def _contrasted(
    transform: Any,
    image: np.ndarray,
    factor: float,
) -> np.ndarray:
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if image.shape[2] == 3 else image
    mean = cv2.sumElems(grey)[0] / grey.size
    return _looked_up(image, _LEVELS * factor + mean * (1 - factor))


def _looked_up(image: np.ndarray, values: np.ndarray) -> np.ndarray:
    table = values.clip(0, 255).astype(np.uint8)
    translate(memoryview(image), memoryview(table), inplace=True)  # type: ignore[arg-type]  # a tenth of cv2.LUT's time
    return image


def _saturated(
    transform: Any,
    image: np.ndarray,
    factor: float,
) -> np.ndarray:
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return grey if factor == 0 else cv2.addWeighted(image, factor, grey, 1 - factor, 0, dst=image)


def _hue(
    transform: Any,
    image: np.ndarray,
    factor: float,
) -> np.ndarray:
    return transform.transforms[3](image, factor)


_COLOUR = (
    ("brightness", _brighter),
    ("contrast", _contrasted),
    ("saturation", _saturated),
    ("hue", _hue),
)
_KERNELS = {
    "HorizontalFlip": Kernel(_draw_params, _flip(1), _flip(1)),
    "VerticalFlip": Kernel(_draw_params, _flip(0), _flip(0)),
    "Rotate": Kernel(_turn_matrix, _rotate, _rotate_mask),
    "ColorJitter": Kernel(_draw_params, _jitter_colour, _unchanged),
}
