"""Outlines of objects as polygons, and the pixels within them."""

from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from lightning_seg.errors import InputError


def outlines(path: Path) -> list[np.ndarray]:
    """The polygons of an Aperio ImageScope file, each (N, 2): x and y in pixels from the corner."""
    try:
        regions = list(ElementTree.parse(path).iter("Region"))
        polygons = [np.array([*map(_corner, region.iter("Vertex"))]) for region in regions]
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; restore the file.") from None
    except (ElementTree.ParseError, KeyError, ValueError) as error:
        raise InputError(
            f"{path} holds no readable outlines ({error}); fetch or copy this file again."
        ) from error
    if not polygons:
        raise InputError(
            f"{path} holds no outline (no element Region); fetch or copy this file again."
        )
    return polygons


def _corner(vertex: ElementTree.Element) -> tuple[float, float]:
    return float(vertex.attrib["X"]), float(vertex.attrib["Y"])


def rasterise(
    polygons: list[np.ndarray],
    shape: tuple[int, ...],
) -> np.ndarray:
    """(H, W) uint8, 1 where a pixel's centre lies in a polygon, by the even-odd rule.

    Polygons of under 3 vertices are empty.
    """
    mask = np.zeros(shape, np.uint8)
    for polygon in polygons:
        if len(polygon) < 3:
            continue
        (left, top), (right, bottom) = polygon.min(0).clip(0), polygon.max(0).clip(0)
        window = np.s_[int(top) : int(np.ceil(bottom)), int(left) : int(np.ceil(right))]
        height, width = mask[window].shape
        rows, columns = (
            np.arange(height)[:, None] + int(top) + 0.5,
            np.arange(width) + int(left) + 0.5,
        )
        mask[window] |= _inside(polygon, rows, columns)
    return mask


def _inside(
    polygon: np.ndarray,
    rows: np.ndarray,
    columns: np.ndarray,
) -> np.ndarray:
    """(h, w) bool: an odd number of edges crosses the ray from the point to the right."""
    odd = np.zeros(np.broadcast_shapes(rows.shape, columns.shape), bool)
    for (x0, y0), (x1, y1) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        if y0 != y1:
            odd ^= ((y0 > rows) != (y1 > rows)) & (
                columns < x0 + (rows - y0) * (x1 - x0) / (y1 - y0)
            )
    return odd
