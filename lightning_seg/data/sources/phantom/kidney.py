"""A kidney in cross-section, drawn from a seed: three tissues, one within the other."""

import numpy as np
from numpy.random import Generator

from lightning_seg.data.sources.phantom.shapes import (
    blob_distance,
    blurred,
    pixel_grid,
    smooth_noise,
)

# greys of what surrounds it, of cortex, medulla and pelvis; they differ less than the noise
GREYS = (78.0, 124.0, 106.0, 138.0)
_NOISE, _GRAIN = 16.0, 0.8  # its deviation, and the width of its grains in pixels


def draw_kidney(
    rng: Generator,
    size: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Image (size, size, 1) uint8 and masks (size, size, 3) of cortex, medulla and pelvis."""
    grid = pixel_grid(size)
    centre = rng.uniform(-0.2, 0.2), rng.uniform(-0.2, 0.2)
    long, angle = rng.uniform(0.5, 0.72), rng.uniform(0, np.pi)
    outline = blob_distance(rng, grid, centre, (long, 0.66 * long), 0.06, angle)
    inner = rng.uniform(0.66, 0.78)
    # pyramids: the border of the medulla is rough
    medulla = blob_distance(rng, grid, centre, (inner * long, 0.66 * inner * long), 0.2, angle)
    reach = 0.34 * long
    pelvis = blob_distance(rng, grid, centre, (reach, 0.6 * reach), 0.2, angle)
    inside = outline < 1
    tissue = inside.astype(np.uint8)
    tissue[inside & (medulla < 1)] = 2
    tissue[inside & (pelvis < 1)] = 3
    greys = np.array(GREYS) + rng.uniform(-8, 8, 4)
    image = blurred(greys.astype(np.float32)[tissue], size / 200)
    image += 10 * smooth_noise(rng, size, 3)
    noise = rng.standard_normal((size, size), dtype=np.float32)
    image += _NOISE * blurred(noise, _GRAIN) * 2
    masks = np.stack([tissue == number for number in (1, 2, 3)], 2)
    levels = np.clip(np.rint(image), 0, 255).astype(np.uint8)
    return levels[..., None], masks.astype(np.uint8)
