"""Conformal risk control: what it promises holds on average, on data whose truth is known."""

import numpy as np
import pytest
from numpy.typing import NDArray

from lightning_seg.errors import InputError
from lightning_seg.evaluation.conformal import (
    THRESHOLDS,
    Bound,
    Guarantee,
    Kind,
    controlled_threshold,
    error_curves,
    fit_bound,
    unit_losses,
)

Draw = np.random.Generator


def made_curves(random: Draw, images: int) -> dict[Kind, NDArray[np.float64]]:
    """Error curves of images whose networks are differently good: some see nearly nothing."""
    found: dict[Kind, list[NDArray[np.float64]]] = {"outer": [], "inner": []}
    for _ in range(images):
        skill = random.normal(1.5, 1.5)
        truth = np.arange(120) < random.integers(5, 80)
        logit = random.normal(skill * np.where(truth, 1.0, -1.0), 1.0)
        curves = error_curves(1 / (1 + np.exp(-logit)), truth)
        for kind in found:
            found[kind].append(curves[kind])
    return {kind: np.stack(curves) for kind, curves in found.items()}


@pytest.mark.parametrize(("kind", "rate"), [("outer", 0.1), ("outer", 0.25), ("inner", 0.05)])
def test_the_expected_error_of_a_new_image_keeps_the_promise_over_1000_draws(
    kind: Kind, rate: float
) -> None:
    random = np.random.default_rng(7)
    population = made_curves(random, 3000)[kind]
    errors = []
    for _ in range(1000):
        drawn = random.integers(len(population), size=40)
        place = controlled_threshold(population[drawn[:-1]], rate, kind)
        errors.append(population[drawn[-1], place])
    mean, spread = np.mean(errors), np.std(errors) / np.sqrt(len(errors))
    assert mean - 1.96 * spread <= rate  # an upper bound, within its interval
    assert mean + 1.96 * spread >= rate - 2 / 40  # and no looser than theory says


def test_groups_not_images_are_the_units_of_the_promise() -> None:
    # frames of one patient are alike: as many images, as few as 20 independent ones
    random = np.random.default_rng(3)
    population = made_curves(random, 2000)["outer"]
    by_group, by_image = [], []
    for _ in range(600):
        patients = random.integers(len(population), size=21)
        frames = np.repeat(patients[:-1], random.integers(1, 30, size=20))
        groups = [f"patient {each}" for each in frames]
        for found, units in (
            (by_group, unit_losses(population[frames], groups)),
            (by_image, population[frames]),
        ):
            place = controlled_threshold(units, 0.1, "outer")
            found.append(population[patients[-1], place])
    assert np.mean(by_group) <= 0.1 + 1.96 * np.std(by_group) / np.sqrt(600)
    # counted as images the frames would promise more than they keep
    assert np.mean(by_image) > np.mean(by_group)


def test_the_curves_are_the_errors_of_the_masks_above_each_threshold() -> None:
    random = np.random.default_rng(0)
    probability, truth = random.random((9, 7)).astype(np.float32), random.random((9, 7)) < 0.4
    counted = random.random((9, 7)) < 0.8
    curves = error_curves(probability, truth, counted)
    for place in (100, 280, 300, 400):
        mask = probability > THRESHOLDS[place]
        missed = (~mask & truth & counted).sum() / (truth & counted).sum()
        alarms = (mask & ~truth & counted).sum() / (~truth & counted).sum()
        assert curves["outer"][place] == pytest.approx(missed)
        assert curves["inner"][place] == pytest.approx(alarms)


def test_images_without_the_class_say_nothing_of_what_is_missed() -> None:
    empty = error_curves(np.full((4, 4), 0.2), np.zeros((4, 4), bool))
    assert np.isnan(empty["outer"]).all()
    full = error_curves(np.full((4, 4), 0.2), np.ones((4, 4), bool))
    both = np.stack([empty["outer"], full["outer"]])
    assert len(unit_losses(both, ["a", "b"])) == 1
    assert len(unit_losses(both[:1], ["a"])) == 0


def test_too_few_images_for_a_rate_are_refused_with_their_number() -> None:
    losses = np.zeros((8, len(THRESHOLDS)))
    with pytest.raises(InputError, match=r"of 0\.1 needs 9 or more groups.*here are 8"):
        controlled_threshold(losses, 0.1, "outer")
    assert controlled_threshold(np.zeros((9, len(THRESHOLDS))), 0.1, "outer") >= 0
    with pytest.raises(InputError, match="no threshold keeps"):
        controlled_threshold(np.ones((50, len(THRESHOLDS))), 0.1, "outer")
    with pytest.raises(InputError, match="between 0 and 1"):
        fit_bound(np.zeros((9, 1, len(THRESHOLDS))), list("abcdefghi"), 1.5, "outer", ["polyp"])


def test_a_guarantee_comes_back_from_its_plain_values_and_says_what_it_assumes() -> None:
    outer = Bound(0.1, (0.2, 0.3), (40, 30), (0.08, 0.07))
    made = Guarantee(("polyp", "tool"), outer, None, "p", "0123", 50, True)
    assert Guarantee.from_json(made.to_json()) == made
    text = " ".join(made.sentences())
    for word in ("at most 10 %", "new group", "30 groups", "exchangeable", "shift"):
        assert word in text
    probability = np.array([[[0.25]], [[0.25]]], np.float32)
    assert made.outer is not None
    assert made.outer.masks(probability).ravel().tolist() == [True, False]
