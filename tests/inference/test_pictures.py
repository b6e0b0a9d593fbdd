"""Pictures that a person looks at: the image is the image, whatever its channels and its layout in memory."""

import itertools

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

import lightning_seg as ls
from lightning_seg.data.show import COLOURS
from lightning_seg.inference.pictures import GAP, TITLE, as_seen, contact_sheet, overlay
from tests.inference.conftest import read, write_checkpoint
from tests.inference.test_predict_pictures import predict

SIDES = 24, 36


def images(channels: int, channels_last: bool, count: int = 1) -> torch.Tensor:
    """A batch (B, C, H, W) of smooth colours."""
    values = np.random.default_rng(7).integers(0, 256, (count, channels, *SIDES))
    found = torch.from_numpy(values.astype(np.uint8))
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return found.contiguous(memory_format=layout)


def masks(classes: int, shift: int = 0) -> torch.Tensor:
    """A square for each class, side by side."""
    found = torch.zeros(classes, *SIDES, dtype=torch.uint8)
    for k in range(classes):
        found[k, 6 + shift : 18, 2 + 11 * k + shift : 11 + 11 * k] = 1
    return found


def expected_image(image: torch.Tensor, slices: bool) -> np.ndarray:
    """RGB (H, W, 3), by hand."""
    array = image.numpy()
    if len(array) == 3 and not slices:
        return np.stack([array[0], array[1], array[2]], -1)
    return np.stack([array[len(array) // 2]] * 3, -1)


def expected_overlay(picture: np.ndarray, mask: torch.Tensor) -> np.ndarray:
    """Squares whose rim has the colour of their class and whose inside has 30 % of it."""
    picture = picture.copy()
    for k, channel in enumerate(mask.numpy()):
        rows, columns = np.nonzero(channel)
        colour = np.array(COLOURS[k])
        for y, x in zip(rows, columns, strict=True):
            rim = y in (rows.min(), rows.max()) or x in (columns.min(), columns.max())
            mixed = colour if rim else (0.7 * picture[y, x] + 0.3 * colour).astype(np.uint8)
            picture[y, x] = mixed
    return picture


KINDS = [(1, False), (3, False), (3, True), (5, False), (5, True)]  # channels, slices


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(("channels", "slices"), KINDS)
@pytest.mark.parametrize("classes", [1, 3])
def test_an_overlay_is_the_image_with_its_masks_and_leaves_the_image_alone(
    channels, slices, classes, channels_last
):
    image = images(channels, channels_last)[0]
    before = image.clone()
    found = overlay(image, masks(classes), slices)
    plain = expected_image(before, slices)
    np.testing.assert_array_equal(found, expected_overlay(plain, masks(classes)))
    np.testing.assert_array_equal(as_seen(image, slices), plain)
    assert torch.equal(image, before)


def cells(sheet: np.ndarray, row: int, column: int) -> list[np.ndarray]:
    """The three pictures of a row of a sheet."""
    height, width = SIDES[0] + TITLE + GAP, SIDES[1] + 2 * GAP
    top = row * height + TITLE
    lefts = [(3 * column + place) * width + GAP for place in range(3)]
    return [sheet[top : top + SIDES[0], left : left + SIDES[1]] for left in lefts]


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(("channels", "slices"), KINDS)
def test_the_columns_of_a_sheet_are_image_truth_and_prediction(channels, slices, channels_last):
    batch = images(channels, channels_last, count=8)
    before = batch.clone()
    truth, guess = masks(2), masks(2, shift=2)
    titles = [f"Bild {place} \u00e4" for place in range(8)]
    sheet = contact_sheet(list(batch), [truth] * 8, [guess] * 8, titles, slices)
    for place, image in enumerate(before):
        plain = expected_image(image, slices)
        found = cells(sheet, place % 6, place // 6)
        np.testing.assert_array_equal(found[0], plain)
        np.testing.assert_array_equal(found[1], expected_overlay(plain, truth))
        np.testing.assert_array_equal(found[2], expected_overlay(plain, guess))
    assert torch.equal(batch, before)


def test_images_of_different_sizes_share_a_sheet():
    small, large = images(3, True)[0], torch.full((3, 40, 50), 9, dtype=torch.uint8)
    none = [torch.zeros(1, *image.shape[1:]) for image in (small, large)]
    sheet = contact_sheet([small, large], none, none, ["a", "b"])
    np.testing.assert_array_equal(cells(sheet, 0, 0)[0], expected_image(small, False))
    assert (sheet[-GAP - 40 : -GAP, GAP : GAP + 50] == 9).all()


@pytest.mark.parametrize("classes", [["polyp"], ["polyp", "tool"]])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_overlay_of_predict_is_the_picture_with_the_masks(
    classes, channels, pictures, tmp_path
):
    checkpoint = write_checkpoint(tmp_path / "a.ckpt", classes=classes, in_channels=channels)
    predict(checkpoint, pictures, tmp_path / "out", "--overlays", "--batch_size", "4")
    model = ls.load(checkpoint)
    for path in itertools.islice(sorted(pictures.glob("*.png")), 3):
        picture = Image.open(path).convert("L" if channels == 1 else "RGB").convert("RGB")
        mask = torch.from_numpy(model.predict(path).mask)
        drawn = overlay(torch.from_numpy(np.array(picture)).permute(2, 0, 1), mask)
        _, content = cv2.imencode(".jpg", drawn[..., ::-1])
        found = read(tmp_path / "out" / "overlays" / f"{path.stem}.jpg")
        np.testing.assert_array_equal(found, cv2.imdecode(content, 1)[..., ::-1])
        assert not np.array_equal(drawn, np.array(picture))
