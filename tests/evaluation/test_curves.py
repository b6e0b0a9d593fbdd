"""Curves from histograms of probabilities, against scikit-learn."""

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import average_precision_score, precision_recall_curve

from lightning_seg.evaluation.curves import (
    best_threshold,
    calibration_of,
    counted,
    pr_curve,
    reliability,
)
from lightning_seg.evaluation.probability import calibration_sums

BINS = 256


@pytest.fixture(scope="module")
def pixels():
    """Probabilities at the centres of bins, and the truth."""
    random = np.random.default_rng(1)
    truth = random.random(20_000) < 0.3
    probability = np.clip(random.normal(0.35 + 0.3 * truth, 0.2), 0, 0.999)
    return ((probability * BINS).astype(int) + 0.5) / BINS, truth


@pytest.fixture(scope="module")
def histogram(pixels):
    bins = (pixels[0] * BINS).astype(int)
    return np.stack(
        [np.bincount(bins[pixels[1] == kind], minlength=BINS) for kind in (False, True)]
    )


def test_precision_recall_and_their_area_are_those_of_scikit_learn(pixels, histogram):
    probability, truth = pixels
    curve = pr_curve(histogram)
    precision, recall, thresholds = precision_recall_curve(truth, probability)
    at = (thresholds * BINS).astype(int)
    np.testing.assert_allclose(curve.precision[at], precision[:-1])
    np.testing.assert_allclose(curve.recall[at], recall[:-1])
    assert curve.average_precision == pytest.approx(average_precision_score(truth, probability))


def test_the_histogram_comes_back_from_its_curve(histogram):
    curve = pr_curve(histogram)
    np.testing.assert_array_equal(
        counted(curve.tp.astype(np.float32), curve.fp.astype(np.float32)), histogram
    )


def test_reliability_is_that_of_scikit_learn_and_its_error_that_of_a_loop(pixels, histogram):
    probability, truth = pixels
    found = reliability(calibration_of(histogram))
    frequency, mean = calibration_curve(truth, probability, n_bins=16)
    np.testing.assert_allclose(found.frequency, frequency)
    np.testing.assert_allclose(found.probability, mean)
    loop = 0.0
    for low in np.arange(16) / 16:
        inside = (probability >= low) & (probability < low + 1 / 16)
        if inside.any():
            loop += inside.mean() * abs(truth[inside].mean() - probability[inside].mean())
    assert found.ece == pytest.approx(loop)


def test_sums_from_a_histogram_stand_for_those_of_the_pixels(pixels, histogram):
    np.testing.assert_allclose(calibration_of(histogram), calibration_sums(*pixels))


def test_a_class_that_is_never_there_has_precision_zero_and_no_area():
    histogram = np.zeros((2, BINS), np.int64)
    histogram[0, [3, 200]] = 7
    curve = pr_curve(histogram)
    assert curve.average_precision == 0
    assert curve.precision[100] == 0
    assert curve.precision[201] == 1  # nothing is predicted there
    assert np.isfinite(reliability(calibration_of(histogram)).ece)


def test_the_best_threshold_is_that_of_a_loop_over_all():
    random = np.random.default_rng(4)
    truth = random.random((2, 4000)) < 0.2
    maps = np.clip(random.normal(0.3, 0.15, (2, 4000)) + 0.2 * truth, 0, 0.999)
    bins = (maps * 256).astype(int)
    histogram = np.zeros((2, 2, 256), np.int64)
    for k in range(2):
        np.add.at(histogram[k], (truth[k].astype(int), bins[k]), 1)
    dice = {}
    for place in range(1, 256):
        cut = maps >= place / 256
        both = (cut & truth).sum(1)
        dice[place / 256] = (2 * both / (cut.sum(1) + truth.sum(1))).mean()
    found = best_threshold(histogram)
    assert found.dice == pytest.approx(max(dice.values()))
    assert dice[found.value] == pytest.approx(found.dice)
    assert best_threshold(np.zeros((1, 2, 256), np.int64)) is None


def test_of_equal_thresholds_the_nearest_to_a_half_is_the_best():
    histogram = np.zeros((1, 2, 256), np.int64)
    histogram[0, 0, 10] = histogram[0, 1, 200] = 5
    assert best_threshold(histogram).value == 0.5
