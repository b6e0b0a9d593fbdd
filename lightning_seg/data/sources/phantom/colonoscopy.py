"""A frame of a colonoscopy: wall, folds, light, debris and polyps, drawn from a seed."""

import math

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


def draw_colonoscopy(
    rng: Generator,
    size: int,
) -> tuple[np.ndarray, np.ndarray]:
    grid = x, y = pixel_grid(size)
    view = _field_of_view(rng, grid)
    lesions = _lesions(rng, grid)
    inside = (
        np.max([blob_opacity(rho, radius) for rho, radius in lesions], axis=0)
        if lesions
        else np.zeros_like(x)
    )
    relief, shade = _wall(rng, grid)
    relief, shade = _raise(rng, lesions, inside, relief, shade)
    albedo = _mucosa(rng, lesions, inside, size)
    tilt = rng.uniform(0, 2 * np.pi)
    lambert = _lambert(relief, tilt, rng.uniform(0.25, 0.6))
    spot = rng.uniform(-0.6, 0.6, 2).tolist()
    square = (x - spot[0]) ** 2 + (y - spot[1]) ** 2
    falloff = 1.25 / (1 + square * rng.uniform(0.1, 0.7))
    light = falloff * shade * lambert * rng.uniform(0.85, 1.35)
    light = np.clip(light, 0, None)
    colours = [light**0.85, light**1.1, light**1.15]
    image = albedo * np.stack(colours, axis=-1)
    image = _debris(rng, grid, image, light)
    image = _glints(rng, image, lambert, light, size)
    image = _camera(rng, image, view, size)
    mask = (
        (np.min([rho for rho, _ in lesions], axis=0) < 1) & (view > 0.5)
        if lesions
        else np.zeros_like(x)
    )
    return image, mask[..., None].astype(np.uint8)


def _field_of_view(rng: Generator, grid: Grid) -> Field:
    """Opacity of the round or octagonal window; black corners outside it."""
    x, y = grid
    radius = rng.uniform(0.97, 1.12)
    square = np.maximum(abs(x), abs(y))
    diamond = (abs(x) + abs(y)) / rng.uniform(1.3, 1.45)
    octagon = np.maximum(square, diamond)
    is_round = rng.random() < 0.4
    rho = np.hypot(x, y) if is_round else octagon
    return blob_opacity(rho / radius, radius)


def _lesions(
    rng: Generator,
    grid: Grid,
) -> list[tuple[Field, float]]:
    """0 to 3 polyps as (relative distance, mean radius), before the window cuts them: 1 to 38 % of
    the frame."""
    count = rng.choice(4, p=[0.08, 0.72, 0.14, 0.06])
    factor = rng.beta(2.4, 1.0) * math.log(0.38 / 0.012)
    share = math.exp(math.log(0.012) + factor)
    lesions = []
    parts = rng.dirichlet(np.full(max(count, 1), 3.0))
    for part in parts[:count].tolist():
        radius = math.sqrt(4 * share * part / math.pi)
        aspect = math.exp(rng.uniform(-0.3, 0.3))
        reach = 0.85 * math.sqrt(rng.random())
        turn = rng.uniform(0, 2 * np.pi)
        centre = reach * math.cos(turn), reach * math.sin(turn)
        rough = rng.uniform(0.08, 0.34)
        angle = rng.uniform(0, np.pi)
        radii = radius * aspect, radius / aspect
        rho = blob_distance(rng, grid, centre, radii, rough, angle)
        lesions.append((rho, radius))
    return lesions


def _wall(rng: Generator, grid: Grid) -> tuple[Field, Field]:
    """Relief and depth shading of the bowel wall: undulation, haustral folds around the lumen, the
    dark lumen."""
    x, y = grid
    size = len(x)
    relief = (
        0.07 * smooth_noise(rng, size, 4)
        + 0.03 * smooth_noise(rng, size, 9)
        + 0.0014 * smooth_noise(rng, size, 48)
    )
    reach = rng.uniform(0.2, 1.5)
    turn = rng.uniform(0, 2 * np.pi)
    cx = reach * math.cos(turn)
    cy = reach * math.sin(turn)
    distance = np.hypot(x - cx, y - cy)
    distance = distance + 0.07 * smooth_noise(rng, size, 5)
    depth = rng.uniform(0.3, 0.7)
    shade = 1 - depth * bell(distance / rng.uniform(0.5, 1.0))
    first = rng.uniform(0.3, 0.5)
    steps = rng.uniform(0.22, 0.5, rng.integers(1, 5))
    radii = first + np.cumsum(steps)
    for radius in radii.tolist():
        shade *= _mucosal_fold(rng, x - cx, y - cy, distance, radius)
    hole = rng.uniform(0.12, 0.32)
    height = hole * rng.uniform(0.7, 1.4)
    rho = blob_distance(rng, grid, (cx, cy), (hole, height), 0.15)
    depth = rng.uniform(0.6, 0.9)
    shade *= 1 - depth * blob_opacity(rho, hole, soft=0.16)
    return relief, shade


def _mucosal_fold(
    rng: Generator,
    dx: Field,
    dy: Field,
    distance: Field,
    radius: float,
) -> Field:
    """A curved band: its crest catches the light, and the wall behind it (towards the lumen) lies
    in shadow."""
    d = (distance - radius) * rng.uniform(0.9, 1.1)
    d = d + 0.03 * smooth_noise(rng, len(dx), 7)
    turn = rng.uniform(0, 2 * np.pi)
    along = dx * math.cos(turn) + dy * math.sin(turn)
    there = np.clip(0.7 + along / radius, 0, 1)
    height = rng.uniform(0.1, 0.55)
    crest = height * np.exp(-np.maximum(d, 0) / rng.uniform(0.06, 0.16))
    depth = rng.uniform(0.25, 0.6)
    behind = depth * np.exp(np.minimum(d, 0) / rng.uniform(0.08, 0.25))
    edge = np.clip(d / 0.05 + 0.5, 0, 1)
    return 1 + there * (edge * crest - (1 - edge) * behind)


def _raise(
    rng: Generator,
    lesions: list[tuple[Field, float]],
    inside: Field,
    relief: Field,
    shade: Field,
) -> tuple[Field, Field]:
    """Polyps stand out of the wall as domes, some lobed, and hide the folds beneath; a dim ring
    marks the foot."""
    lighter = np.maximum(shade, 0.75) - shade
    shade = shade + lighter * inside * rng.uniform(0.5, 1.0)
    for rho, radius in lesions:
        dome = np.clip(1 - rho**2, 0, None)
        dome = dome ** rng.uniform(0.7, 1.3)
        relief = relief + radius * rng.uniform(0.25, 0.75) * dome
        depth = rng.uniform(0.05, 0.3)
        ring = bell((rho - 1.05) * radius / rng.uniform(0.03, 0.07))
        shade = shade * (1 - depth * ring)
    height = rng.uniform(0.0, 0.04)
    cells = int(rng.integers(6, 14))
    lobes = height * smooth_noise(rng, len(relief), cells)
    return relief + lobes * inside, shade


def _mucosa(
    rng: Generator,
    lesions: list[tuple[Field, float]],
    inside: Field,
    size: int,
) -> Field:
    """Colour (H, W, 3) without light: a drifting pink, vessels on the wall, pits on polyps, pale
    and red patches."""
    green = rng.uniform(0.45, 0.68)
    base = np.array([rng.uniform(0.75, 0.95), 0, 0], np.float32)
    base[1] = base[0] * green
    base[2] = base[1] * rng.uniform(0.68, 0.95)
    drift = np.stack(
        [
            0.03 * smooth_noise(rng, size, 3),
            0.07 * smooth_noise(rng, size, 4),
            0.07 * smooth_noise(rng, size, 4),
        ],
        axis=-1,
    )
    hue = np.array([0.3, 1.0, 1.0], np.float32)
    tint = np.zeros((size, size), np.float32)
    for rho, radius in lesions:
        tint += rng.normal(0.02, 0.11) * blob_opacity(rho, radius, soft=0.04)
    strength = rng.uniform(0, 0.12)
    patches = np.clip(smooth_noise(rng, size, 4) - 0.6, -1, 1)
    tint += strength * patches * (1 - inside)
    vessels = _vessels(rng, size) * (1 - 0.85 * inside)
    depth = rng.uniform(0.02, 0.1)
    cells = int(rng.integers(40, 80))
    pits = depth * smooth_noise(rng, size, cells) * inside
    grain = 0.02 * smooth_noise(rng, size, 90)
    red = hue * (tint - vessels)[..., None]
    return base * (1 + drift + red + (pits + grain)[..., None])


def _vessels(rng: Generator, size: int) -> Field:
    """Thin winding lines: the zero crossings of smooth noise, where another noise lets them
    show."""
    lines = np.zeros((size, size), np.float32)
    for cells, width in ((7, 0.10), (14, 0.16)):
        shown = smooth_noise(rng, size, 5) + 0.3
        winding = bell(smooth_noise(rng, size, cells) / width)
        lines += np.clip(shown, 0, 1) * winding
    return lines * rng.uniform(0.05, 0.3)


def _lambert(relief: Field, tilt: float, slant: float) -> Field:
    """Brightness of the relief under light from the direction ``tilt`` (angle), ``slant`` off the
    line of sight."""
    gy, gx = np.gradient(relief, 2 / len(relief))
    slope = math.cos(tilt) * gx + math.sin(tilt) * gy
    facing = math.cos(slant) - math.sin(slant) * slope
    length = np.sqrt(1 + gx**2 + gy**2)
    return np.clip(facing / length, 0.12, None) ** 0.8


def _debris(
    rng: Generator,
    grid: Grid,
    image: Field,
    light: Field,
) -> Field:
    """Distractors, which are no polyp and may look like one: flat brownish residue, bubbles with a
    bright rim."""
    x, y = grid
    size = len(x)
    for _ in range(rng.poisson(0.8)):
        radius = rng.uniform(0.05, 0.25)
        bx, by = rng.uniform(-0.9, 0.9, 2).tolist()
        height = radius * rng.uniform(0.5, 1.5)
        rho = blob_distance(rng, grid, (bx, by), (radius, height), 0.8)
        rho = rho + 0.25 * smooth_noise(rng, size, 24)
        strength = rng.uniform(0.35, 0.9)
        alpha = strength * blob_opacity(rho, radius, soft=0.06)[..., None]
        dark = rng.uniform(0.6, 0.9)
        colour = [1.0, rng.uniform(0.6, 0.78), rng.uniform(0.15, 0.35)]
        brown = dark * np.array(colour, np.float32)
        lit = light * (1 + 0.1 * smooth_noise(rng, size, 40))
        image = image + alpha * (brown * lit[..., None] - image)
    near = rng.uniform(-0.9, 0.9, 2)
    count = rng.integers(3, 9) if rng.random() < 0.4 else 0
    for _ in range(count):
        bx, by = (near + rng.normal(0, 0.15, 2)).tolist()
        radius = rng.uniform(0.02, 0.09)
        rho = np.hypot(x - bx, y - by) / radius
        rim = 0.35 * bell((rho - 0.9) * radius / 0.012)
        rim = rim + 0.06 * blob_opacity(rho, radius)
        shift = radius / 3
        spark = bell(np.hypot(x - bx + shift, y - by + shift) / 0.014)
        image = image + (rim * (0.4 + light) + spark)[..., None]
    return image


def _glints(
    rng: Generator,
    image: Field,
    lambert: Field,
    light: Field,
    size: int,
) -> Field:
    """Small saturated highlights where wet tissue faces the light, on polyps and wall alike."""
    wet = (
        smooth_noise(rng, size, int(rng.integers(26, 60)))
        + 0.8 * smooth_noise(rng, size, 6)
        + 2.0 * (lambert - 0.9)
    )
    wet = wet - rng.uniform(2.1, 3.2)
    alpha = np.clip(wet * rng.uniform(1.5, 4), 0, 1)[..., None]
    return image + alpha * (1.1 - image)


def _camera(
    rng: Generator,
    image: Field,
    view: Field,
    size: int,
) -> np.ndarray:
    """Exposure, slight defocus, window and sensor noise; (H, W, 3) float to uint8."""
    image = image * rng.uniform(0.85, 1.15)
    sigma = rng.uniform(0.002, 0.008) * size / 2
    image = blurred(image, sigma) * view[..., None]
    noise = rng.uniform(0.004, 0.02)
    image = image + noise * rng.standard_normal(image.shape, dtype=np.float32)
    image = np.clip(image, 0, 1) * 255
    return image.astype(np.uint8)
