"""What leaving albumentations costs: the transforms of the presets, by a free library, against what ours computes."""

from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from lightning_seg.data.augment import pipeline
from lightning_seg.data.augment.kernels import _KERNELS
from lightning_seg.data.augment.pipeline import PRESETS
from lightning_seg.data.sources.phantom import render_phantom

LEVELS = 1  # of 255, between the two
# transform -> the function of torchvision (BSD) that does the same
SUCCESSORS = {
    "HorizontalFlip": "horizontal_flip",
    "VerticalFlip": "vertical_flip",
    "Transpose": "rotate",
    "Rotate": "rotate",
    "ColorJitter": "adjust_brightness",
    "GaussNoise": "gaussian_noise",
    "CoarseDropout": "erase",
    "PadIfNeeded": "pad",
    "CenterCrop": "center_crop",
    "CropAndPad": "resized_crop",
}
WITHOUT = {"GridDistortion"}  # neither torchvision nor kornia has it: it would be a kernel of ours


def names(content: Any) -> set[str]:
    """The transforms of the library that a chain names."""
    if isinstance(content, list):
        return set().union(*map(names, content))
    own = set() if content["name"] in pipeline._OWN else {content["name"]}
    return own | names(content.get("transforms", []))


def test_every_transform_of_a_preset_has_a_kernel_or_a_successor() -> None:
    used = set().union(*(names(preset) for preset in PRESETS.values()))
    assert used <= set(SUCCESSORS) | set(_KERNELS) | WITHOUT
    assert used >= WITHOUT
    assert all(hasattr(functional, name) for name in SUCCESSORS.values())


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    return np.ascontiguousarray(render_phantom("polyp", 42, 0, 128)[0])


def built(name: str, **arguments: Any) -> Any:
    return pipeline._build_transform(name, arguments | {"p": 1.0})


def as_torch(picture: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(picture.transpose(2, 0, 1).copy())


def assert_alike(ours: np.ndarray, theirs: torch.Tensor) -> None:
    difference = np.abs(ours.astype(int) - theirs.numpy().transpose(1, 2, 0).astype(int))
    assert difference.max() <= LEVELS


@pytest.mark.parametrize("name", ["HorizontalFlip", "VerticalFlip"])
def test_flips_are_the_same(picture: np.ndarray, name: str) -> None:
    ours = _KERNELS[name].image(built(name), picture, {})
    theirs = getattr(functional, SUCCESSORS[name])(as_torch(picture))
    np.testing.assert_array_equal(ours, theirs.numpy().transpose(1, 2, 0))


@pytest.mark.parametrize("degrees", [-75.0, 10.0, 37.0])
def test_turns_differ_by_a_level_at_most(picture: np.ndarray, degrees: float) -> None:
    transform = built("Rotate", limit=(degrees, degrees), border_mode=cv2.BORDER_CONSTANT, fill=0)
    kernel = _KERNELS["Rotate"]
    ours = kernel.image(transform, picture, kernel.draw(transform, picture, picture))
    theirs = functional.rotate(as_torch(picture), degrees, InterpolationMode.BILINEAR)
    assert_alike(ours, theirs)


@pytest.mark.parametrize("factor", [0.7, 1.3])
@pytest.mark.parametrize("part", ["brightness", "contrast", "saturation"])
def test_colours_differ_by_a_level_at_most(picture: np.ndarray, part: str, factor: float) -> None:
    neutral = {"brightness": 1, "contrast": 1, "saturation": 1, "hue": 0}
    params = neutral | {part: factor, "order": [0, 1, 2, 3]}
    ours = _KERNELS["ColorJitter"].image(
        built("ColorJitter", brightness=0.5, contrast=0.5, saturation=0.5), picture, params
    )
    assert_alike(ours, getattr(functional, f"adjust_{part}")(as_torch(picture), factor))
