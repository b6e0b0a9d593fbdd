"""Random changes of an image, its masks and its region, which follow from a seed and a key alone.
The only user of albumentations.

Albumentations 2.0.8 draws the same numbers in each DataLoader worker, and with ``seed=`` gives
every transform the same stream (flips then always fire together). So each call here sets the state
of all transforms anew, from (seed, key).

A chain is a list of ``{name: <a class of albumentations>, <its arguments>}``. Of our own there are

* ``{name: OneOf, transforms: [...], p: 0.5}``: one of its transforms, whose ``p`` are their weights
  (0.5 where left out);
* ``{name: ByCopy, transforms: [...]}``: copy 1 of an image takes the first, copy 2 the second, ...,
  copy 0 none; each entry is a transform or a list of them;
* ``{name: MixedFlip, p: 0.5}``: turns the image left to right and its mask upside down, for the
  sake of results that had this bug;
* ``{name: SpecularHighlights, count: 10, size: 0.04, p: 0.5}``: white ellipses with soft rims at
  random places, as wet tissue shows them; ``size`` is their longest half axis as a share of the
  shorter side.
"""

import copy
import inspect
import os
import random
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import yaml

from lightning_seg.data.augment.kernels import kernel
from lightning_seg.data.sources.base import Sample
from lightning_seg.errors import InputError, near_match, unknown
from lightning_seg.files.documents import read_yaml

Transforms = list[dict[str, Any]]
Key = tuple[int | str, ...]  # ends with (copy, id)

PRESETS: dict[str, Transforms] = {
    path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) or []
    for path in sorted((Path(__file__).parent / "presets").glob("*.yaml"))
}
# The library's own defaults are strong: Rotate turns by 90 degrees, ColorJitter shifts the hue by half a turn.
_REQUIRED = {
    "Rotate": ("limit",),
    "ColorJitter": ("brightness", "contrast", "saturation"),
    "HueSaturationValue": ("sat_shift_limit", "val_shift_limit"),
}
_DEFAULTS: dict[str, dict[str, Any]] = {
    "ColorJitter": {"hue": 0},
    "HueSaturationValue": {"hue_shift_limit": 0},
}


def transforms_of(augment: str | Transforms) -> Transforms:
    """The transforms of a preset or of a YAML file, or the given list itself."""
    if not isinstance(augment, str):
        return augment
    if Path(augment).suffix in (".yaml", ".yml"):
        return _read_transforms(Path(augment).expanduser())
    if augment not in PRESETS:
        raise unknown("augmentation preset", augment, PRESETS)
    return PRESETS[augment]


def _read_transforms(path: Path) -> Transforms:
    found = read_yaml(path) or []
    if not isinstance(found, list):
        raise InputError(
            f"{path} holds no list of transforms; write lines such as '- {{name: HorizontalFlip, p: 0.5}}'."
        )
    return found


class Draw(NamedTuple):
    """The source of the random numbers of one call, and which copy of the image is made."""

    generator: np.random.Generator
    python: random.Random
    copy: int


Step = Callable[[Sample, Draw], Sample]


class Augmentation:
    """A chain of transforms.

    Args:
        transforms: see the module; ``p`` is the chance that a transform is applied (where it is
            left out, the library's own: 0.5 for most).
        seed: with the key of a call, all that the random numbers depend on.

    Errors: InputError for an unknown transform, an unknown or missing argument, or an illegal
    value.
    """

    def __init__(self, transforms: Transforms, seed: int) -> None:
        if seed < 0:
            raise InputError(f"the seed of the augmentation is {seed}; give a whole number from 0.")
        self.transforms, self.seed = transforms, seed
        self._steps = [_step(transform) for transform in transforms]

    def __reduce__(self) -> tuple[type["Augmentation"], tuple[Transforms, int]]:
        return Augmentation, (
            self.transforms,
            self.seed,
        )  # for workers that are spawned: rebuilt from primitives

    def __call__(
        self, image: np.ndarray, mask: np.ndarray, key: Key
    ) -> tuple[np.ndarray, np.ndarray]:
        """Image (H, W, C) uint8 and mask (H, W, K) in {0, 1}, changed alike; the same for the same
        seed and key."""
        image, mask, _ = self.change(Sample(image, mask), key)
        return image, mask

    def change(self, sample: Sample, key: Key) -> Sample:
        """The sample changed: its region moves with the masks, and is 0 where nothing was
        before."""
        if not self._steps:
            return sample
        changed = _run_steps(self._steps, sample, self._numbers(key))
        image, before = changed.image, sample.image
        if image.shape != before.shape or image.dtype != before.dtype:
            raise InputError(
                f"the transforms turn an image of {before.shape} {before.dtype} into {image.shape} {image.dtype}; "
                "use transforms that keep size and type."
            )
        return changed

    def draws(
        self,
        sample: Sample,
        key: Key,
    ) -> list[dict[str, Any] | None]:
        """The draws that ``change`` would make for each transform of the library: its parameters,
        or None where it is not applied."""
        numbers = self._numbers(key)
        return [step.draw(sample, numbers) for step in self._steps if isinstance(step, _Transform)]

    def _numbers(self, key: Key) -> Draw:
        words = [
            zlib.crc32(part.encode()) if isinstance(part, str) else part
            for part in (self.seed, *key)
        ]
        entropy = (
            np.array(words, np.uint32) if max(words) < 1 << 32 else words
        )  # the same numbers, in less time
        first, second = (np.random.SeedSequence(entropy, spawn_key=(child,)) for child in (0, 1))
        python = random.Random(int(second.generate_state(1)[0]))
        python.random()  # as the library's Compose, which decides whether to run at all
        return Draw(np.random.default_rng(first), python, int(key[-2]) if len(key) > 1 else 0)


class _Transform:
    """One transform of the library, without the checks and copies around each of its calls."""

    def __init__(self, built: Any) -> None:
        self.built, self.kernel = built, kernel(built)
        moves = hasattr(built, "apply_to_mask") and ".dropout." not in type(built).__module__
        self.twin = (
            copy.copy(built) if moves else None
        )  # for the region, in which holes of the image still count
        if self.twin:
            self.twin.fill_mask = self.twin.mask_interpolation = (
                0  # what comes in from outside is ignored
            )

    def draw(
        self,
        sample: Sample,
        draw: Draw,
    ) -> dict[str, Any] | None:
        """The parameters of the transform, or None where chance has it that it is not applied."""
        self.built.set_random_state(draw.generator, draw.python)
        return (
            self.kernel.draw(self.built, sample.image, sample.mask)
            if self.built.should_apply()
            else None
        )

    def __call__(self, sample: Sample, draw: Draw) -> Sample:
        params, (image, mask, region) = self.draw(sample, draw), sample
        if params is None:
            return sample
        if self.twin and region is not None:
            region = self.kernel.mask(self.twin, region[..., None], params | {"fill_mask": 0})[
                ..., 0
            ]
        return Sample(
            self.kernel.image(self.built, image, params),
            self.kernel.mask(self.built, mask, params),
            region,
        )


class _OneOf:
    """One of several steps, with the chance of their weights."""

    def __init__(
        self,
        steps: list[Step],
        weights: list[float],
        p: float,
    ) -> None:
        self.steps, self.p = steps, p
        self.weights = [weight / sum(weights) for weight in weights]

    def __call__(self, sample: Sample, draw: Draw) -> Sample:
        if draw.python.random() >= self.p:
            return sample
        return self.steps[draw.generator.choice(len(self.steps), p=self.weights)](sample, draw)


class _ByCopy:
    """The n-th of several chains for the n-th copy, from the start again after the last; copy 0
    stays as it is."""

    def __init__(self, chains: list[list[Step]]) -> None:
        self.chains = chains

    def __call__(self, sample: Sample, draw: Draw) -> Sample:
        return (
            _run_steps(self.chains[(draw.copy - 1) % len(self.chains)], sample, draw)
            if draw.copy
            else sample
        )


def _run_steps(
    steps: Iterable[Step],
    sample: Sample,
    draw: Draw,
) -> Sample:
    for step in steps:
        sample = step(sample, draw)
    return sample


def _mixed_flip(sample: Sample, draw: Draw) -> Sample:
    image, mask, region = sample
    return Sample(
        image[:, ::-1].copy(), mask[::-1].copy(), region if region is None else region[::-1].copy()
    )


_RIM = 0.005  # the blur of a highlight's rim, as a share of the shorter side


class _SpecularHighlights:
    """White ellipses with soft rims on the image alone."""

    def __init__(self, count: int, size: float) -> None:
        self.count, self.size = count, size

    def __call__(self, sample: Sample, draw: Draw) -> Sample:
        image = sample.image
        height, width = image.shape[:2]
        light: Any = np.zeros((height, width), np.float32)
        side = min(height, width)
        for x, y, long, short, turn in draw.generator.random((self.count, 5)):
            axes = [2 * side * self.size * (0.3 + 0.7 * axis) for axis in (long, short)]
            cv2.ellipse(light, ((x * width, y * height), axes, 180 * turn), 1.0, -1)
        soft = cv2.GaussianBlur(light, (0, 0), max(side * _RIM, 0.3))[..., None]
        lit = np.rint(image + (255 - image.astype(np.float32)) * soft)
        return sample._replace(image=lit.clip(0, 255).astype(np.uint8))


_OWN = {
    "OneOf": ["transforms", "p"],
    "ByCopy": ["transforms"],
    "MixedFlip": ["p"],
    "SpecularHighlights": ["count", "size", "p"],
}


def _step(transform: Any) -> Step:
    if not isinstance(transform, dict):
        raise InputError(f"{transform!r} is no transform; write {{name: HorizontalFlip, p: 0.5}}.")
    arguments = dict(transform)
    name = arguments.pop("name", None)
    if name is None:
        raise InputError(
            f"the transform {transform} has no name; write {{name: HorizontalFlip, p: 0.5}}."
        )
    if name not in _OWN:
        return _Transform(_build_transform(name, arguments))
    _check_arguments(name, arguments, _OWN[name])
    p, entries = _chance(name, arguments.get("p", 0.5)), arguments.get("transforms")
    if name == "MixedFlip":
        return _OneOf([_mixed_flip], [1.0], p)
    if name == "SpecularHighlights":
        return _OneOf([_specular_highlights(arguments)], [1.0], p)
    if not isinstance(entries, list) or not entries:
        raise InputError(
            f"transform {name} needs transforms, a list of at least one; write them out."
        )
    if name == "ByCopy":
        return _ByCopy(
            [list(map(_step, entry if isinstance(entry, list) else [entry])) for entry in entries]
        )
    weights = [
        _chance(name, entry.get("p", 0.5)) if isinstance(entry, dict) else 0.0 for entry in entries
    ]
    steps = [_step(entry | {"p": 1.0} if isinstance(entry, dict) else entry) for entry in entries]
    if not sum(weights):
        raise InputError(
            f"transform {name} has entries of the chance 0 alone; give one of them a p above 0."
        )
    return _OneOf(steps, weights, p)


def _specular_highlights(arguments: dict[str, Any]) -> Step:
    count, size = arguments.get("count", 10), arguments.get("size", 0.04)
    if isinstance(count, bool) or not isinstance(count, int) or count < 0:
        raise InputError(
            f"transform SpecularHighlights refuses count = {count!r}; give a whole number from 0."
        )
    if isinstance(size, bool) or not isinstance(size, int | float) or not 0 < size <= 0.5:
        raise InputError(
            f"transform SpecularHighlights refuses size = {size!r}; give a share of the shorter "
            "side above 0, up to 0.5."
        )
    return _SpecularHighlights(count, float(size))


def _chance(name: str, p: Any) -> float:
    if isinstance(p, bool) or not isinstance(p, int | float) or not 0 <= p <= 1:
        raise InputError(f"transform {name} refuses p = {p!r}; give a chance from 0 to 1.")
    return float(p)


def _build_transform(name: str, arguments: dict[str, Any]) -> Any:
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = (
        "1"  # before the import, which would ask PyPI for a newer version
    )
    import albumentations

    kinds = _kinds(albumentations)
    if name not in kinds:
        raise unknown("transform", name, [*kinds, *_OWN])
    arguments = _DEFAULTS.get(name, {}) | arguments
    _check_arguments(name, arguments, list(inspect.signature(kinds[name]).parameters))
    try:
        built = kinds[name](**arguments)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"transform {name} refuses {arguments}: {_first_reason(error)}."
        ) from error
    if set(built.targets_as_params) - {"image", "mask"}:
        raise InputError(
            f"transform {name} needs {', '.join(built.targets_as_params)} too; choose another transform."
        )
    return built


def _kinds(library: Any) -> dict[str, Any]:
    bases = (library.DualTransform, library.ImageOnlyTransform)
    found = {
        name: kind
        for name, kind in vars(library).items()
        if inspect.isclass(kind) and issubclass(kind, bases)
    }
    del found["Lambda"]  # which takes functions, and a file holds none
    return {
        name: kind for name, kind in found.items() if ".augmentations." in kind.__module__
    }  # leaves out the bases


def _check_arguments(
    name: str,
    given: dict[str, Any],
    legal: list[str],
) -> None:
    for argument in given:
        if argument not in legal:
            near = near_match(argument, legal)
            hint = f"did you mean {near!r}? " if near else ""
            raise InputError(
                f"transform {name} has no argument {argument!r}; {hint}it takes {', '.join(legal)}."
            )
    missing = [argument for argument in _REQUIRED.get(name, ()) if argument not in given]
    if missing:
        raise InputError(
            f"transform {name} needs {', '.join(missing)}: its default is strong; write it out."
        )


def _first_reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines()]
    return (
        lines[2].partition(" [type=")[0] if len(lines) > 2 else lines[0]
    )  # pydantic: title, field, reason
