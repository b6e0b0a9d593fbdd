"""What is said of a prediction."""

import numpy as np
import pytest

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
