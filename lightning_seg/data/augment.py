"""Random changes of an image and its masks that follow from a seed and a key alone. The only user of albumentations.

Albumentations 2.0.8 draws the same numbers in each DataLoader worker, and with ``seed=`` gives every transform the same
stream (flips then always fire together). So each call here sets the state of all transforms anew, from (seed, key).
"""

import inspect
import os
import random
import zlib
from difflib import get_close_matches
from typing import Any

import numpy as np

from lightning_seg.errors import InputError, unknown

Transforms = list[dict[str, Any]]
Key = tuple[int | str, ...]

PRESETS: dict[str, Transforms] = {
    "none": [],
    "unet_a": [
        {"name": "HorizontalFlip", "p": 0.5},
        {"name": "VerticalFlip", "p": 0.5},
        {"name": "Rotate", "limit": 30, "p": 1.0},
        {"name": "ColorJitter", "brightness": 0.2, "contrast": 0.2, "saturation": 0.2, "hue": 0, "p": 1.0},
    ],
}
# The library's own defaults are strong: Rotate turns by 90 degrees, ColorJitter shifts the hue by half a turn.
_REQUIRED = {
    "Rotate": ("limit",),
    "ColorJitter": ("brightness", "contrast", "saturation"),
    "HueSaturationValue": ("sat_shift_limit", "val_shift_limit"),
}
_DEFAULTS: dict[str, dict[str, Any]] = {"ColorJitter": {"hue": 0}, "HueSaturationValue": {"hue_shift_limit": 0}}


def transforms_of(augment: str | Transforms) -> Transforms:
    """The transforms of a preset, or the given list itself."""
    if not isinstance(augment, str):
        return augment
    if augment not in PRESETS:
        raise unknown("augmentation preset", augment, PRESETS)
    return PRESETS[augment]


class Augmentation:
    """A chain of albumentations transforms.

    Args:
        transforms: ``{"name": <class in albumentations>, <its arguments>}``; ``p`` is the chance that it is
            applied (where it is left out, the library's own: 0.5 for most).
        seed: with the key of a call, all that the random numbers depend on.

    Errors: InputError for an unknown transform, an unknown or missing argument, or an illegal value.
    """

    def __init__(self, transforms: Transforms, seed: int) -> None:
        if seed < 0:
            raise InputError(f"the seed of the augmentation is {seed}; give a whole number from 0.")
        self.transforms, self.seed = transforms, seed
        self._chain = _compose(transforms) if transforms else None

    def __reduce__(self) -> tuple[type["Augmentation"], tuple[Transforms, int]]:
        return Augmentation, (self.transforms, self.seed)  # for workers that are spawned: rebuilt from primitives

    def __call__(self, image: np.ndarray, mask: np.ndarray, key: Key) -> tuple[np.ndarray, np.ndarray]:
        """Image (H, W, C) uint8 and mask (H, W, K) in {0, 1}, changed alike; the same for the same seed and key."""
        if self._chain is None:
            return image, mask
        entropy = [zlib.crc32(part.encode()) if isinstance(part, str) else part for part in (self.seed, *key)]
        first, second = np.random.SeedSequence(entropy).spawn(2)
        self._chain.set_random_state(np.random.default_rng(first), random.Random(int(second.generate_state(1)[0])))
        changed = self._chain(image=image, mask=mask)
        if changed["image"].shape != image.shape or changed["image"].dtype != image.dtype:
            raise InputError(
                f"the transforms turn an image of {image.shape} {image.dtype} into {changed['image'].shape} "
                f"{changed['image'].dtype}; use transforms that keep size and type."
            )
        return changed["image"], changed["mask"]


def _compose(transforms: Transforms) -> Any:
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # before the import, which would ask PyPI for a newer version
    import albumentations

    return albumentations.Compose([_build(albumentations, transform) for transform in transforms])


def _build(library: Any, transform: dict[str, Any]) -> Any:
    arguments = dict(transform)
    name = arguments.pop("name", None)
    if name is None:
        raise InputError(f"the transform {transform} has no name; write {{name: HorizontalFlip, p: 0.5}}.")
    kinds = _kinds(library)
    if name not in kinds:
        raise unknown("transform", name, kinds)
    arguments = _DEFAULTS.get(name, {}) | arguments
    _check_arguments(name, arguments, list(inspect.signature(kinds[name]).parameters))
    try:
        built = kinds[name](**arguments)
    except (TypeError, ValueError) as error:
        raise InputError(f"transform {name} refuses {arguments}: {_first_reason(error)}.") from error
    if set(built.targets_as_params) - {"image", "mask"}:
        raise InputError(f"transform {name} needs {', '.join(built.targets_as_params)} too; choose another transform.")
    return built


def _kinds(library: Any) -> dict[str, Any]:
    bases = (library.DualTransform, library.ImageOnlyTransform)
    found = {name: kind for name, kind in vars(library).items() if inspect.isclass(kind) and issubclass(kind, bases)}
    return {name: kind for name, kind in found.items() if ".augmentations." in kind.__module__}  # leaves out the bases


def _check_arguments(name: str, given: dict[str, Any], legal: list[str]) -> None:
    for argument in given:
        if argument not in legal:
            near = get_close_matches(argument, legal, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise InputError(f"transform {name} has no argument {argument!r}; {hint}it takes {', '.join(legal)}.")
    missing = [argument for argument in _REQUIRED.get(name, ()) if argument not in given]
    if missing:
        raise InputError(f"transform {name} needs {', '.join(missing)}: its default is strong; write it out.")


def _first_reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines()]
    return lines[2].partition(" [type=")[0] if len(lines) > 2 else lines[0]  # pydantic: title, field, reason
