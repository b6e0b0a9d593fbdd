"""Phantom: procedural images that stand in for data while the bench is tried, tested and demonstrated.

Everything here is synthetic: each pixel follows from a seed, nothing is downloaded and no patient was imaged. A score
on these images says whether the software works; it says nothing about clinical performance.

Lengths are in half frame widths: the frame spans -1..1 in x (right) and y (down), whatever its size in pixels.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from lightning_seg.data.sources.base import Sample
from lightning_seg.errors import InputError, unknown

Field = NDArray[np.floating[Any]]  # (H, W), or (H, W, 3) for colours
Grid = tuple[Field, Field]  # x and y of each pixel's centre

KINDS = {"polyp": 0, "ct": 1}
_PATIENT_STREAM = 2  # the anatomy of a CT patient, apart from the streams of KINDS
SLICES_PER_PATIENT = 4


def render(kind: str, seed: int, index: int, size: int = 256) -> tuple[np.ndarray, np.ndarray]:
    """One image and its masks, the same on every call; another ``size`` shows the same scene with other sensor noise.

    Returns:
        ``polyp``: image (size, size, 3) uint8 RGB and mask (size, size, 1) uint8 in {0, 1}: polyp.
        ``ct``: image (size, size, 1) uint8 and mask (size, size, 2): liver including its tumours, tumour. The slices
        4n..4n+3 cut one patient.
    """
    if kind not in KINDS:
        raise unknown("phantom kind", kind, KINDS)
    _at_least("seed", seed, 0)
    _at_least("index", index, 0)
    _at_least("size", size, 16)
    rng = np.random.default_rng([seed, index, KINDS[kind]])
    if kind == "polyp":
        return _colonoscopy(rng, size)
    patient, level = divmod(index, SLICES_PER_PATIENT)
    return _abdomen(np.random.default_rng([seed, patient, _PATIENT_STREAM]), level, rng, size)


def _at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise InputError(f"{name} {value} is too small for a phantom: give {least} or more.")


# --- drawing: every draw is independent of the size in pixels, so that all sizes show one scene ---


def _grid(size: int) -> Grid:
    axis = (np.arange(size, dtype=np.float32) + 0.5) * (2 / size) - 1
    x, y = np.meshgrid(axis, axis)
    return x, y


def _floats(image: np.ndarray) -> Field:
    return image.astype(
        np.float32, copy=False
    )  # OpenCV's annotations do not say that it keeps the type


def _blur(image: Field, sigma: float, sigma_y: float = 0.0) -> Field:
    """Gaussian blur; sigmas in pixels."""
    return _floats(cv2.GaussianBlur(image, (0, 0), sigma, sigmaY=sigma_y))


def _noise(rng: Generator, size: int, cells: int) -> Field:
    """Smooth noise (size, size) of about unit variance with ``cells`` bumps along the frame."""
    coarse = rng.standard_normal((cells, cells), dtype=np.float32)
    return _floats(
        cv2.resize(
            coarse, (size, size), interpolation=cv2.INTER_CUBIC if cells < size else cv2.INTER_AREA
        )
    )


def _blob(
    rng: Generator,
    grid: Grid,
    centre: tuple[float, float],
    radii: tuple[float, float],
    roughness: float,
    angle: float = 0.0,
) -> Field:
    """Relative distance from the centre of an irregular ellipse: 1 on its outline, whose radius is a Fourier series."""
    order = np.arange(2, 8)
    waves = roughness * 2 / order**1.7 * rng.standard_normal(6) * np.exp(2j * np.pi * rng.random(6))
    z = ((grid[0] - centre[0]) + 1j * (grid[1] - centre[1])) * complex(
        math.cos(angle), -math.sin(angle)
    )
    z = z.real / radii[0] + 1j * (z.imag / radii[1])
    distance = np.abs(z)
    unit = z / (distance + 1e-6)
    series = np.zeros_like(unit)
    for wave in reversed(waves.tolist()):
        series = (series + wave) * unit
    return distance / np.maximum(1 + (series * unit).real, 0.4)


def _cover(rho: Field, radius: float, soft: float = 0.012) -> Field:
    """Opacity 0..1 of a blob whose edge is ``soft`` wide."""
    return np.clip((1 - rho) * (radius / soft) + 0.5, 0, 1)


# --- colonoscopy ---


def _colonoscopy(rng: Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    grid = x, y = _grid(size)
    view = _field_of_view(rng, grid)
    lesions = _lesions(rng, grid)
    inside = (
        np.max([_cover(rho, radius) for rho, radius in lesions], axis=0)
        if lesions
        else np.zeros_like(x)
    )
    relief, shade = _wall(rng, grid)
    relief, shade = _raise(rng, lesions, inside, relief, shade)
    albedo = _mucosa(rng, lesions, inside, size)
    tilt = rng.uniform(0, 2 * np.pi)
    lambert = _lambert(relief, tilt, rng.uniform(0.25, 0.6))
    spot = rng.uniform(-0.6, 0.6, 2).tolist()
    falloff = 1.25 / (1 + ((x - spot[0]) ** 2 + (y - spot[1]) ** 2) * rng.uniform(0.1, 0.7))
    light = np.clip(falloff * shade * lambert * rng.uniform(0.85, 1.35), 0, None)
    image = albedo * np.stack([light**0.85, light**1.1, light**1.15], axis=-1)
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
    rho = np.maximum(np.maximum(abs(x), abs(y)), (abs(x) + abs(y)) / rng.uniform(1.3, 1.45))
    return _cover((np.hypot(x, y) if rng.random() < 0.4 else rho) / radius, radius)


def _lesions(rng: Generator, grid: Grid) -> list[tuple[Field, float]]:
    """0 to 3 polyps as (relative distance, mean radius), before the window cuts them: 1 to 38 % of the frame."""
    count = rng.choice(4, p=[0.08, 0.72, 0.14, 0.06])
    share = math.exp(math.log(0.012) + rng.beta(2.4, 1.0) * math.log(0.38 / 0.012))
    lesions = []
    for part in rng.dirichlet(np.full(max(count, 1), 3.0))[:count].tolist():
        radius = math.sqrt(4 * share * part / math.pi)
        aspect = math.exp(rng.uniform(-0.3, 0.3))
        reach, turn = 0.85 * math.sqrt(rng.random()), rng.uniform(0, 2 * np.pi)
        centre = (reach * math.cos(turn), reach * math.sin(turn))
        rough, angle = rng.uniform(0.08, 0.34), rng.uniform(0, np.pi)
        lesions.append(
            (_blob(rng, grid, centre, (radius * aspect, radius / aspect), rough, angle), radius)
        )
    return lesions


def _wall(rng: Generator, grid: Grid) -> tuple[Field, Field]:
    """Relief and depth shading of the bowel wall: undulation, haustral folds around the lumen, the dark lumen."""
    x, y = grid
    size = len(x)
    relief = (
        0.07 * _noise(rng, size, 4) + 0.03 * _noise(rng, size, 9) + 0.0014 * _noise(rng, size, 48)
    )
    reach, turn = rng.uniform(0.2, 1.5), rng.uniform(0, 2 * np.pi)
    cx, cy = reach * math.cos(turn), reach * math.sin(turn)
    distance = np.hypot(x - cx, y - cy) + 0.07 * _noise(rng, size, 5)
    shade = 1 - rng.uniform(0.3, 0.7) * np.exp(-((distance / rng.uniform(0.5, 1.0)) ** 2))
    for radius in (
        rng.uniform(0.3, 0.5) + np.cumsum(rng.uniform(0.22, 0.5, rng.integers(1, 5)))
    ).tolist():
        shade *= _fold(rng, x - cx, y - cy, distance, radius)
    hole = rng.uniform(0.12, 0.32)
    rho = _blob(rng, grid, (cx, cy), (hole, hole * rng.uniform(0.7, 1.4)), 0.15)
    shade *= 1 - rng.uniform(0.6, 0.9) * _cover(rho, hole, soft=0.16)
    return relief, shade


def _fold(rng: Generator, dx: Field, dy: Field, distance: Field, radius: float) -> Field:
    """A curved band: its crest catches the light, and the wall behind it (towards the lumen) lies in shadow."""
    d = (distance - radius) * rng.uniform(0.9, 1.1) + 0.03 * _noise(rng, len(dx), 7)
    turn = rng.uniform(0, 2 * np.pi)
    there = np.clip(0.7 + (dx * math.cos(turn) + dy * math.sin(turn)) / radius, 0, 1)
    crest = rng.uniform(0.1, 0.55) * np.exp(-np.maximum(d, 0) / rng.uniform(0.06, 0.16))
    behind = rng.uniform(0.25, 0.6) * np.exp(np.minimum(d, 0) / rng.uniform(0.08, 0.25))
    edge = np.clip(d / 0.05 + 0.5, 0, 1)
    return 1 + there * (edge * crest - (1 - edge) * behind)


def _raise(
    rng: Generator, lesions: list[tuple[Field, float]], inside: Field, relief: Field, shade: Field
) -> tuple[Field, Field]:
    """Polyps stand out of the wall as domes, some lobed, and hide the folds beneath; a dim ring marks the foot."""
    shade = shade + (np.maximum(shade, 0.75) - shade) * inside * rng.uniform(0.5, 1.0)
    for rho, radius in lesions:
        dome = np.clip(1 - rho**2, 0, None) ** rng.uniform(0.7, 1.3)
        relief = relief + radius * rng.uniform(0.25, 0.75) * dome
        shade = shade * (
            1
            - rng.uniform(0.05, 0.3)
            * np.exp(-(((rho - 1.05) * radius / rng.uniform(0.03, 0.07)) ** 2))
        )
    lobes = rng.uniform(0.0, 0.04) * _noise(rng, len(relief), int(rng.integers(6, 14)))
    return relief + lobes * inside, shade


def _mucosa(rng: Generator, lesions: list[tuple[Field, float]], inside: Field, size: int) -> Field:
    """Colour (H, W, 3) without light: a drifting pink, vessels on the wall, pits on polyps, pale and red patches."""
    green = rng.uniform(0.45, 0.68)
    base = np.array([rng.uniform(0.75, 0.95), 0, 0], np.float32)
    base[1] = base[0] * green
    base[2] = base[1] * rng.uniform(0.68, 0.95)
    drift = np.stack(
        [0.03 * _noise(rng, size, 3), 0.07 * _noise(rng, size, 4), 0.07 * _noise(rng, size, 4)],
        axis=-1,
    )
    hue = np.array([0.3, 1.0, 1.0], np.float32)
    tint = np.zeros((size, size), np.float32)
    for rho, radius in lesions:
        tint += rng.normal(0.02, 0.11) * _cover(rho, radius, soft=0.04)
    tint += rng.uniform(0, 0.12) * np.clip(_noise(rng, size, 4) - 0.6, -1, 1) * (1 - inside)
    vessels = _vessels(rng, size) * (1 - 0.85 * inside)
    pits = rng.uniform(0.02, 0.1) * _noise(rng, size, int(rng.integers(40, 80))) * inside
    grain = 0.02 * _noise(rng, size, 90)
    return base * (1 + drift + hue * (tint - vessels)[..., None] + (pits + grain)[..., None])


def _vessels(rng: Generator, size: int) -> Field:
    """Thin winding lines: the zero crossings of smooth noise, where another noise lets them show."""
    lines = np.zeros((size, size), np.float32)
    for cells, width in ((7, 0.10), (14, 0.16)):
        shown = np.clip(_noise(rng, size, 5) + 0.3, 0, 1)
        lines += shown * np.exp(-((_noise(rng, size, cells) / width) ** 2))
    return lines * rng.uniform(0.05, 0.3)


def _lambert(relief: Field, tilt: float, slant: float) -> Field:
    """Brightness of the relief under light from the direction ``tilt`` (angle), ``slant`` off the line of sight."""
    gy, gx = np.gradient(relief, 2 / len(relief))
    facing = math.cos(slant) - math.sin(slant) * (math.cos(tilt) * gx + math.sin(tilt) * gy)
    return np.clip(facing / np.sqrt(1 + gx**2 + gy**2), 0.12, None) ** 0.8


def _debris(rng: Generator, grid: Grid, image: Field, light: Field) -> Field:
    """What is no polyp and may look like one: flat brownish residue, bubbles with a bright rim."""
    x, y = grid
    size = len(x)
    for _ in range(rng.poisson(0.8)):
        radius, centre = rng.uniform(0.05, 0.25), rng.uniform(-0.9, 0.9, 2).tolist()
        rho = _blob(
            rng, grid, (centre[0], centre[1]), (radius, radius * rng.uniform(0.5, 1.5)), 0.8
        )
        rho = rho + 0.25 * _noise(rng, size, 24)
        alpha = rng.uniform(0.35, 0.9) * _cover(rho, radius, soft=0.06)[..., None]
        brown = rng.uniform(0.6, 0.9) * np.array(
            [1.0, rng.uniform(0.6, 0.78), rng.uniform(0.15, 0.35)], np.float32
        )
        lit = light * (1 + 0.1 * _noise(rng, size, 40))
        image = image + alpha * (brown * lit[..., None] - image)
    near = rng.uniform(-0.9, 0.9, 2)
    for _ in range(rng.integers(3, 9) if rng.random() < 0.4 else 0):
        bx, by = (near + rng.normal(0, 0.15, 2)).tolist()
        radius = rng.uniform(0.02, 0.09)
        rho = np.hypot(x - bx, y - by) / radius
        rim = 0.35 * np.exp(-(((rho - 0.9) * radius / 0.012) ** 2)) + 0.06 * _cover(rho, radius)
        spark = np.exp(-((np.hypot(x - bx + radius / 3, y - by + radius / 3) / 0.014) ** 2))
        image = image + (rim * (0.4 + light) + spark)[..., None]
    return image


def _glints(rng: Generator, image: Field, lambert: Field, light: Field, size: int) -> Field:
    """Small saturated highlights where wet tissue faces the light, on polyps and wall alike."""
    wet = (
        _noise(rng, size, int(rng.integers(26, 60)))
        + 0.8 * _noise(rng, size, 6)
        + 2.0 * (lambert - 0.9)
    )
    alpha = np.clip((wet - rng.uniform(2.1, 3.2)) * rng.uniform(1.5, 4), 0, 1)[..., None]
    return image + alpha * (1.1 - image)


def _camera(rng: Generator, image: Field, view: Field, size: int) -> np.ndarray:
    """Exposure, slight defocus, window and sensor noise; (H, W, 3) float to uint8."""
    image = image * rng.uniform(0.85, 1.15)
    sigma = rng.uniform(0.002, 0.008) * size / 2
    image = _blur(image, sigma) * view[..., None]
    noise = rng.uniform(0.004, 0.02)
    image = image + noise * rng.standard_normal(image.shape, dtype=np.float32)
    return (np.clip(image, 0, 1) * 255).astype(np.uint8)


# --- abdominal CT: greys after a soft-tissue window; lengths in half widths and half depths of the body ---

FAT, BILE, MUSCLE, BONE = 48.0, 105.0, 132.0, 245.0


def _abdomen(
    patient: Generator, level: int, rng: Generator, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """``patient`` draws the anatomy, alike for each ``level``; ``rng`` draws what changes from slice to slice."""
    z = (level - (SLICES_PER_PATIENT - 1) / 2) / 2 + rng.uniform(
        -0.1, 0.1
    )  # about -0.8 (cranial) to 0.8
    x, y = _grid(size)
    grid = x / patient.uniform(0.78, 0.94), (y + 0.06) / patient.uniform(0.58, 0.72)
    tone = patient.uniform(148, 180)  # of the liver
    rim = patient.uniform(0.84, 0.96)  # where the muscle wall begins, inside skin and fat
    image, cavity = _trunk(patient, rng, grid, rim)
    image = _organs(patient, grid, z, image, cavity, tone)
    gallbladder = _blob(
        patient, grid, (patient.uniform(-0.35, -0.15), -0.15), (0.09, 0.13), 0.1, 0.5
    )
    gallbladder = (
        gallbladder + 2 * max(-z, 0) + 2 * (patient.random() < 0.4)
    )  # absent in 40 %, small in cranial slices
    liver = np.maximum(_liver(patient, grid, z), np.maximum(cavity / 0.96, 2 - gallbladder))
    liver = np.maximum(
        liver, 2 - _blob(patient, grid, (0, 0.45), (0.24, 0.34), 0.0)
    )  # the spine and its vessels
    image = _paint(
        image, _cover(liver, 0.5), tone + _vasculature(rng, size) + 2 * _noise(rng, size, 30)
    )
    tumor = np.full_like(liver, np.inf)
    for rho, radius, contrast in _tumors(patient, grid, z):
        rho = np.maximum(rho, liver)
        grey = tone + contrast * (
            1 + 0.4 * _cover(2 * rho, radius, soft=0.1)
        )  # stronger in the core
        image = _paint(image, _cover(rho, radius, soft=0.02), grey)
        tumor = np.minimum(tumor, rho)
    image = _paint(image, _cover(gallbladder, 0.1), BILE)
    image = _scanner(rng, _skeleton(patient, grid, z, image, 0.95 * rim))
    return image, np.stack([liver < 1, tumor < 1], axis=-1).astype(np.uint8)


def _paint(image: Field, opacity: Field, grey: Field | float) -> Field:
    return image + opacity * (grey - image)


def _stamp(
    rng: Generator,
    grid: Grid,
    image: Field,
    centre: tuple[float, float],
    radii: tuple[float, float],
    layers: Sequence[tuple[float, float]],
    angle: float = 0.0,
) -> None:
    """Paint into ``image`` a small blob in nested layers (scale, grey); only the pixels around it are computed."""
    x, y = grid[0][0], grid[1][:, 0]
    reach = 2 * max(radii) * layers[0][0]
    left, right = np.searchsorted(x, [centre[0] - reach, centre[0] + reach])
    top, bottom = np.searchsorted(y, [centre[1] - reach, centre[1] + reach])
    here = slice(top, bottom), slice(left, right)
    rho = _blob(rng, (grid[0][here], grid[1][here]), centre, radii, 0.12, angle)
    for scale, grey in layers:
        image[here] = _paint(image[here], _cover(rho / scale, scale * min(radii), soft=0.015), grey)


def _trunk(patient: Generator, rng: Generator, grid: Grid, rim: float) -> tuple[Field, Field]:
    """Table, skin, fat, muscles, bowel loops; also the relative distance of the abdominal cavity."""
    x, y = grid
    size = len(x)
    table = np.clip(1.5 - abs(y - 1.13 + 0.1 * x**2) / 0.008, 0, 1) * (abs(x) < 0.9)
    body = _blob(patient, grid, (0, 0), (1, 1), 0.05)
    muscle = body / rim
    cavity = muscle / 0.89
    image = _paint(90 * table, _cover(body, 0.8), 95.0)
    image = _paint(image, _cover(body / 0.985, 0.8), FAT + 3 * _noise(rng, size, 40))
    image = _paint(image, _cover(muscle, 0.8), MUSCLE + 6 * _noise(rng, size, 30))
    image = _paint(image, _cover(cavity, 0.8), FAT + 4 * _noise(rng, size, 24))
    loops = _noise(rng, size, 8) + 0.3 * _noise(rng, size, 20) - patient.uniform(-0.6, 0.3)
    filled = patient.uniform(105, 150) + 12 * _noise(rng, size, 22)
    image = _paint(image, np.clip(loops * 8, 0, 1) * _cover(cavity / 0.95, 0.8), filled)
    for side in (-1, 1):
        _stamp(patient, grid, image, (side * 0.2, 0.72), (0.19, 0.16), [(1.0, MUSCLE)])
    return image, cavity


def _organs(
    patient: Generator, grid: Grid, z: float, image: Field, cavity: Field, tone: float
) -> Field:
    """Stomach with gas, spleen and kidneys, in greys close to the liver's."""
    x, y = grid
    kept = _cover(cavity / 0.96, 0.8)
    at = patient.uniform(0.25, 0.42), patient.uniform(-0.42, -0.2)
    stomach = _blob(
        patient, grid, at, (patient.uniform(0.24, 0.34), patient.uniform(0.25, 0.36)), 0.25, 0.5
    )
    image = _paint(image, kept * _cover(stomach, 0.25), tone - patient.uniform(0, 12))
    inside = kept * _cover(stomach / 0.88, 0.25)
    image = _paint(
        image,
        inside,
        tone - patient.uniform(-8, 45) + patient.uniform(0, 10) * _noise(patient, len(x), 20),
    )
    image = _paint(
        image, inside * np.clip((at[1] - patient.uniform(0, 0.3) - y) / 0.015, 0, 1), 2.0
    )
    spleen = _blob(
        patient,
        grid,
        (0.66, 0.22),
        (0.18 - 0.05 * z, 0.42 - 0.1 * z),
        0.2,
        patient.uniform(0.2, 0.5),
    )
    image = _paint(image, kept * _cover(spleen, 0.25), tone + patient.uniform(-10, 14))
    for side in (-1, 1):
        radius = 0.12 + 0.05 * z + patient.uniform(-0.03, 0.03)
        at = side * patient.uniform(0.36, 0.42), 0.48
        _stamp(
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
    """A large right lobe along the wall (left in the image), joined smoothly to a left lobe across the midline."""
    grow = patient.uniform(0.88, 1.08) * (1 - 0.3 * z * patient.random())
    right = _blob(patient, grid, (-0.52, -0.05), (0.42 * grow, 0.72 * grow), 0.25, 0.15)
    reach = patient.uniform(0.35, 0.65) * (1 - 0.6 * z)
    left = _blob(patient, grid, (-0.12, -0.5), (reach, patient.uniform(0.22, 0.34)), 0.25, 0.1)
    return -0.09 * np.log(np.exp(-right / 0.09) + np.exp(-left / 0.09))


def _vasculature(rng: Generator, size: int) -> Field:
    """Portal and hepatic veins, brighter than the liver: winding branches and round cross-sections."""
    branches = np.exp(-((_noise(rng, size, 6) / 0.09) ** 2)) * np.clip(_noise(rng, size, 5), 0, 1)
    rounds = np.clip((_noise(rng, size, 22) - 1.5) * 3, 0, 1)
    return rng.uniform(12, 34) * np.maximum(branches, rounds)


def _tumors(patient: Generator, grid: Grid, z: float) -> list[tuple[Field, float, float]]:
    """The cuts at level z through a patient's 0 to 4 lesions: (relative distance, radius, contrast to the liver)."""
    cuts = []
    for _ in range(patient.choice(5, p=[0.12, 0.28, 0.25, 0.2, 0.15])):
        largest = math.exp(patient.uniform(math.log(0.03), math.log(0.21)))
        middle, extent = patient.uniform(-0.8, 0.8), patient.uniform(0.5, 1.4)
        reach, turn = math.sqrt(patient.random()), patient.uniform(0, 2 * np.pi)
        centre = -0.48 + 0.33 * reach * math.cos(turn), -0.1 + 0.55 * reach * math.sin(turn)
        contrast = patient.uniform(-55, -16) if patient.random() < 0.8 else patient.uniform(16, 36)
        radius = largest * math.sqrt(max(1 - ((z - middle) / extent) ** 2, 0))
        rho = _blob(
            patient,
            grid,
            centre,
            (max(radius, 1e-3), max(radius, 1e-3) * patient.uniform(0.9, 1.5)),
            0.2,
        )
        if radius > 0.02:
            cuts.append((rho, radius, contrast))
    return cuts


def _skeleton(patient: Generator, grid: Grid, z: float, image: Field, ring: float) -> Field:
    """Aorta and vena cava, vertebra with canal and processes, ribs cut obliquely."""
    _stamp(patient, grid, image, (0.1, 0.24), (0.065, 0.09), [(1.0, 205.0)])
    _stamp(patient, grid, image, (-0.09, 0.22), (0.07, 0.075), [(1.0, 190.0)])
    for side in (-1, 1):
        _stamp(
            patient, grid, image, (side * 0.15, 0.66), (0.15, 0.045), [(1.0, 225.0)], side * 0.35
        )
    _stamp(patient, grid, image, (0, 0.78), (0.032, 0.14), [(1.0, 225.0)])
    _stamp(patient, grid, image, (0, 0.45), (0.15, 0.16), [(1.0, BONE), (0.85, 198.0)])
    _stamp(patient, grid, image, (0, 0.66), (0.06, 0.06), [(1.0, 112.0)])
    for turn in (0.3 * np.pi * np.linspace(-1, 1, 5)).tolist():
        for half in (0.0, math.pi):
            angle = turn + half + patient.uniform(-0.07, 0.07) + 0.12 * z
            at = ring * math.cos(angle), ring * math.sin(angle)
            radii = patient.uniform(0.05, 0.11), 0.028
            _stamp(
                patient, grid, image, at, radii, [(1.0, BONE), (0.6, 190.0)], angle + math.pi / 2
            )
    return image


def _scanner(rng: Generator, image: Field) -> np.ndarray:
    """Reconstruction kernel and correlated noise with faint streaks; (H, W) grey to (H, W, 1) uint8."""
    size = len(image)
    image = _blur(image, rng.uniform(0.004, 0.008) * size / 2)
    level = rng.uniform(4, 13)
    grain = _blur(rng.standard_normal(image.shape, dtype=np.float32), 0.006 * size / 2)
    streaks = _blur(rng.standard_normal(image.shape, dtype=np.float32), 0.08 * size / 2, 0.6)
    image = image + level * (grain / grain.std() + 0.4 * streaks / streaks.std())
    return np.clip(image, 0, 255).astype(np.uint8)[..., None]


# --- the data sources ---


class _Phantom:
    """What the two phantoms share: images by number, rendered when read. ``root`` is ignored: nothing lies on disk."""

    synthetic = True
    kind: str
    classes: tuple[str, ...]
    in_channels: int
    default_protocol: str

    def __init__(
        self, root: Path | None = None, count: int = 400, seed: int = 0, resolution: int = 256
    ) -> None:
        _at_least("count", count, 1)
        _at_least("seed", seed, 0)
        _at_least("resolution", resolution, 16)
        self.seed, self.resolution = seed, resolution
        self.ids = [f"{self.kind}-{index:04d}" for index in range(count)]  # sorted up to 10,000
        self._index = {name: index for index, name in enumerate(self.ids)}
        self.groups = {name: self._group(index) for name, index in self._index.items()}

    def _group(self, index: int) -> str:
        return self.ids[index]

    def read(self, id: str) -> Sample:
        """Image (H, W, C) uint8 and masks (H, W, K) uint8 in {0, 1} at ``resolution``."""
        if id not in self._index:
            raise InputError(
                f"no image named {id!r}; there are {self.ids[0]} to {self.ids[-1]}: raise count for more."
            )
        return Sample(*render(self.kind, self.seed, self._index[id], self.resolution))


class PhantomPolyp(_Phantom):
    """Colonoscopy-like frames with polyps; registry name ``phantom_polyp``."""

    kind = "polyp"
    classes: tuple[str, ...] = ("polyp",)
    in_channels = 3
    default_protocol = "phantom-polyp"


class PhantomCT(_Phantom):
    """CT-like slices with liver and tumours, four of each patient; registry name ``phantom_ct``."""

    kind = "ct"
    classes: tuple[str, ...] = ("liver", "tumor")
    in_channels = 1
    default_protocol = "phantom-ct"

    def _group(self, index: int) -> str:
        return f"patient-{index // SLICES_PER_PATIENT:02d}"
