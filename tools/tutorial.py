"""What tutorials need to be executed while the documentation is built: the recipes beside the page, data
that are made by a program, and a shell whose failing commands end the build."""

import os
import subprocess
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from lightning_seg.data.sources.phantom import render_phantom

ROOT = Path(__file__).parents[1]


def begin() -> None:
    """Make the working folder look like a checkout, and let failing shell commands raise."""
    from IPython import get_ipython

    os.symlink(ROOT / "experiments", "experiments")
    os.symlink(ROOT / "hpo", "hpo")
    os.environ["COLUMNS"] = "96"
    for name in ("FORCE_COLOR", "CLICOLOR_FORCE"):  # of Jupyter; they draw bars that move
        os.environ.pop(name, None)
    get_ipython().system = _run


def _run(command: str) -> None:
    done = subprocess.run(
        command, shell=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    print(done.stdout.replace(f"{Path.cwd()}/", "").replace(str(Path.home()), "~"))
    if done.returncode:
        raise RuntimeError(f"{command} ended with code {done.returncode}")


def show(picture: str | Path, width: int = 640) -> object:
    """A picture of the page; ``picture`` may be a pattern."""
    from IPython.display import Image as Shown

    [found] = Path().glob(str(picture))
    return Shown(filename=str(found), width=width)


def write_polyps(root: Path, patients: int = 60, frames: int = 2, size: int = 96) -> None:
    """Phantom polyps as a clinic may hand them out: ``patient03_2.jpg`` with ``patient03_2_mask.png``."""
    root.mkdir(parents=True)
    for number in range(patients * frames):
        patient, frame = divmod(number, frames)
        image, mask = render_phantom("polyp", 7, number, size)
        stem = f"patient{patient + 1:02d}_{frame + 1}"
        Image.fromarray(image).save(root / f"{stem}.jpg", quality=95)
        Image.fromarray(255 * mask[..., 0]).save(root / f"{stem}_mask.png")


def write_vessels(root: Path, images: int = 20) -> None:
    """Drawn retinas in STARE's layout: trees of dark vessels on an orange disc."""
    from lightning_seg.data.sources.stare import NUMBERS

    for number in NUMBERS[:images]:
        image, mask = _retina(number)
        for folder, name, pixels in (
            ("images", f"im{number:04d}.ppm", image),
            ("labels-ah", f"im{number:04d}.ah.ppm", mask),
        ):
            path = root / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)


def _retina(seed: int, height: int = 605, width: int = 700) -> tuple[np.ndarray, np.ndarray]:
    """A photograph (H, W, 3) and the mask (H, W) of its vessels, uint8."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((height, width), np.uint8)
    centre = np.array([width * 0.7, height * 0.5])
    for angle in rng.uniform(0, 2 * np.pi, 8):
        _branch(mask, rng, centre, angle, thickness=9)
    rows, columns = np.mgrid[:height, :width]
    inside = (rows - height / 2) ** 2 + (columns - width / 2) ** 2 < (height * 0.48) ** 2
    mask *= inside
    image = np.zeros((height, width, 3), np.float64)
    image[inside] = 190, 95, 40
    image[mask > 0] *= 0.6
    image = cv2.GaussianBlur(image, (0, 0), 1.2) + rng.normal(0, 4, image.shape)
    return np.clip(image, 0, 255).astype(np.uint8), mask


def _branch(
    mask: np.ndarray, rng: np.random.Generator, start: np.ndarray, angle: float, thickness: int
) -> None:
    while thickness > 1:
        for _ in range(5):
            angle += rng.normal(0, 0.15)
            end = start + 14 * np.array([np.cos(angle), np.sin(angle)])
            ends = [tuple(int(each) for each in np.rint(point)) for point in (start, end)]
            cv2.line(mask, ends[0], ends[1], 255, thickness)
            start = end
        if rng.random() < 0.6:
            _branch(mask, rng, start, angle + rng.choice([-0.7, 0.7]), thickness - 2)
        thickness -= 1
