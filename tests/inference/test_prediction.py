"""What is said of a prediction."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lightning_seg.errors import InputError
from lightning_seg.inference.prediction import Prediction, describe_mask


def test_the_confidence_of_a_mask_is_the_mean_probability_in_it():
    probability = np.array([[0.9, 0.7], [0.2, 0.4]], np.float32)
    found = describe_mask("polyp", probability > 0.5, probability)
    assert (found.area, found.share, found.components) == (2, 0.5, 1)
    assert found.confidence == pytest.approx(0.8)


@pytest.mark.parametrize("highest", [0.0, 0.1, 0.45])
def test_the_confidence_of_an_empty_mask_is_how_far_the_nearest_pixel_is_from_being_sure(highest):
    probability = np.array([[0.0, highest], [0.0, 0.0]], np.float32)
    found = describe_mask("polyp", probability > 0.5, probability)
    assert (found.area, found.components) == (0, 0)
    assert found.confidence == pytest.approx(1 - highest)


def test_a_prediction_says_what_it_found():
    probability = np.zeros((2, 20, 50), np.float32)
    probability[0, 2:6, 3:8] = probability[0, 12:14, 3:8] = 0.75
    found = Prediction(probability > 0.5, probability, ("polyp", "tool"))
    assert repr(found) == (
        "Prediction of 20 x 50 pixels: polyp 3 % in 2 parts, confidence 0.75, "
        "no tool, confidence 1.00"
    )


def two_classes() -> Prediction:
    probability = np.zeros((2, 20, 50), np.float32)
    probability[0, 4:12, 5:20] = 0.75
    probability[1, 10:16, 30:40] = 0.9
    return Prediction(probability > 0.5, probability, ("polyp", "tool"))


@pytest.mark.parametrize("shape", [(20, 50), (20, 50, 1), (20, 50, 3)])
def test_an_overlay_tints_the_masks_and_leaves_the_rest_of_the_picture(shape):
    image = np.full(shape, 90, np.uint8)
    found = two_classes()
    drawn = found.overlay(image)
    assert drawn.shape == (20, 50, 3)
    changed = (drawn != 90).any(-1)
    assert np.array_equal(changed, found.mask.any(0))
    assert (image == 90).all()  # the caller's picture is not drawn into


@pytest.mark.parametrize(
    "image", [np.zeros((50, 20), np.uint8), np.zeros((20, 50)), np.zeros((20, 50, 4), np.uint8)]
)
def test_an_image_of_another_size_or_type_has_no_overlay(image):
    with pytest.raises(InputError, match=r"give the picture of this prediction, \(20, 50\)"):
        two_classes().overlay(image)


def test_a_plot_shows_the_picture_and_each_map(tmp_path: Path):
    figure = two_classes().plot(np.zeros((20, 50, 3), np.uint8))
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert titles == ["masks", "probability of polyp", "probability of tool"]
    figure.savefig(tmp_path / "plot.png")
    assert Image.open(tmp_path / "plot.png").size[0] > 600


def test_saved_masks_are_read_back_as_they_were(tmp_path: Path):
    found = two_classes()
    files = found.save(tmp_path / "new" / "case.png")
    assert [file.name for file in files] == ["case_polyp.png", "case_tool.png"]
    for file, mask in zip(files, found.mask, strict=True):
        assert np.array_equal(np.asarray(Image.open(file)), mask * np.uint8(255))
    [packed] = found.save(tmp_path / "case.npz")
    with np.load(packed) as content:
        assert np.array_equal(content["mask"], found.mask)
        assert np.array_equal(content["probability"], found.probability)
        assert content["classes"].tolist() == ["polyp", "tool"]


def test_one_class_is_saved_under_the_name_that_is_given(tmp_path: Path):
    mask = np.ones((1, 4, 4), bool)
    only = Prediction(mask, mask.astype(np.float32), ("polyp",))
    assert only.save(tmp_path / "case.png") == [tmp_path / "case.png"]
    with pytest.raises(InputError, match=r"give .png or .npz"):
        only.save(tmp_path / "case.jpg")
