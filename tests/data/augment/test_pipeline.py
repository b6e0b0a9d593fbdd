"""Augmentation: strict about its arguments, a function of (seed, key) alone, alike for image and mask."""

import pickle
import random
import subprocess
import sys
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_seg.data.augment.pipeline import PRESETS, Augmentation, Key, transforms_of
from lightning_seg.data.sources.base import Sample
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
    assert "no transform named 'HorizontalFlp'; did you mean 'HorizontalFlip'" in error(
        {"name": "HorizontalFlp"}
    )


def test_a_misspelt_argument_is_refused_instead_of_ignored() -> None:
    assert "Rotate has no argument 'limt'; did you mean 'limit'" in error(
        {"name": "Rotate", "limt": 3}
    )
    assert "CoarseDropout has no argument 'max_holes'" in error(
        {"name": "CoarseDropout", "max_holes": 3}
    )


def test_an_illegal_value_is_refused_in_one_line() -> None:
    message = error({"name": "HorizontalFlip", "p": 7})
    assert "HorizontalFlip refuses {'p': 7}" in message
    assert "less than or equal to 1" in message
    assert "\n" not in message


def test_strong_defaults_must_be_written_out() -> None:
    assert "Rotate needs limit" in error({"name": "Rotate"})
    assert "ColorJitter needs contrast, saturation" in error(
        {"name": "ColorJitter", "brightness": 0.2}
    )


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
    with pytest.raises(
        InputError, match="no augmentation preset named 'unet-a'; did you mean 'unet_a'"
    ):
        transforms_of("unet-a")


@pytest.mark.parametrize("preset", sorted(PRESETS))
@pytest.mark.parametrize("channels", [1, 3])
def test_presets_keep_shape_type_and_mask_values(preset: str, channels: int) -> None:
    change = Augmentation(transforms_of(preset), 0)
    for key in range(20):
        image, mask = change(
            np.ascontiguousarray(IMAGE[..., :channels]), MASK[..., :1].copy(), (key,)
        )
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
def test_masks_follow_images_under_geometric_transforms(
    transform: dict[str, Any], key: int, copies: int
) -> None:
    """The mask, painted into the image, stays where the mask is; OpenCV rounds ties differently for two channels."""
    mask = np.repeat(MASK[..., :1], copies, axis=2)
    image, moved = Augmentation([transform | {"p": 1.0}], 3)(
        np.repeat(MASK[..., :1] * 255, 3, axis=2), mask, (key,)
    )
    assert moved.shape == mask.shape
    assert set(np.unique(moved)) <= {0, 1}
    assert (
        (image[..., :1] > 127) != (moved == 1)
    ).mean() < 0.1  # a noise mask one pixel off differs at 0.5


def test_the_hue_stays_unless_asked() -> None:
    red = np.full((8, 8, 3), (200, 40, 40), np.uint8)
    jitter = {
        "name": "ColorJitter",
        "brightness": 0.2,
        "contrast": 0.2,
        "saturation": 0.2,
        "p": 1.0,
    }

    def reddest(transform: dict[str, Any]) -> set[int]:
        change = Augmentation([transform], 0)
        return {int(change(red, MASK[:8, :8], (key,))[0][0, 0].argmax()) for key in range(50)}

    assert reddest(jitter) == {0}
    assert reddest(jitter | {"hue": 0.5}) == {0, 1, 2}


def test_the_same_seed_and_key_give_the_same_change_and_others_do_not() -> None:
    change, same, other = (Augmentation(PRESETS["unet_a"], seed) for seed in (1, 1, 2))
    keys: list[tuple[int | str, ...]] = [
        (epoch, copy, id) for epoch in range(3) for copy in range(2) for id in "ab"
    ]
    images = [change(IMAGE, MASK, key)[0] for key in keys]
    for key, image in reversed(list(zip(keys, images, strict=True))):  # whatever was drawn before
        assert np.array_equal(same(IMAGE, MASK, key)[0], image)
        assert not np.array_equal(other(IMAGE, MASK, key)[0], image)
    assert len({image.tobytes() for image in images}) == len(keys)


def test_flips_are_independent() -> None:
    """Albumentations 2.0.8 with seed= gives each transform the same stream: both flips or none."""
    change = Augmentation(
        [{"name": "HorizontalFlip", "p": 0.5}, {"name": "VerticalFlip", "p": 0.5}], 0
    )
    known = {
        IMAGE.tobytes(): "none",
        IMAGE[:, ::-1].tobytes(): "h",
        IMAGE[::-1].tobytes(): "v",
        IMAGE[::-1, ::-1].tobytes(): "hv",
    }
    seen = Counter(
        known[np.ascontiguousarray(change(IMAGE, MASK, (0, key))[0]).tobytes()]
        for key in range(800)
    )
    assert all(150 < seen[name] < 250 for name in ("none", "h", "v", "hv")), (
        seen
    )  # 200 expected, sd 12


def test_the_strength_is_independent_of_the_decision_to_apply() -> None:
    """Two jitters one after the other must not draw one strength."""
    jitter = {
        "name": "RandomBrightnessContrast",
        "brightness_limit": 0.3,
        "contrast_limit": 0,
        "p": 1.0,
    }
    grey = np.full((4, 4, 3), 100, np.uint8)
    once, twice = Augmentation([jitter], 0), Augmentation([jitter, jitter], 0)
    first = [once(grey, MASK[:4, :4], (key,))[0].mean() - 100 for key in range(200)]
    both = [twice(grey, MASK[:4, :4], (key,))[0].mean() - 100 for key in range(200)]
    assert np.corrcoef(first, np.subtract(both, first))[0, 1] < 0.3


def test_it_survives_pickling() -> None:
    change = Augmentation(PRESETS["unet_a"], 5)
    again = pickle.loads(pickle.dumps(change))
    assert np.array_equal(again(IMAGE, MASK, (1, "x"))[0], change(IMAGE, MASK, (1, "x"))[0])


def test_albumentations_is_imported_when_a_transform_is_built_only() -> None:
    code = """
import sys
from lightning_seg.data.augment.pipeline import PRESETS, Augmentation
Augmentation([], 0)
assert PRESETS
assert "albumentations" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def library(
    transforms: list[dict[str, Any]], image: np.ndarray, mask: np.ndarray, key: Key
) -> dict[str, np.ndarray]:
    """The same chain, run by albumentations' own Compose with the same random numbers (seed 3)."""
    import albumentations

    def build(transform: dict[str, Any]) -> Any:
        arguments = {name: value for name, value in transform.items() if name != "name"}
        if transform["name"] == "OneOf":
            arguments["transforms"] = [build(entry) for entry in arguments["transforms"]]
        return getattr(albumentations, transform["name"])(**arguments)

    chain = albumentations.Compose([build(transform) for transform in transforms])
    entropy = [zlib.crc32(part.encode()) if isinstance(part, str) else part for part in (3, *key)]
    first, second = np.random.SeedSequence(entropy).spawn(2)
    chain.set_random_state(
        np.random.default_rng(first), random.Random(int(second.generate_state(1)[0]))
    )
    found: dict[str, np.ndarray] = chain(image=image, mask=mask)
    return found


LIBRARY_CHAINS = [
    *(PRESETS[name] for name in ("unet_a", "pefnet", "pefnet_released", "pam_unet", "dca")),
    [{"name": "Rotate", "limit": 180, "interpolation": 2, "border_mode": 1, "p": 0.9}],
    [{"name": "Rotate", "limit": 60, "fill": [10, 20, 30], "fill_mask": 1, "p": 0.9}],
    [{"name": "Rotate", "limit": 60, "border_mode": 2, "mask_interpolation": 1, "p": 0.9}],
    [
        {
            "name": "ColorJitter",
            "brightness": [0, 3],
            "contrast": [0, 3],
            "saturation": [0, 3],
            "hue": 0.5,
            "p": 0.9,
        }
    ],
    [
        {"name": "Affine", "scale": [0.5, 2], "shear": 20, "p": 0.9},
        {"name": "GaussNoise", "p": 0.5},
    ],
    [
        {
            "name": "OneOf",
            "p": 0.8,
            "transforms": [{"name": "VerticalFlip", "p": 0.5}, {"name": "Transpose", "p": 0.25}],
        },
        {"name": "Rotate", "limit": 30, "p": 0.5},
    ],
]


@settings(max_examples=150, deadline=None)
@given(
    chain=st.sampled_from(LIBRARY_CHAINS),
    key=st.integers(0, 10_000),
    height=st.integers(17, 70),
    width=st.integers(17, 70),
    seed=st.integers(0, 9),
)
def test_a_chain_changes_every_pixel_as_the_library_does(
    chain: list[dict[str, Any]], key: int, height: int, width: int, seed: int
) -> None:
    """Random numbers, rotation and colours are drawn and computed here, faster; albumentations' Compose is the truth."""
    if any(transform["name"] == "OneOf" for transform in chain):
        height = width  # a transposed picture keeps its size
    rng = np.random.default_rng(seed)
    image = cv2.resize(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8), (width, height))
    mask = (rng.random((height, width, 1)) > 0.5).astype(np.uint8)
    expected = library(chain, image, mask, (key, 0, "a"))
    changed, moved = Augmentation(chain, 3)(image, mask, (key, 0, "a"))
    assert np.array_equal(changed, expected["image"])
    assert np.array_equal(moved, expected["mask"].reshape(moved.shape))


def test_grey_pictures_are_changed_as_the_library_does() -> None:
    chain = [
        {"name": "Rotate", "limit": 90, "p": 0.7},
        {
            "name": "ColorJitter",
            "brightness": 0.5,
            "contrast": 0.5,
            "saturation": 0.5,
            "hue": 0,
            "p": 0.7,
        },
    ]
    grey = cv2.resize(IMAGE[..., :1], (50, 40))[..., None]
    mask = (grey > 120).astype(np.uint8)
    for key in range(40):
        expected = library(chain, grey, mask, (key, 0, "a"))
        changed, moved = Augmentation(chain, 3)(grey, mask, (key, 0, "a"))
        assert np.array_equal(changed, expected["image"].reshape(grey.shape))
        assert np.array_equal(moved, expected["mask"].reshape(mask.shape))


SPATIAL = {"HorizontalFlip", "VerticalFlip", "Rotate", "CropAndPad", "GridDistortion"}


def spatial(transforms: list[Any]) -> list[dict[str, Any]]:
    """The transforms of a preset that move pixels, those within others too."""
    flat: list[dict[str, Any]] = []
    for transform in transforms:
        inner = transform if isinstance(transform, list) else transform.get("transforms", [])
        flat += spatial(inner) if inner else [transform]
    return [transform for transform in flat if transform["name"] in SPATIAL]


@settings(max_examples=60, deadline=None)
@given(preset=st.sampled_from(sorted(set(PRESETS) - {"none"})), key=st.integers(0, 10_000))
def test_masks_and_region_follow_the_image_under_every_geometric_transform_of_every_preset(
    preset: str, key: int
) -> None:
    """Painted into the image they stay where they are, but for the interpolated outline."""
    mask = np.zeros((64, 64, 1), np.uint8)
    mask[12:30, 20:52] = 1
    region = np.where(np.hypot(*(np.mgrid[:64, :64] - 31.5)) < 28, 2, 1).astype(np.uint8)
    image = np.concatenate([mask * 200, mask * 200, region[..., None] * 100], axis=2)
    chain = [transform | {"p": 1.0} for transform in spatial(PRESETS[preset])][:6]
    found = Augmentation(chain, 5).change(Sample(image, mask, region), (key, 0, "a"))
    assert found.region is not None
    assert set(np.unique(found.mask)) <= {0, 1}
    assert ((found.image[..., 0] > 100) != found.mask[..., 0]).mean() < 0.03
    assert ((found.image[..., 2] > 150) != (found.region == 2)).mean() < 0.03
    assert ((found.image[..., 2] > 50) != (found.region > 0)).mean() < 0.03


def test_one_of_takes_each_transform_with_the_chance_of_its_p() -> None:
    one_of = {
        "name": "OneOf",
        "p": 0.8,
        "transforms": [{"name": "HorizontalFlip", "p": 0.9}, {"name": "VerticalFlip", "p": 0.3}],
    }
    change = Augmentation([one_of], 0)
    known = {IMAGE.tobytes(): "none", IMAGE[:, ::-1].tobytes(): "h", IMAGE[::-1].tobytes(): "v"}
    seen = Counter(
        known[np.ascontiguousarray(change(IMAGE, MASK, (0, key))[0]).tobytes()]
        for key in range(1000)
    )
    assert abs(seen["none"] - 200) < 50
    assert abs(seen["h"] - 600) < 60
    assert abs(seen["v"] - 200) < 50


def test_by_copy_takes_the_transforms_in_turn() -> None:
    flips = [{"name": "HorizontalFlip", "p": 1.0}, {"name": "VerticalFlip", "p": 1.0}]
    change = Augmentation([{"name": "ByCopy", "transforms": [*flips, flips]}], 0)
    expected = [IMAGE, IMAGE[:, ::-1], IMAGE[::-1], IMAGE[::-1, ::-1], IMAGE[:, ::-1]]
    for number, image in enumerate(expected):
        assert np.array_equal(change(IMAGE, MASK, (number, "a"))[0], image)
        assert np.array_equal(change(IMAGE, MASK, (7, number, "a"))[0], image)


def test_sa_unets_twelve_copies_hold_three_of_each_kind() -> None:
    change = Augmentation(PRESETS["sa_unet"], 0)
    image = np.full((40, 40, 3), (120, 60, 30), np.uint8)
    image[:20, :10] = 90
    copies = [change(image, image[..., :1] // 100, (number, "a"))[0] for number in range(13)]
    assert np.array_equal(copies[0], image)
    flips = [image[:, ::-1], image[::-1], image[::-1, ::-1]]
    assert all(np.array_equal(*pair) for pair in zip(copies[10:], flips, strict=True))
    assert all(
        (copy[0, 0] == 0).all() or (copy[-1, -1] == 0).all() for copy in copies[1:4]
    )  # the corners turn in
    assert all(0 < np.abs(copy.astype(int) - image).max() <= 2 for copy in copies[4:7])
    assert all(np.ptp(copy[20:].reshape(-1, 3), axis=0).max() == 0 for copy in copies[7:10])
    assert all(copy.mean() > image.mean() for copy in copies[7:10])


def test_the_released_dca_turns_mask_and_image_differently() -> None:
    change = Augmentation([PRESETS["dca_released"][1] | {"p": 1.0}], 0)
    found = change.change(Sample(IMAGE, MASK, MASK[..., 0]), (0, "a"))
    assert np.array_equal(found.image, IMAGE[:, ::-1])
    assert np.array_equal(found.mask, MASK[::-1])
    assert np.array_equal(found.region, MASK[::-1, :, 0])


def test_pefnets_cutout_blanks_image_and_mask_in_one_box() -> None:
    (hole,) = (transform for transform in PRESETS["pefnet"] if transform["name"] == "CoarseDropout")
    ones = np.ones((256, 256, 1), np.uint8)
    for key in range(20):
        image, mask = Augmentation([hole | {"p": 1.0}], 0)(ones, ones, (key,))
        assert np.array_equal(image, mask)
        rows, columns = (np.flatnonzero((mask == 0).any(axis=(1 - axis, 2))) for axis in (0, 1))
        assert 32 <= len(rows) <= 64
        assert 32 <= len(columns) <= 64
        assert (mask == 0).sum() == len(rows) * len(columns)


def test_a_file_of_transforms_is_read_and_its_faults_named(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("# mine\n- {name: HorizontalFlip, p: 1.0}\n")
    assert transforms_of(str(file)) == [{"name": "HorizontalFlip", "p": 1.0}]
    for content in ("a: 1", "{", "just text"):
        file.write_text(content)
        with pytest.raises(InputError, match=r"mine\.yaml (holds no list|is not YAML)"):
            transforms_of(str(file))
    with pytest.raises(InputError, match=r"gone\.yaml cannot be read \(No such file"):
        transforms_of(str(tmp_path / "gone.yaml"))


def test_faults_of_our_own_transforms_are_refused() -> None:
    assert "OneOf needs transforms" in error({"name": "OneOf"})
    assert "OneOf has no argument 'transform'; did you mean 'transforms'" in error(
        {"name": "OneOf", "transform": []}
    )
    assert "ByCopy needs transforms" in error({"name": "ByCopy", "transforms": []})
    assert "OneOf refuses p = 2" in error(
        {"name": "OneOf", "p": 2, "transforms": [{"name": "HorizontalFlip"}]}
    )
    assert "did you mean 'VerticalFlip'" in error(
        {"name": "ByCopy", "transforms": [[{"name": "VertcalFlip"}]]}
    )
    assert "chance 0 alone" in error(
        {"name": "OneOf", "transforms": [{"name": "VerticalFlip", "p": 0}]}
    )
    assert "'HorizontalFlip' is no transform" in error(
        {"name": "OneOf", "transforms": ["HorizontalFlip"]}
    )


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_a_preset_says_where_it_comes_from(preset: str) -> None:
    file = (
        Path(__file__).parents[3]
        / "lightning_seg"
        / "data"
        / "augment"
        / "presets"
        / f"{preset}.yaml"
    )
    assert file.read_text(encoding="utf-8").startswith("# ")
