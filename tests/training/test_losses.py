"""Losses against plain numpy, and their behaviour as a weighted sum."""

import inspect

import numpy as np
import pytest
import torch

from lightning_seg.errors import InputError
from lightning_seg.training.losses import TERMS, WeightedLoss


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 2, 8, 9, generator=generator) * 2
    mask = (torch.rand(3, 2, 8, 9, generator=generator) > 0.7).float()
    return logits, mask


def numpy_counts(logits, mask, axes):
    p, y = 1 / (1 + np.exp(-logits.numpy().astype(np.float64))), mask.numpy().astype(np.float64)
    return (
        (p * y).sum(axes),
        (p * (1 - y)).sum(axes),
        ((1 - p) * y).sum(axes),
        ((1 - p) * (1 - y)).sum(axes),
    )


@pytest.mark.parametrize(("per_image", "axes"), [(False, (0, 2, 3)), (True, (2, 3))])
def test_overlap_losses_equal_their_formulas(pair, per_image, axes):
    tp, fp, fn, _ = numpy_counts(*pair, axes)
    expected = {
        "dice": (1 - (2 * tp + 1) / (2 * tp + fp + fn + 1)).mean(),
        "jaccard": (1 - (tp + 1) / (tp + fp + fn + 1)).mean(),
        "tversky": (1 - (tp + 1) / (tp + 0.3 * fp + 0.7 * fn + 1)).mean(),
    }
    for name, value in expected.items():
        assert TERMS[name](*pair, per_image=per_image).item() == pytest.approx(value, abs=1e-5)


def test_mcc_loss_equals_the_correlation_of_soft_counts_over_the_batch(pair):
    tp, fp, fn, tn = numpy_counts(*pair, (0, 2, 3))
    expected = 1 - (tp * tn - fp * fn) / np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    assert TERMS["mcc"](*pair).item() == pytest.approx(expected.mean(), abs=1e-5)


def test_mcc_loss_of_hard_predictions_is_that_of_sklearn(pair):
    from sklearn.metrics import matthews_corrcoef

    logits, mask = pair[0][:, :1], pair[1][:, :1]
    hard = (logits > 0).float() * 80 - 40
    expected = 1 - matthews_corrcoef(mask.flatten().numpy(), (logits > 0).flatten().numpy())
    assert TERMS["mcc"](hard, mask).item() == pytest.approx(expected, abs=1e-4)


def test_focal_loss_equals_its_formula(pair):
    p, y = 1 / (1 + np.exp(-pair[0].numpy().astype(np.float64))), pair[1].numpy()
    pt, at = np.where(y == 1, p, 1 - p), np.where(y == 1, 0.25, 0.75)
    assert TERMS["focal"](*pair).item() == pytest.approx(
        (-at * (1 - pt) ** 2 * np.log(pt)).mean(), abs=1e-6
    )


def test_lovasz_hinge_at_saturated_logits_is_the_jaccard_loss(pair):
    """On hard errors (margin 1: logits +-1 give 0 or 2) the surrogate is twice the Jaccard loss of the set of errors."""
    mask = pair[1]
    prediction = pair[0] > 0
    logits = prediction.float() * 2 - 1
    union = (prediction | (mask > 0)).sum((2, 3))
    jaccard = 1 - (prediction & (mask > 0)).sum((2, 3)) / union
    assert TERMS["lovasz"](logits, mask).item() == pytest.approx(
        2 * jaccard.mean().item(), abs=1e-5
    )


def test_the_calibration_error_equals_its_formula_in_numpy(pair):
    logits, mask = pair
    p, y = 1 / (1 + np.exp(-logits.double().numpy())), mask.double().numpy()
    errors = []
    for image in range(3):
        for channel in range(2):
            probability, truth = p[image, channel].ravel(), y[image, channel].ravel()
            places = np.minimum((probability * 20).astype(int), 19)
            gaps = [
                abs(probability[places == bin].mean() - truth[places == bin].mean())
                for bin in np.unique(places)
            ]
            errors.append(np.mean(gaps))
    assert TERMS["ace"](*pair).item() == pytest.approx(np.mean(errors), abs=1e-5)


def test_the_calibration_error_takes_certainty_from_a_network_that_is_too_sure():
    """Half of the pixels that it calls sure are wrong: it learns to say one half."""
    mask = (torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(0)) > 0.5).float()
    bias = torch.full((1,), 4.0, requires_grad=True)
    optimizer = torch.optim.Adam([bias], lr=0.1)
    for _ in range(200):
        optimizer.zero_grad()
        TERMS["ace"](bias.expand(1, 1, 64, 64), mask).backward()
        optimizer.step()
    assert bias.sigmoid().item() == pytest.approx(mask.mean().item(), abs=0.03)


@pytest.mark.parametrize("name", sorted(TERMS))
def test_every_loss_is_low_for_the_truth_and_finite_with_gradient_on_empty_masks(name, pair):
    mask = pair[1]
    good, bad = TERMS[name](mask * 40 - 20, mask), TERMS[name](20 - mask * 40, mask)
    assert good < 0.05
    assert bad > good + 0.1
    logits = pair[0].clone().requires_grad_()
    loss = TERMS[name](logits, torch.zeros_like(mask))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize(
    "options", [{}, {"per_image": True}, {"per_pixel": True}], ids=["default", "image", "pixel"]
)
@pytest.mark.parametrize("name", sorted(TERMS))
def test_ignored_pixels_leave_a_loss_as_if_they_were_cut_away(name, options, pair):
    if not set(options) <= set(inspect.signature(TERMS[name]).parameters):
        options = {}
    logits, mask = pair[0].clone().requires_grad_(), pair[1]
    counted = torch.zeros(len(mask), 1, *mask.shape[2:])
    counted[..., :5] = 1
    found = TERMS[name](logits, mask, counted, **options)
    expected = TERMS[name](logits[..., :5].contiguous(), mask[..., :5].contiguous(), **options)
    assert found.item() == pytest.approx(expected.item(), abs=1e-5)
    gradients = [torch.autograd.grad(loss, logits)[0] for loss in (found, expected)]
    torch.testing.assert_close(*gradients, atol=1e-5, rtol=1e-4)
    assert not gradients[0][..., 5:].any()
    everything = TERMS[name](logits, mask, torch.ones_like(counted), **options)
    assert everything.item() == pytest.approx(TERMS[name](logits, mask, **options).item(), abs=1e-6)


@pytest.mark.parametrize("name", sorted(TERMS))
def test_a_batch_of_which_no_pixel_counts_has_a_finite_loss_and_no_gradient(name, pair):
    logits = pair[0].clone().requires_grad_()
    loss = TERMS[name](logits, pair[1], torch.zeros(len(logits), 1, *logits.shape[2:]))
    assert torch.isfinite(loss)
    assert not torch.autograd.grad(loss, logits)[0].any()


def test_the_weighted_sum_adds_its_terms_in_float32(pair):
    loss = WeightedLoss({"bce": 0.5, "dice": {"weight": 0.25, "smooth": 2.0}})
    expected = 0.5 * TERMS["bce"](*pair) + 0.25 * TERMS["dice"](*pair, smooth=2.0)
    assert loss(*pair).item() == pytest.approx(expected.item(), abs=1e-6)
    assert loss(pair[0].bfloat16(), pair[1].to(torch.uint8)).dtype == torch.float32


def test_deep_outputs_add_the_mean_of_their_losses(pair):
    loss, mask = WeightedLoss({"bce": 1.0}), pair[1]
    logits, *deep = pair[0], pair[0] + 1, -pair[0], pair[0] * 3
    expected = loss(logits, mask) + sum(loss(each, mask) for each in deep) / 3
    torch.testing.assert_close(loss.supervised([logits, *deep], mask), expected)
    torch.testing.assert_close(loss.supervised([logits], mask), loss(logits, mask))


SATURATED = 40.0


def square(side, size=64, batch=2):
    """Masks whose foreground is a square of ``side`` pixels; 0: none, the size: everything."""
    mask = torch.zeros(batch, 1, size, size)
    mask[..., :side, :side] = 1
    return mask


@pytest.mark.parametrize("size", [16, 512])
@pytest.mark.parametrize("share", ["none", "pixel", "all but one", "all"])
@pytest.mark.parametrize("name", sorted(TERMS))
def test_a_perfect_prediction_has_no_loss_whatever_its_area(name, share, size):
    mask = square({"none": 0, "pixel": 1, "all but one": 1, "all": size}[share], size)
    mask = 1 - mask if share == "all but one" else mask
    logits = (SATURATED * (2 * mask - 1)).requires_grad_()
    loss = TERMS[name](logits, mask)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-5)
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("name", ["dice", "jaccard", "lovasz", "mcc", "tversky"])
def test_an_overlap_loss_punishes_a_missed_pixel_and_a_false_mask(name):
    nothing, pixel = square(0), square(1)
    missed = TERMS[name](torch.full_like(pixel, -SATURATED), pixel)
    everything = TERMS[name](torch.full_like(nothing, SATURATED), nothing)
    assert missed > 0.3
    assert everything > 0.9


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("dice", {"smooth": 0}),
        ("jaccard", {"alpha": 0}),
        ("tversky", {"smooth": 0}),
        ("mcc", {"smooth": 0}),
        ("focal", {"gamma": 0.5}),
        ("focal", {"gamma": 0}),
    ],
)
@pytest.mark.parametrize("side", [0, 16])
def test_options_at_their_ends_give_finite_losses_and_gradients(name, options, side):
    mask = square(side, 16)
    for logit in (-200.0, 0.0, 200.0):
        logits = torch.full_like(mask, logit).requires_grad_()
        loss = TERMS[name](logits, mask, **options)
        loss.backward()
        assert loss.isfinite()
        assert logits.grad.isfinite().all()


@pytest.mark.parametrize(
    ("terms", "words"),
    [
        ({"dise": 1}, "did you mean 'dice'"),
        ({"dice": {"smoth": 1}}, "did you mean 'smooth'"),
        ({"dice": -1}, "at least 0"),
        ({"dice": "much"}, "'much'"),
        ({}, "empty"),
    ],
)
def test_a_bad_loss_is_one_sentence(terms, words):
    with pytest.raises(InputError, match=words):
        WeightedLoss(terms)
