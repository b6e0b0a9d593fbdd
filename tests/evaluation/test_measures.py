"""The measures of single images against PySODMetrics, PraNet's loop, scikit-learn and plain numpy, on adversarial masks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from py_sod_metrics import MAE, Emeasure, Smeasure, WeightedFmeasure
from scipy import ndimage
from skimage.morphology import skeletonize
from sklearn import metrics as sk

from lightning_seg.errors import InputError
from lightning_seg.evaluation.measures import FAMILIES, cldice, measure, measure_names
from lightning_seg.evaluation.probability import calibration_sums, ece, roc_auc, roc_sums
from lightning_seg.evaluation.saliency import stretch, threshold_counts, threshold_curves

SHAPE = (13, 17)
maps = hnp.arrays(np.float32, SHAPE, elements=st.floats(0, 1, width=32))
truths = hnp.arrays(bool, SHAPE)


def adversarial():
    """Truths that break measures: empty, full, one pixel inside, in each corner, along a border."""
    found = {"empty": np.zeros(SHAPE, bool), "full": np.ones(SHAPE, bool)}
    for name, place in {
        "pixel": (5, 5),
        "corner": (0, 0),
        "last corner": (-1, -1),
        "last row": (-1, slice(None)),
    }.items():
        found[name] = np.zeros(SHAPE, bool)
        found[name][place] = True
    return found


def pysod(stretched, truth):
    found = {}
    for name, metric in {
        "s": Smeasure(),
        "e": Emeasure(),
        "w": WeightedFmeasure(),
        "m": MAE(),
    }.items():
        with np.errstate(all="ignore"):
            metric.step(stretched, truth, normalize=False)
        found[name] = metric.get_results()
    return {
        "s_measure": found["s"]["sm"],
        "e_measure": found["e"]["em"]["curve"].mean(),
        "e_measure_adaptive": found["e"]["em"]["adp"],
        "weighted_f": found["w"]["wfm"],
        "mae": found["m"]["mae"],
    }, found["e"]["em"]["curve"]


def check_against_pysod(probability, truth):
    found = measure(probability, truth, families=["saliency"])
    expected, curve = pysod(stretch(probability), truth)
    for name, value in expected.items():
        if np.isfinite(
            value
        ):  # the library divides by zero where the truth ends at the last row or column
            assert found.values[name] == pytest.approx(value, abs=1e-9), name
    np.testing.assert_allclose(found.curves[2], curve, atol=1e-9)


@settings(max_examples=60, deadline=None)
@given(maps, truths)
def test_saliency_measures_are_those_of_pysodmetrics(probability, truth):
    check_against_pysod(probability, truth)


@pytest.mark.parametrize("name", adversarial())
@pytest.mark.filterwarnings("ignore:.*")
def test_measures_of_adversarial_masks_are_finite_and_those_of_pysodmetrics(name):
    truth = adversarial()[name]
    noise = np.random.default_rng(0).random(SHAPE).astype(np.float32)
    for probability in (noise, np.zeros_like(noise), np.ones_like(noise), truth.astype(np.float32)):
        check_against_pysod(probability, truth)
        found = measure(probability, truth)
        assert np.isfinite(list(found.values.values())).all()
        assert np.isfinite(found.curves).all()


@pytest.mark.parametrize("seed", range(5))
def test_pranet_means_over_256_thresholds_are_those_of_its_loop(seed):
    generator = np.random.default_rng(seed)
    probability, truth = generator.random(SHAPE) ** 3 * 0.7, generator.random(SHAPE) > 0.7
    stretched, dice, iou = stretch(probability), [], []
    for threshold in np.linspace(1, 0, 256):
        prediction = stretched >= threshold
        tp = (prediction & truth).sum()
        dice.append(2 * tp / (truth.sum() + prediction.sum()) if tp else 0)
        iou.append(tp / (truth | prediction).sum() if tp else 0)
    curves = threshold_curves(threshold_counts(stretched, truth), int(truth.sum()), truth.size)
    np.testing.assert_allclose(curves[:2], [dice, iou], atol=1e-12)
    found = measure(probability, truth, families=["saliency"])
    assert (found.values["dice_pranet"], found.values["iou_pranet"]) == pytest.approx(
        (np.mean(dice), np.mean(iou))
    )
    assert found.curves.max(1)[:2] == pytest.approx([max(dice), max(iou)])


def test_cldice_counts_skeletons_inside_the_other_mask():
    truth = np.zeros((40, 60), bool)
    truth[18:23, 5:55] = True
    prediction = np.zeros_like(truth)
    prediction[18:23, 5:30] = True
    ours, theirs = skeletonize(prediction), skeletonize(truth)
    precision, sensitivity = (
        (ours & truth).sum() / ours.sum(),
        (theirs & prediction).sum() / theirs.sum(),
    )
    assert precision == 1
    assert 0.4 < sensitivity < 0.6
    assert cldice(prediction, truth) == pytest.approx(
        2 * precision * sensitivity / (precision + sensitivity)
    )
    assert cldice(truth, truth) == 1
    empty = np.zeros_like(truth)
    assert (cldice(empty, empty), cldice(empty, truth), cldice(truth, empty)) == (1, 0, 0)


@settings(max_examples=40, deadline=None)
@given(maps, truths)
def test_calibration_error_and_brier_score_are_those_of_loops_and_sklearn(probability, truth):
    sums = calibration_sums(probability, truth)
    expected, flat, labels = 0.0, probability.ravel().astype(float), truth.ravel()
    for place in range(len(sums)):
        inside = (flat >= place / len(sums)) & (
            (flat < (place + 1) / len(sums)) | (place + 1 == len(sums))
        )
        if inside.any():
            expected += inside.mean() * abs(labels[inside].mean() - flat[inside].mean())
    assert float(ece(sums)) == pytest.approx(expected)
    brier = sk.brier_score_loss(labels, flat, labels=[False, True], pos_label=True)
    assert measure(probability, truth).values["brier"] == pytest.approx(brier)


def test_the_area_under_the_roc_curve_is_that_of_sklearn_also_for_saturated_probabilities():
    generator = np.random.default_rng(0)
    truth = generator.random((64, 64)) > 0.8
    logits = generator.normal(size=truth.shape) * 3 + 8 * truth - 4
    probability = (1 / (1 + np.exp(-logits))).astype(np.float32)
    assert (probability > 255 / 256).mean() > 0.05
    assert roc_auc(roc_sums(probability, truth)) == pytest.approx(
        sk.roc_auc_score(truth.ravel(), logits.ravel()), abs=1e-5
    )
    assert np.isnan(roc_auc(roc_sums(probability, np.zeros_like(truth))))


def test_ignored_pixels_change_no_measure():
    generator = np.random.default_rng(1)
    counted = np.zeros(SHAPE, bool)
    counted[2:10, 3:12] = True
    probability, truth = generator.random(SHAPE), generator.random(SHAPE) > 0.6
    other = (
        np.where(counted, probability, generator.random(SHAPE)),
        truth ^ (~counted & (generator.random(SHAPE) > 0.5)),
    )
    first, second = measure(probability, truth, counted), measure(*other, counted)
    assert first.values == second.values
    assert first.components == second.components
    np.testing.assert_array_equal(first.calibration, second.calibration)
    assert first.calibration[:, 0].sum() == counted.sum()
    assert first.values["brier"] == pytest.approx(((probability - truth)[counted] ** 2).mean())


def test_lesions_that_touch_at_a_corner_are_one():
    truth = np.zeros(SHAPE, bool)
    truth[1:3, 1:3] = truth[3:5, 3:5] = truth[9:11, 9:11] = True
    assert measure(truth.astype(float), truth).components == 2
    assert ndimage.label(truth)[1] == 3


def test_families_choose_what_is_measured():
    truth = np.eye(8, dtype=bool)
    assert set(measure(truth.astype(float), truth, families=["boundary"]).values) == {"hd95", "nsd"}
    assert measure_names(["boundary", "topology"]) == ("hd95", "nsd", "cldice")
    assert set(measure(truth.astype(float), truth).values) == set(measure_names(tuple(FAMILIES)))
    with pytest.raises(InputError, match="did you mean 'boundary'"):
        measure_names(["boundry"])
