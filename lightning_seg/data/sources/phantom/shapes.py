"""Shapes and textures of phantoms: every draw is independent of the size in pixels.

Lengths are in half frame widths: the frame spans -1..1 in x (right) and y (down).
"""

import math
from typing import Any

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Field = NDArray[np.floating[Any]]  # (H, W), or (H, W, 3) for colours
Grid = tuple[Field, Field]  # x and y of each pixel's centre


def pixel_grid(size: int) -> Grid:
    middles = np.arange(size, dtype=np.float32) + 0.5
    axis = middles * (2 / size) - 1
    x, y = np.meshgrid(axis, axis)
    return x, y


def as_floats(image: np.ndarray) -> Field:
    # OpenCV's annotations do not say that it keeps the type
    return image.astype(np.float32, copy=False)


def bell(distance: Field) -> Field:
    """A Gaussian of the distance: 1 at 0, 1/e at 1."""
    return np.exp(-(distance**2))


def blurred(image: Field, sigma: float, sigma_y: float = 0.0) -> Field:
    """Gaussian blur; sigmas in pixels."""
    return as_floats(cv2.GaussianBlur(image, (0, 0), sigma, sigmaY=sigma_y))


def smooth_noise(rng: Generator, size: int, cells: int) -> Field:
    """Smooth noise (size, size) of about unit variance with ``cells`` bumps along the frame."""
    coarse = rng.standard_normal((cells, cells), dtype=np.float32)
    how = cv2.INTER_CUBIC if cells < size else cv2.INTER_AREA
    return as_floats(cv2.resize(coarse, (size, size), interpolation=how))


def blob_distance(
    rng: Generator,
    grid: Grid,
    centre: tuple[float, float],
    radii: tuple[float, float],
    roughness: float,
    angle: float = 0.0,
) -> Field:
    """Relative distance from the centre of an irregular ellipse: 1 on its outline, whose radius is
    a Fourier series."""
    order = np.arange(2, 8)
    heights = roughness * 2 / order**1.7 * rng.standard_normal(6)
    waves = heights * np.exp(2j * np.pi * rng.random(6))
    z = (grid[0] - centre[0]) + 1j * (grid[1] - centre[1])
    z = z * complex(math.cos(angle), -math.sin(angle))
    z = z.real / radii[0] + 1j * (z.imag / radii[1])
    distance = np.abs(z)
    unit = z / (distance + 1e-6)
    series = np.zeros_like(unit)
    for wave in reversed(waves.tolist()):
        series = (series + wave) * unit
    return distance / np.maximum(1 + (series * unit).real, 0.4)


def blob_opacity(rho: Field, radius: float, soft: float = 0.012) -> Field:
    """Opacity 0..1 of a blob whose edge is ``soft`` wide."""
    return np.clip((1 - rho) * (radius / soft) + 0.5, 0, 1)
