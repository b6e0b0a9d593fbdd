"""Masks are told by what a file holds: its values where it is lossless, two clear modes where not."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from lightning_seg.data.reading.masks import read_labels, read_mask, read_nonzero
from lightning_seg.errors import InputError

SHAPE = (128, 160)
INSIDE = np.zeros(SHAPE, bool)
INSIDE[cv2.circle(np.zeros(SHAPE, np.uint8), (90, 60), 5, 1, -1) > 0] = True  # 0.4 % of the picture
OTHER = np.roll(INSIDE, (40, -60), (0, 1))


def save(path: Path, pixels: np.ndarray, **options: Any) -> Path:
    Image.fromarray(pixels).save(path, **options)
    return path


def painted(colour: Any, kind: Any = np.uint8) -> np.ndarray:
    colour = np.asarray(colour)
    return np.where(INSIDE.reshape(*SHAPE, *[1] * colour.ndim), colour, 0).astype(kind)


@pytest.mark.parametrize("value", [1, 38, 85, 100, 127, 128, 255])
@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "gif", "pgm"])
def test_zero_and_one_other_value_are_a_mask(tmp_path: Path, value: int, suffix: str) -> None:
    assert np.array_equal(read_mask(save(tmp_path / f"m.{suffix}", painted(value))), INSIDE)


@pytest.mark.parametrize("colour", [(255, 0, 0), (0, 0, 1), (128, 0, 0), (0, 255, 0), (9, 9, 9)])
def test_black_and_one_colour_are_a_mask(tmp_path: Path, colour: tuple[int, ...]) -> None:
    assert np.array_equal(read_mask(save(tmp_path / "m.png", painted(colour))), INSIDE)


@pytest.mark.parametrize(("value", "kind"), [(4080, np.uint16), (70000, np.int32), (0.5, "f4")])
def test_values_of_many_bits_are_a_mask_too(tmp_path: Path, value: float, kind: Any) -> None:
    assert np.array_equal(read_mask(save(tmp_path / "m.tif", painted(value, kind))), INSIDE)


def test_a_lossless_webp_is_lossless_and_a_lossy_one_is_not(tmp_path: Path) -> None:
    path = save(tmp_path / "a.webp", painted((85, 85, 85)), lossless=True)
    assert np.array_equal(read_mask(path), INSIDE)
    with pytest.raises(InputError, match="lossy picture has to be black and white"):
        read_mask(save(tmp_path / "b.webp", painted((85, 85, 85)), quality=80))


@pytest.mark.parametrize(
    ("second", "values"),
    [
        (85, r"3 grey values \(0, 85, 255\)"),
        (254, r"3 grey values \(0, 254, 255\)"),
        ((255, 0, 0), r"3 colours \(#000000, #ff0000, #ffffff\)"),
    ],
)
def test_a_second_value_is_named_with_the_options_that_read_it(
    tmp_path: Path, second: Any, values: str
) -> None:
    white = 255 if np.ndim(second) == 0 else (255, 255, 255)
    mask = painted(white)
    mask[OTHER] = second
    path = save(tmp_path / "m.png", mask)
    with pytest.raises(InputError, match=rf"{values} .*`labels.*`classes`.*`labels: nonzero`"):
        read_mask(path)
    assert np.array_equal(read_nonzero(path), INSIDE | OTHER)


def test_numbered_instances_are_one_class_where_that_is_said(tmp_path: Path) -> None:
    mask = painted(1)
    for number in range(2, 40):
        mask[number, ::2] = number
    path = save(tmp_path / "m.png", mask)
    with pytest.raises(InputError, match=r"40 grey values \(0, 1, 2, ... 39\).*exchanged"):
        read_mask(path)
    assert np.array_equal(read_nonzero(path), mask > 0)


@pytest.mark.parametrize("value", [38, 128])
def test_a_picture_of_one_value_is_a_mask_only_where_it_is_white_or_1(
    tmp_path: Path, value: int
) -> None:
    for full in (1, 255):
        assert read_mask(save(tmp_path / "full.png", np.full(SHAPE, full, np.uint8))).all()
    with pytest.raises(InputError, match=rf"1 grey value \({value}\)"):
        read_mask(save(tmp_path / "m.png", np.full(SHAPE, value, np.uint8)))


@pytest.mark.parametrize("quality", [10, 30, 60, 95])
def test_a_lossy_mask_is_black_and_white_but_for_noise_near_edges(
    tmp_path: Path, quality: int
) -> None:
    for radius in (1, 2, 5, 40):
        mask = cv2.circle(np.zeros(SHAPE, np.uint8), (80, 64), radius, 255, -1)
        found = read_mask(save(tmp_path / "m.jpg", mask, quality=quality))
        assert (found != mask // 255).sum() <= 8
    assert not read_mask(save(tmp_path / "empty.jpg", np.zeros(SHAPE, np.uint8))).any()


@pytest.mark.parametrize("beside", [False, True])
@pytest.mark.parametrize("value", [1, 2, 20, 38, 60, 85, 100, 127])
@pytest.mark.parametrize("quality", [50, 75, 95])
def test_a_third_mode_of_a_lossy_mask_is_refused_however_small(
    tmp_path: Path, value: int, beside: bool, quality: int
) -> None:
    if value < 20 and (beside or quality < 75):
        pytest.skip("such a value is as small as the noise, or lost altogether")
    mask = painted(value)
    if beside:
        mask[OTHER] = 255
    with pytest.raises(InputError, match=r"m\.jpg is no mask: a lossy picture .*PNG"):
        read_mask(save(tmp_path / "m.jpg", mask, quality=quality))


def test_labels_and_colours_in_lossy_files_are_refused(tmp_path: Path) -> None:
    for read in (read_labels, read_nonzero):
        with pytest.raises(InputError, match="lossy compression"):
            read(save(tmp_path / "m.jpg", painted(1)))
    with pytest.raises(InputError, match="coloured"):
        read_mask(save(tmp_path / "red.jpg", painted((255, 0, 0)), quality=95))


def test_several_pages_are_no_mask(tmp_path: Path) -> None:
    more = {"save_all": True, "append_images": [Image.fromarray(painted(1))]}
    path = save(tmp_path / "m.tif", painted(255), **more)
    for read in (read_mask, read_labels, read_nonzero, lambda path: read_mask(path, 127)):
        with pytest.raises(InputError, match="holds 2 pages"):
            read(path)


def test_a_threshold_refuses_any_colour(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="coloured"):
        read_mask(save(tmp_path / "m.png", painted((255, 0, 0))), 127)


@pytest.mark.parametrize("value", [0.9999, 1.6, np.nan])
def test_fractions_are_no_label_numbers(tmp_path: Path, value: float) -> None:
    path = tmp_path / "a.tif"
    Image.fromarray(np.array([[0, value]], np.float32)).save(path)
    with pytest.raises(InputError, match="no label numbers"):
        read_labels(path)
    Image.fromarray(np.array([[0, 3]], np.float32)).save(path)
    assert read_labels(path).tolist() == [[0, 3]]


def test_fractions_below_the_threshold_are_no_empty_mask(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    Image.fromarray(np.array([[0, 0.5]], np.float32)).save(path)
    with pytest.raises(InputError, match="none above the threshold 127"):
        read_mask(path, 127)
    assert read_mask(path, 0).tolist() == [[0, 1]]


@pytest.mark.parametrize("read", [read_mask, read_nonzero])
def test_numbers_that_a_palette_hides_are_refused(
    tmp_path: Path,
    read: Callable[[Path], np.ndarray],
) -> None:
    path = tmp_path / "a.png"
    picture = Image.new("P", (2, 1))
    picture.putdata([0, 1])
    picture.putpalette([0, 0, 0, 0, 0, 0])
    picture.save(path)
    with pytest.raises(InputError, match="its palette shows in 1 colour;"):
        read(path)
    assert read_labels(path).tolist() == [[0, 1]]
    picture.putpalette([0, 0, 0, 255, 0, 0])
    picture.save(path)
    assert read(path).tolist() == [[0, 1]]
