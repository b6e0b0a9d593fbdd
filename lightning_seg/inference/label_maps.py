"""Label maps of exclusive classes: one number for each pixel, 0 where there is no class."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lightning_seg.errors import InputError
from lightning_seg.files import write_whole

FOLDER, NAMES = "labels", "labels.json"
MOST = 255  # classes of a map of 8 bits


def label_map(masks: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Masks (K, ...) that do not overlap -> (...) with the number of the class, from 1."""
    found = np.zeros(masks.shape[1:], np.uint8)
    for number, mask in enumerate(masks, start=1):
        found[mask] = number
    return found


def label_file(folder: Path, name: str, suffix: str = ".png") -> Path:
    """Where the label map of an input lies: ``labels/<name>.png``."""
    return folder / FOLDER / f"{name}{suffix}"


def write_label_names(folder: Path, classes: Sequence[str]) -> None:
    """Write ``labels.json``, the name of each number; InputError for more classes than numbers."""
    if len(classes) > MOST:
        raise InputError(f"a label map holds at most {MOST} classes, and these are {len(classes)}.")
    names = dict(enumerate(["background", *classes]))
    write_whole(folder / NAMES, (json.dumps(names, indent=1) + "\n").encode())
