"""A slice of an abdominal CT, drawn from a seed.

Greys are those after a soft-tissue window; lengths are in half widths and half depths of the body.
"""

import math
from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.random import Generator

from lightning_seg.data.sources.phantom.shapes import (
    Field,
    Grid,
    bell,
    blob_distance,
    blob_opacity,
    blurred,
    pixel_grid,
    smooth_noise,
)

SLICES_PER_PATIENT = 4
FAT, BILE, MUSCLE, BONE = 48.0, 105.0, 132.0, 245.0


def draw_abdomen(
    patient: Generator, level: int, rng: Generator, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """``patient`` draws the anatomy, alike for each ``level``; ``rng`` draws what changes from
    slice to slice."""
    # about -0.8 (cranial) to 0.8
    z = (level - (SLICES_PER_PATIENT - 1) / 2) / 2 + rng.uniform(-0.1, 0.1)
    x, y = pixel_grid(size)
    half_width = patient.uniform(0.78, 0.94)
    half_depth = patient.uniform(0.58, 0.72)
    grid = x / half_width, (y + 0.06) / half_depth
    tone = patient.uniform(148, 180)  # of the liver
    rim = patient.uniform(0.84, 0.96)  # where the muscle wall begins, inside skin and fat
    image, cavity = _trunk(patient, rng, grid, rim)
    image = _organs(patient, grid, z, image, cavity, tone)
    centre = patient.uniform(-0.35, -0.15), -0.15
    gallbladder = blob_distance(patient, grid, centre, (0.09, 0.13), 0.1, 0.5)
    # absent in 40 %, small in cranial slices
    absent = patient.random() < 0.4
    gallbladder = gallbladder + 2 * max(-z, 0) + 2 * absent
    liver = _liver(patient, grid, z)
    liver = np.maximum(liver, np.maximum(cavity / 0.96, 2 - gallbladder))
    # the spine and its vessels
    spine = blob_distance(patient, grid, (0, 0.45), (0.24, 0.34), 0.0)
    liver = np.maximum(liver, 2 - spine)
    image = _paint(
        image,
        blob_opacity(liver, 0.5),
        tone + _vasculature(rng, size) + 2 * smooth_noise(rng, size, 30),
    )
    tumor = np.full_like(liver, np.inf)
    for rho, radius, contrast in _tumors(patient, grid, z):
        rho = np.maximum(rho, liver)
        # stronger in the core
        grey = tone + contrast * (1 + 0.4 * blob_opacity(2 * rho, radius, soft=0.1))
        image = _paint(image, blob_opacity(rho, radius, soft=0.02), grey)
        tumor = np.minimum(tumor, rho)
    image = _paint(image, blob_opacity(gallbladder, 0.1), BILE)
    image = _skeleton(patient, grid, z, image, 0.95 * rim)
    masks = np.stack([liver < 1, tumor < 1], axis=-1)
    return _scanner(rng, image), masks.astype(np.uint8)


def _paint(image: Field, opacity: Field, grey: Field | float) -> Field:
    return image + opacity * (grey - image)


def _stamp_blob(
    rng: Generator,
    grid: Grid,
    image: Field,
    centre: tuple[float, float],
    radii: tuple[float, float],
    layers: Sequence[tuple[float, float]],
    angle: float = 0.0,
) -> None:
    """Paint into ``image`` a small blob in nested layers (scale, grey); only the pixels around it
    are computed."""
    x, y = grid
    reach = 2 * max(radii) * layers[0][0]
    columns = _span(x[0], centre[0], reach)
    rows = _span(y[:, 0], centre[1], reach)
    here = rows, columns
    rho = blob_distance(rng, (x[here], y[here]), centre, radii, 0.12, angle)
    for scale, grey in layers:
        opacity = blob_opacity(rho / scale, scale * min(radii), soft=0.015)
        image[here] = _paint(image[here], opacity, grey)


def _span(axis: Field, centre: float, reach: float) -> slice:
    """The part of an axis up to ``reach`` from ``centre``."""
    first, last = np.searchsorted(axis, [centre - reach, centre + reach])
    return slice(first, last)


def _trunk(
    patient: Generator,
    rng: Generator,
    grid: Grid,
    rim: float,
) -> tuple[Field, Field]:
    """Table, skin, fat, muscles, bowel loops; also the relative distance of the abdominal
    cavity."""
    x, y = grid
    size = len(x)
    from_table = abs(y - 1.13 + 0.1 * x**2)
    table = np.clip(1.5 - from_table / 0.008, 0, 1) * (abs(x) < 0.9)
    body = blob_distance(patient, grid, (0, 0), (1, 1), 0.05)
    muscle = body / rim
    cavity = muscle / 0.89
    image = _paint(90 * table, blob_opacity(body, 0.8), 95.0)
    grey = FAT + 3 * smooth_noise(rng, size, 40)
    image = _paint(image, blob_opacity(body / 0.985, 0.8), grey)
    grey = MUSCLE + 6 * smooth_noise(rng, size, 30)
    image = _paint(image, blob_opacity(muscle, 0.8), grey)
    grey = FAT + 4 * smooth_noise(rng, size, 24)
    image = _paint(image, blob_opacity(cavity, 0.8), grey)
    loops = smooth_noise(rng, size, 8) + 0.3 * smooth_noise(rng, size, 20)
    loops = loops - patient.uniform(-0.6, 0.3)
    filled = patient.uniform(105, 150)
    grey = filled + 12 * smooth_noise(rng, size, 22)
    bowel = np.clip(loops * 8, 0, 1) * blob_opacity(cavity / 0.95, 0.8)
    image = _paint(image, bowel, grey)
    for side in (-1, 1):
        centre = side * 0.2, 0.72
        _stamp_blob(patient, grid, image, centre, (0.19, 0.16), [(1.0, MUSCLE)])
    return image, cavity


def _organs(
    patient: Generator,
    grid: Grid,
    z: float,
    image: Field,
    cavity: Field,
    tone: float,
) -> Field:
    """Stomach with gas, spleen and kidneys, in greys close to the liver's."""
    x, y = grid
    kept = blob_opacity(cavity / 0.96, 0.8)
    at = patient.uniform(0.25, 0.42), patient.uniform(-0.42, -0.2)
    radii = patient.uniform(0.24, 0.34), patient.uniform(0.25, 0.36)
    stomach = blob_distance(patient, grid, at, radii, 0.25, 0.5)
    grey = tone - patient.uniform(0, 12)
    image = _paint(image, kept * blob_opacity(stomach, 0.25), grey)
    inside = kept * blob_opacity(stomach / 0.88, 0.25)
    filled = tone - patient.uniform(-8, 45)
    uneven = patient.uniform(0, 10) * smooth_noise(patient, len(x), 20)
    image = _paint(image, inside, filled + uneven)
    above = at[1] - patient.uniform(0, 0.3) - y
    image = _paint(image, inside * np.clip(above / 0.015, 0, 1), 2.0)
    spleen = blob_distance(
        patient,
        grid,
        (0.66, 0.22),
        (0.18 - 0.05 * z, 0.42 - 0.1 * z),
        0.2,
        patient.uniform(0.2, 0.5),
    )
    grey = tone + patient.uniform(-10, 14)
    image = _paint(image, kept * blob_opacity(spleen, 0.25), grey)
    for side in (-1, 1):
        radius = 0.12 + 0.05 * z + patient.uniform(-0.03, 0.03)
        at = side * patient.uniform(0.36, 0.42), 0.48
        _stamp_blob(
            patient,
            grid,
            image,
            at,
            (radius, 1.5 * radius),
            [(1.15, FAT), (1.0, 205.0), (0.6, 165.0)],
            0.4 * side,
        )
    return image


def _liver(patient: Generator, grid: Grid, z: float) -> Field:
    """A large right lobe along the wall (left in the image), joined smoothly to a left lobe across
    the midline."""
    grow = patient.uniform(0.88, 1.08)
    grow = grow * (1 - 0.3 * z * patient.random())
    radii = 0.42 * grow, 0.72 * grow
    right = blob_distance(patient, grid, (-0.52, -0.05), radii, 0.25, 0.15)
    reach = patient.uniform(0.35, 0.65) * (1 - 0.6 * z)
    radii = reach, patient.uniform(0.22, 0.34)
    left = blob_distance(patient, grid, (-0.12, -0.5), radii, 0.25, 0.1)
    both = np.exp(-right / 0.09) + np.exp(-left / 0.09)
    return -0.09 * np.log(both)


def _vasculature(rng: Generator, size: int) -> Field:
    """Portal and hepatic veins, brighter than the liver: winding branches and round
    cross-sections."""
    branches = bell(smooth_noise(rng, size, 6) / 0.09)
    branches = branches * np.clip(smooth_noise(rng, size, 5), 0, 1)
    rounds = (smooth_noise(rng, size, 22) - 1.5) * 3
    rounds = np.clip(rounds, 0, 1)
    return rng.uniform(12, 34) * np.maximum(branches, rounds)


def _tumors(
    patient: Generator,
    grid: Grid,
    z: float,
) -> list[tuple[Field, float, float]]:
    """The cuts at level z through a patient's 0 to 4 lesions: (relative distance, radius, contrast
    to the liver)."""
    cuts = []
    count = patient.choice(5, p=[0.12, 0.28, 0.25, 0.2, 0.15])
    smallest, largest = math.log(0.03), math.log(0.21)
    for _ in range(count):
        whole = math.exp(patient.uniform(smallest, largest))
        middle = patient.uniform(-0.8, 0.8)
        extent = patient.uniform(0.5, 1.4)
        reach = math.sqrt(patient.random())
        turn = patient.uniform(0, 2 * np.pi)
        x = -0.48 + 0.33 * reach * math.cos(turn)
        y = -0.1 + 0.55 * reach * math.sin(turn)
        darker = patient.random() < 0.8
        contrast = patient.uniform(-55, -16) if darker else patient.uniform(16, 36)
        square = 1 - ((z - middle) / extent) ** 2
        radius = whole * math.sqrt(max(square, 0))
        width = max(radius, 1e-3)
        height = width * patient.uniform(0.9, 1.5)
        rho = blob_distance(patient, grid, (x, y), (width, height), 0.2)
        if radius > 0.02:
            cuts.append((rho, radius, contrast))
    return cuts


def _skeleton(
    patient: Generator,
    grid: Grid,
    z: float,
    image: Field,
    ring: float,
) -> Field:
    """Aorta and vena cava, vertebra with canal and processes, ribs cut obliquely."""
    stamp = partial(_stamp_blob, patient, grid, image)
    stamp((0.1, 0.24), (0.065, 0.09), [(1.0, 205.0)])
    stamp((-0.09, 0.22), (0.07, 0.075), [(1.0, 190.0)])
    for side in (-1, 1):
        stamp((side * 0.15, 0.66), (0.15, 0.045), [(1.0, 225.0)], side * 0.35)
    stamp((0, 0.78), (0.032, 0.14), [(1.0, 225.0)])
    stamp((0, 0.45), (0.15, 0.16), [(1.0, BONE), (0.85, 198.0)])
    stamp((0, 0.66), (0.06, 0.06), [(1.0, 112.0)])
    turns = 0.3 * np.pi * np.linspace(-1, 1, 5)
    for turn in turns.tolist():
        for half in (0.0, math.pi):
            angle = turn + half + patient.uniform(-0.07, 0.07) + 0.12 * z
            at = ring * math.cos(angle), ring * math.sin(angle)
            radii = patient.uniform(0.05, 0.11), 0.028
            stamp(at, radii, [(1.0, BONE), (0.6, 190.0)], angle + math.pi / 2)
    return image


def _scanner(rng: Generator, image: Field) -> np.ndarray:
    """Reconstruction kernel and correlated noise with faint streaks; (H, W) grey to (H, W, 1)
    uint8."""
    size = len(image)
    image = blurred(image, rng.uniform(0.004, 0.008) * size / 2)
    level = rng.uniform(4, 13)
    grain = rng.standard_normal(image.shape, dtype=np.float32)
    grain = blurred(grain, 0.006 * size / 2)
    streaks = rng.standard_normal(image.shape, dtype=np.float32)
    streaks = blurred(streaks, 0.08 * size / 2, 0.6)
    noise = grain / grain.std() + 0.4 * streaks / streaks.std()
    image = np.clip(image + level * noise, 0, 255)
    return image.astype(np.uint8)[..., None]
