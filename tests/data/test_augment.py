"""Augmentation: strict about its arguments, a function of (seed, key) alone, alike for image and mask."""

import pickle
import subprocess
import sys
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_seg.data.augment import PRESETS, Augmentation, transforms_of
from lightning_seg.errors import InputError

RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 255, (24, 24, 3), dtype=np.uint8)
MASK = (RNG.random((24, 24, 2)) > 0.5).astype(np.uint8)
GEOMETRIC = [
    {"name": "HorizontalFlip"},
    {"name": "VerticalFlip"},
    {"name": "RandomRotate90"},
    {"name": "Transpose"},
    {"name": "Rotate", "limit": 40, "interpolation": 0},
    {"name": "Affine", "translate_percent": 0.1, "scale": [0.8, 1.2], "interpolation": 0},
    {"name": "ElasticTransform", "interpolation": 0},
    {"name": "GridDistortion", "interpolation": 0},
]


def error(*transforms: dict[str, Any]) -> str:
    with pytest.raises(InputError) as caught:
        Augmentation(list(transforms), 0)
    return str(caught.value)


def test_an_unknown_transform_gets_its_near_match() -> None:
    assert "no transform named 'HorizontalFlp'; did you mean 'HorizontalFlip'" in error({"name": "HorizontalFlp"})


def test_a_misspelt_argument_is_refused_instead_of_ignored() -> None:
    assert "Rotate has no argument 'limt'; did you mean 'limit'" in error({"name": "Rotate", "limt": 3})
    assert "CoarseDropout has no argument 'max_holes'" in error({"name": "CoarseDropout", "max_holes": 3})


def test_an_illegal_value_is_refused_in_one_line() -> None:
    message = error({"name": "HorizontalFlip", "p": 7})
    assert "HorizontalFlip refuses {'p': 7}" in message
    assert "less than or equal to 1" in message
    assert "\n" not in message


def test_strong_defaults_must_be_written_out() -> None:
    assert "Rotate needs limit" in error({"name": "Rotate"})
    assert "ColorJitter needs contrast, saturation" in error({"name": "ColorJitter", "brightness": 0.2})


def test_a_transform_without_a_name_is_refused() -> None:
    assert "has no name" in error({"p": 0.5})


def test_a_transform_that_needs_more_than_the_image_is_refused() -> None:
    assert "OverlayElements needs" in error({"name": "OverlayElements"})


def test_a_transform_that_changes_size_or_type_is_refused_when_it_acts() -> None:
    for transform in ({"name": "CenterCrop", "height": 8, "width": 8}, {"name": "Normalize"}):
        with pytest.raises(InputError, match="keep size and type"):
            Augmentation([transform], 0)(IMAGE, MASK, (0,))


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(InputError, match="seed of the augmentation is -1"):
        Augmentation([], -1)


def test_an_unknown_preset_gets_its_near_match() -> None:
    with pytest.raises(InputError, match="no augmentation preset named 'unet-a'; did you mean 'unet_a'"):
        transforms_of("unet-a")


@pytest.mark.parametrize("preset", sorted(PRESETS))
@pytest.mark.parametrize("channels", [1, 3])
def test_presets_keep_shape_type_and_mask_values(preset: str, channels: int) -> None:
    change = Augmentation(transforms_of(preset), 0)
    for key in range(20):
        image, mask = change(np.ascontiguousarray(IMAGE[..., :channels]), MASK[..., :1].copy(), (key,))
        assert image.shape == (24, 24, channels)
        assert mask.shape == (24, 24, 1)
        assert image.dtype == mask.dtype == np.uint8
        assert set(np.unique(mask)) <= {0, 1}


def test_no_augmentation_returns_the_arrays_untouched() -> None:
    image, mask = Augmentation([], 0)(IMAGE, MASK, (0, "a"))
    assert image is IMAGE
    assert mask is MASK


@settings(max_examples=80, deadline=None)
@given(transform=st.sampled_from(GEOMETRIC), key=st.integers(0, 10_000), copies=st.integers(1, 3))
def test_masks_follow_images_under_geometric_transforms(transform: dict[str, Any], key: int, copies: int) -> None:
    """The mask, painted into the image, stays where the mask is; OpenCV rounds ties differently for two channels."""
    mask = np.repeat(MASK[..., :1], copies, axis=2)
    image, moved = Augmentation([transform | {"p": 1.0}], 3)(np.repeat(MASK[..., :1] * 255, 3, axis=2), mask, (key,))
    assert moved.shape == mask.shape
    assert set(np.unique(moved)) <= {0, 1}
    assert ((image[..., :1] > 127) != (moved == 1)).mean() < 0.1  # a noise mask one pixel off differs at 0.5


def test_the_hue_stays_unless_asked() -> None:
    red = np.full((8, 8, 3), (200, 40, 40), np.uint8)
    jitter = {"name": "ColorJitter", "brightness": 0.2, "contrast": 0.2, "saturation": 0.2, "p": 1.0}

    def reddest(transform: dict[str, Any]) -> set[int]:
        change = Augmentation([transform], 0)
        return {int(change(red, MASK[:8, :8], (key,))[0][0, 0].argmax()) for key in range(50)}

    assert reddest(jitter) == {0}
    assert reddest(jitter | {"hue": 0.5}) == {0, 1, 2}


def test_the_same_seed_and_key_give_the_same_change_and_others_do_not() -> None:
    change, same, other = (Augmentation(PRESETS["unet_a"], seed) for seed in (1, 1, 2))
    keys: list[tuple[int | str, ...]] = [(epoch, copy, id) for epoch in range(3) for copy in range(2) for id in "ab"]
    images = [change(IMAGE, MASK, key)[0] for key in keys]
    for key, image in reversed(list(zip(keys, images, strict=True))):  # whatever was drawn before
        assert np.array_equal(same(IMAGE, MASK, key)[0], image)
        assert not np.array_equal(other(IMAGE, MASK, key)[0], image)
    assert len({image.tobytes() for image in images}) == len(keys)


def test_flips_are_independent() -> None:
    """Albumentations 2.0.8 with seed= gives each transform the same stream: both flips or none."""
    change = Augmentation([{"name": "HorizontalFlip", "p": 0.5}, {"name": "VerticalFlip", "p": 0.5}], 0)
    known = {
        IMAGE.tobytes(): "none",
        IMAGE[:, ::-1].tobytes(): "h",
        IMAGE[::-1].tobytes(): "v",
        IMAGE[::-1, ::-1].tobytes(): "hv",
    }
    seen = Counter(known[np.ascontiguousarray(change(IMAGE, MASK, (0, key))[0]).tobytes()] for key in range(800))
    assert all(150 < seen[name] < 250 for name in ("none", "h", "v", "hv")), seen  # 200 expected, sd 12


def test_the_strength_is_independent_of_the_decision_to_apply() -> None:
    """Two jitters one after the other must not draw one strength."""
    jitter = {"name": "RandomBrightnessContrast", "brightness_limit": 0.3, "contrast_limit": 0, "p": 1.0}
    grey = np.full((4, 4, 3), 100, np.uint8)
    once, twice = Augmentation([jitter], 0), Augmentation([jitter, jitter], 0)
    first = [once(grey, MASK[:4, :4], (key,))[0].mean() - 100 for key in range(200)]
    both = [twice(grey, MASK[:4, :4], (key,))[0].mean() - 100 for key in range(200)]
    assert np.corrcoef(first, np.subtract(both, first))[0, 1] < 0.3


def test_it_survives_pickling() -> None:
    change = Augmentation(PRESETS["unet_a"], 5)
    again = pickle.loads(pickle.dumps(change))
    assert np.array_equal(again(IMAGE, MASK, (1, "x"))[0], change(IMAGE, MASK, (1, "x"))[0])


def test_albumentations_is_imported_by_the_constructor_only() -> None:
    code = """
import sys
from lightning_seg.data.augment import PRESETS, Augmentation
Augmentation([], 0)
assert "albumentations" not in sys.modules
Augmentation(PRESETS["unet_a"], 0)
assert "albumentations" in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
