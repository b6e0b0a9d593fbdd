"""A picture as the search for duplicates sees it: small, grey, with its content marked off from its
frame."""

from functools import reduce
from typing import NamedTuple

import cv2
import numpy as np

from lightning_seg.data.reading.conversion import colour_spread

SIDE = 256  # longer side of a view, pixels
_DARK, _COLOURLESS = 40, 12  # at or below: the black frame of an endoscope, and the grey text in it
_FILLED = 0.15  # share of a row's pixels that makes it content


class View(NamedTuple):
    """grey: (h, w) uint8. box: top, bottom, left and right of its content, in pixels."""

    grey: np.ndarray
    box: tuple[int, int, int, int]


def view(image: np.ndarray) -> View:
    """The view of an image (H, W, C) uint8."""
    height, width = image.shape[:2]
    scale = SIDE / max(height, width)
    size = (max(8, round(width * scale)), max(8, round(height * scale)))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    small = small.reshape(size[1], size[0], -1)  # OpenCV drops the axis of a single channel
    grey = sum(np.moveaxis(small.astype(np.float64), 2, 0)) / small.shape[2]
    return View(np.rint(grey).astype(np.uint8), _content(small))


def _content(small: np.ndarray) -> tuple[int, int, int, int]:
    # channel by channel, for numpy reduces so short an axis twenty times as slowly
    bright = reduce(np.maximum, np.moveaxis(small, 2, 0)) > _DARK
    coloured = colour_spread(small) > _COLOURLESS
    inside = bright & coloured if coloured.mean() > 0.2 else bright
    rows, columns = (np.flatnonzero(inside.mean(axis=axis) > _FILLED) for axis in (1, 0))
    if min(len(rows), len(columns)) < 2 or rows[-1] - rows[0] < 16 or columns[-1] - columns[0] < 16:
        return 0, small.shape[0], 0, small.shape[1]
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


Corners = np.ndarray  # (3, 2) float32: x, y of the top left, top right and bottom left corner


# the whole, its content, and parts that leave out text and insets at one side
CROPS = ("whole", "content", "centre", "upper", "lower", "left", "right")


def crop_of(picture: View, name: str) -> tuple[np.ndarray, Corners]:
    """One of ``CROPS``: the grey crop, and its corners."""
    height, width = picture.grey.shape
    top, bottom, left, right = picture.box
    rows, columns = (bottom - top) // 3, (right - left) // 3
    boxes = {
        "whole": (0, height, 0, width),
        "content": picture.box,
        "centre": (top + rows // 2, bottom - rows // 2, left + columns // 2, right - columns // 2),
        "upper": (top, bottom - rows, left, right),
        "lower": (top + rows, bottom, left, right),
        "left": (top, bottom, left, right - columns),
        "right": (top, bottom, left + columns, right),
    }
    a, b, c, d = boxes[name]
    return picture.grey[a:b, c:d], _corners(a, b, c, d)


def _corners(
    top: int,
    bottom: int,
    left: int,
    right: int,
) -> Corners:
    low, high = (
        (left - 0.5, top - 0.5),
        (right - 0.5, bottom - 0.5),
    )  # pixel centres have whole coordinates
    return np.array([low, (high[0], low[1]), (low[0], high[1])], np.float32)
