"""Losses of skeletons, distances and outlines against NumPy and SciPy; weights of classes."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from lightning_seg.errors import InputError
from lightning_seg.training.loss_terms import cross_entropy
from lightning_seg.training.losses import TERMS, WeightedLoss, against_rest
from lightning_seg.training.shape_losses import signed_distance, soft_skeleton

CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], bool)


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 20, 24, generator=generator) * 2
    mask = ndimage.gaussian_filter(torch.randn(2, 3, 20, 24, generator=generator), 1.5) > 0.1
    return logits, torch.from_numpy(mask).float()


def probability_of(logits):
    return 1 / (1 + np.exp(-logits.double().numpy()))


def skeleton_by_scipy(values, iterations):
    """Shit et al. 2021, algorithm 1, by grey morphology; the border erodes nothing."""

    def eroded(plane):
        return ndimage.grey_erosion(plane, footprint=CROSS, mode="constant", cval=np.inf)

    def opened(plane):
        return ndimage.grey_dilation(eroded(plane), (3, 3), mode="constant", cval=-np.inf)

    found = np.maximum(values - opened(values), 0)
    for _ in range(iterations):
        values = eroded(values)
        ridge = np.maximum(values - opened(values), 0)
        found = found + np.maximum(ridge - found * ridge, 0)
    return found


def test_the_soft_skeleton_and_its_loss_are_those_of_grey_morphology(pair):
    logits, mask = pair
    planes = probability_of(logits)
    predicted = np.array([[skeleton_by_scipy(p, 4) for p in image] for image in planes])
    true = np.array([[skeleton_by_scipy(p, 4) for p in image] for image in mask.double().numpy()])
    kept = torch.ones(2, 1, 20, 24)
    found = soft_skeleton(torch.from_numpy(planes).float(), kept, 4)
    np.testing.assert_allclose(found, predicted, atol=1e-5)
    axes = (0, 2, 3)
    precision = ((predicted * mask.numpy()).sum(axes) + 1) / (predicted.sum(axes) + 1)
    sensitivity = ((true * planes).sum(axes) + 1) / (true.sum(axes) + 1)
    expected = (1 - 2 * precision * sensitivity / (precision + sensitivity)).mean()
    assert TERMS["cldice"](logits, mask, iterations=4).item() == pytest.approx(expected, abs=1e-5)


def test_a_broken_vessel_costs_more_cldice_than_a_thin_one():
    vessel = torch.zeros(1, 1, 32, 32)
    vessel[..., 14:19, :] = 1
    thin, broken = vessel.clone(), vessel.clone()
    thin[..., 14, :] = thin[..., 18, :] = 0
    broken[..., 12:20] = 0
    loss = [TERMS["cldice"](each * 40 - 20, vessel).item() for each in (thin, broken)]
    assert loss[0] < 0.05 < 0.1 < loss[1]


def test_distances_are_those_of_a_loop_over_pixels(pair):
    mask = pair[1][:1, :1]
    truth = mask[0, 0].numpy() > 0
    places = np.argwhere(np.ones_like(truth))
    found = signed_distance(mask)[0, 0].numpy()
    for row, column in places[::7]:
        other = np.argwhere(truth != truth[row, column])
        nearest = np.sqrt(((other - (row, column)) ** 2).sum(1)).min()
        expected = -(nearest - 1) if truth[row, column] else nearest
        assert found[row, column] == pytest.approx(expected, abs=1e-5)


def test_the_boundary_loss_is_the_distance_over_what_is_wrong(pair):
    logits, mask = pair
    distance = signed_distance(mask).double().numpy()
    expected = ((probability_of(logits) - mask.numpy()) * distance).mean()
    assert TERMS["boundary"](logits, mask).item() == pytest.approx(expected, abs=1e-5)


def test_the_structure_loss_is_its_formula(pair):
    logits, mask = pair
    p, y = probability_of(logits), mask.double().numpy()
    mean = np.array(
        [[ndimage.uniform_filter(plane, 31, mode="constant") for plane in image] for image in y]
    )
    weight = 1 + 5 * np.abs(mean - y)
    entropy = -(y * np.log(p) + (1 - y) * np.log(1 - p))
    axes = (2, 3)
    weighted = (weight * entropy).sum(axes) / weight.sum(axes)
    both, either = (p * y * weight).sum(axes), ((p + y) * weight).sum(axes)
    expected = (weighted + 1 - (both + 1) / (either - both + 1)).mean()
    assert TERMS["structure"](logits, mask).item() == pytest.approx(expected, abs=1e-4)


def exclusive_pair():
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(2, 4, 9, 11, generator=generator) * 3
    labels = torch.randint(4, (2, 9, 11), generator=generator)
    mask = torch.stack([labels == k for k in (1, 2, 3)], 1)
    return logits, mask, labels.numpy()


def softmax_of(logits):
    powers = np.exp(logits.double().numpy())
    return powers / powers.sum(1, keepdims=True)


def test_a_class_against_the_rest_has_the_probability_of_the_softmax():
    logits = exclusive_pair()[0]
    np.testing.assert_allclose(against_rest(logits).sigmoid(), softmax_of(logits), atol=1e-6)
    sure = torch.tensor([200.0, -200.0, 0.0]).view(1, 3, 1, 1).requires_grad_()
    against_rest(sure).sum().backward()
    assert sure.grad.isfinite().all()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_with_weights_and_smoothing_is_its_formula(smoothing):
    logits, mask, labels = exclusive_pair()
    weights = [1.0, 2.0, 1.0, 5.0]
    terms = {
        "cross_entropy": {
            "class_weights": {"b": 2, "d": 5},
            "label_smoothing": smoothing,
        }
    }
    loss = WeightedLoss(terms, ["b", "c", "d"], exclusive=True)(logits, mask)
    target = np.eye(4)[labels].transpose(0, 3, 1, 2) * (1 - smoothing) + smoothing / 4
    by_class = np.array(weights).reshape(1, 4, 1, 1)
    costs = -(by_class * target * np.log(softmax_of(logits))).sum()
    # a list has the order background, b, c, d
    assert loss.item() == pytest.approx(costs / np.take([1, 2, 1, 5], labels).sum(), abs=1e-5)


def test_pixels_that_do_not_count_leave_the_cross_entropy():
    logits, mask, _ = exclusive_pair()
    whole = torch.cat([1 - mask.sum(1, keepdim=True).float(), mask.float()], 1)
    counted = torch.zeros(2, 1, 9, 11)
    counted[..., :4] = 1
    found = cross_entropy(logits, whole, counted, [1.0, 2.0, 3.0, 4.0])
    cut = cross_entropy(logits[..., :4], whole[..., :4], None, [1.0, 2.0, 3.0, 4.0])
    assert found.item() == pytest.approx(cut.item(), abs=1e-6)
    assert cross_entropy(logits, whole, counted * 0).item() == 0


@pytest.mark.parametrize("background", [False, True])
def test_dice_of_exclusive_classes_is_over_the_softmax(background):
    logits, mask, labels = exclusive_pair()
    terms = {"dice": {"weight": 1.0, "background": background}}
    loss = WeightedLoss(terms, ["b", "c", "d"], exclusive=True)(logits, mask)
    p, y = softmax_of(logits), np.eye(4)[labels].transpose(0, 3, 1, 2)
    dice = (2 * (p * y).sum((0, 2, 3)) + 1) / ((p + y).sum((0, 2, 3)) + 1)
    expected = 1 - dice[0 if background else 1 :].mean()
    assert loss.item() == pytest.approx(expected, abs=1e-5)


def test_pos_weight_multiplies_the_foreground(pair):
    logits, mask = pair
    terms = {"bce": {"weight": 1.0, "pos_weight": {"b": 5}}}
    loss = WeightedLoss(terms, ["a", "b", "c"])(logits, mask)
    p, y = probability_of(logits), mask.numpy()
    weight = np.array([1.0, 5.0, 1.0]).reshape(1, 3, 1, 1)
    expected = -(weight * y * np.log(p) + (1 - y) * np.log(1 - p)).mean()
    assert loss.item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("terms", "exclusive", "words"),
    [
        ({"cross_entropy": 1}, False, "set classes: exclusive"),
        ({"cross_entropy": {"class_weights": {"x": 1}}}, True, "no class in class_weights"),
        ({"cross_entropy": {"class_weights": [1, 2]}}, True, "background, a, b"),
        ({"cross_entropy": {"class_weights": 3}}, True, "a number for each class"),
        ({"cross_entropy": {"label_smoothing": 1.5}}, True, "below 1"),
        ({"bce": {"pos_weight": [1, 0]}}, False, "above 0 for each of a, b"),
        ({"bce": {"pos_weight": -1}}, False, "above 0"),
        ({"dice": {"background": True}}, False, "no option of loss 'dice'"),
    ],
)
def test_a_bad_option_of_classes_is_one_sentence(terms, exclusive, words):
    with pytest.raises(InputError, match=words):
        WeightedLoss(terms, ["a", "b"], exclusive)
