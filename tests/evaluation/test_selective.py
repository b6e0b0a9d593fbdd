"""Confidence, risk-coverage curves and their area, against plain loops."""

import numpy as np
import pytest

from lightning_seg.evaluation.confidence import expected_dice, mean_entropy
from lightning_seg.evaluation.selective import risk_coverage


def test_expected_dice_is_about_the_dice_to_expect_where_probabilities_are_right():
    random = np.random.default_rng(0)
    probability = random.beta(0.4, 0.8, (60, 60))
    mask = probability > 0.5
    dice = []
    for _ in range(300):
        truth = random.random(probability.shape) < probability
        dice.append(2 * (truth & mask).sum() / (truth.sum() + mask.sum()))
    assert expected_dice(probability, mask) == pytest.approx(np.mean(dice), abs=2e-3)
    assert expected_dice(np.full((3, 3), 0.2), np.zeros((3, 3), bool)) == pytest.approx(0.8)


def test_entropy_is_a_bit_where_nothing_is_known_and_nothing_where_all_is():
    assert mean_entropy(np.full((4, 4), 0.5)) == pytest.approx(1)
    assert mean_entropy(np.array([0.0, 1.0], np.float32)) == pytest.approx(0, abs=1e-9)
    assert mean_entropy(np.zeros(0)) == 0


def test_the_area_is_the_mean_risk_of_all_kept_shares():
    random = np.random.default_rng(1)
    risk = random.random(40)
    confidence = -risk + random.normal(0, 0.3, 40)
    found = risk_coverage(confidence, risk)
    order = np.argsort(-confidence)
    means = [risk[order[: kept + 1]].mean() for kept in range(40)]
    assert found.risk == pytest.approx(means)
    assert found.aurc == pytest.approx(np.mean(means))
    assert found.random == pytest.approx(risk.mean())
    assert found.oracle == pytest.approx(np.mean(np.sort(risk).cumsum() / np.arange(1, 41)))
    assert found.oracle < found.aurc < found.random
    assert found.aurc_interval[0] < found.aurc < found.aurc_interval[1]
    assert found.gain == pytest.approx((found.random - found.aurc) / (found.random - found.oracle))


def test_an_order_that_knows_nothing_gains_nothing_and_the_oracle_everything():
    random = np.random.default_rng(2)
    risk = random.random(300)
    same = risk_coverage(np.zeros(300), risk)
    assert same.aurc == pytest.approx(same.random)
    assert same.gain == pytest.approx(0, abs=1e-9)
    assert risk_coverage(-risk, risk).gain == pytest.approx(1)
    low, high = risk_coverage(random.random(300), risk).gain_interval
    assert low < 0 < high


def test_frames_of_one_patient_are_drawn_together_and_few_cases_have_no_curve():
    random = np.random.default_rng(3)
    risk = np.repeat(random.random(12), 20)
    confidence = random.random(240)
    groups = tuple(f"patient {index // 20}" for index in range(240))
    alone, together = risk_coverage(confidence, risk), risk_coverage(confidence, risk, groups)
    widths = [np.ptp(found.random_interval) for found in (alone, together)]
    assert widths[1] > 2 * widths[0]
    assert alone.aurc == together.aurc
    assert risk_coverage(confidence[:9], risk[:9]) is None
