"""Surface distances against scipy's distance transforms and MONAI, on random and adversarial masks in 2-D and 3-D."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from lightning_seg.errors import InputError
from lightning_seg.evaluation.boundary import boundary_scores, hd95, nsd, surface_distances

masks = hnp.arrays(
    bool, st.shared(hnp.array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=9), key="shape")
)


def edge(mask):
    return mask & ~ndimage.binary_erosion(mask)  # beyond the array is background


def reference(prediction, truth, spacing, tolerance):
    """HD95 and NSD by distance transforms; both masks hold something."""
    ours, theirs = edge(prediction), edge(truth)
    a = ndimage.distance_transform_edt(~theirs, spacing)[ours]
    b = ndimage.distance_transform_edt(~ours, spacing)[theirs]
    reach = tolerance + 1e-9 * max(spacing)  # at the tolerance itself the last bit would decide
    near = (a <= reach).sum() + (b <= reach).sum()
    return max(np.percentile(a, 95), np.percentile(b, 95)), near / (len(a) + len(b))


@settings(max_examples=150, deadline=None)
@given(masks, masks, st.floats(0.3, 4), st.floats(0, 5))
def test_hd95_and_nsd_are_those_of_distance_transforms(prediction, truth, step, tolerance):
    spacing = np.linspace(step, 1, truth.ndim)
    found = boundary_scores(prediction, truth, spacing, tolerance)
    if not prediction.any() and not truth.any():
        assert found == (0, 1)
    elif not prediction.any() or not truth.any():
        diagonal = np.linalg.norm((np.array(truth.shape) - 1) * spacing)
        assert found == pytest.approx((diagonal, 0))
    else:
        assert found == pytest.approx(reference(prediction, truth, spacing, tolerance))


@settings(max_examples=60, deadline=None)
@given(masks, masks)
def test_boundary_scores_do_not_depend_on_which_mask_is_the_truth_and_are_perfect_for_a_copy(
    prediction, truth
):
    assert boundary_scores(prediction, truth) == pytest.approx(boundary_scores(truth, prediction))
    assert boundary_scores(truth, truth.copy()) == (0, 1)


@pytest.mark.parametrize("shape", [(40, 50), (12, 30, 28)])
def test_hd95_and_nsd_are_those_of_monai(shape):
    import torch
    from monai.metrics import compute_hausdorff_distance, compute_surface_dice

    generator, spacing = np.random.default_rng(3), [1.5, 0.7, 0.9][: len(shape)]
    for _ in range(3):
        smooth = [ndimage.gaussian_filter(generator.normal(size=shape), 3) for _ in range(2)]
        a, b = (values > np.quantile(values, 0.8) for values in smooth)
        tensors = [torch.from_numpy(mask)[None, None] for mask in (a, b)]
        expected = compute_hausdorff_distance(
            *tensors, percentile=95, spacing=spacing, include_background=True
        )
        assert hd95(a, b, spacing) == pytest.approx(float(expected), rel=1e-5)
        dice = compute_surface_dice(*tensors, [2.0], include_background=True, spacing=None)
        assert nsd(a, b, 1.0, 2.0) == pytest.approx(float(dice), abs=1e-6)


def test_a_distance_of_the_tolerance_itself_is_within_it_whatever_the_spacing():
    a, b = np.zeros((9, 1), bool), np.zeros((9, 1), bool)
    for step in (0.1, 0.7, 1 / 3, 2.0472732722291753):
        for place in range(8):
            a[:], b[:] = False, False
            a[place], b[place + 1] = True, True
            assert nsd(a, b, (step, 1.0), tolerance=step) == 1
            assert nsd(a, b, (step, 1.0), tolerance=step * 0.999) == 0


def test_two_pixels_are_as_far_apart_as_their_spacing_says():
    a, b = np.zeros((5, 9), bool), np.zeros((5, 9), bool)
    a[4, 0], b[0, 8] = True, True
    distances = surface_distances(a, b, (2.0, 0.5))
    assert distances.to_truth == pytest.approx([np.hypot(8, 4)])
    assert distances.to_prediction == pytest.approx([np.hypot(8, 4)])
    assert nsd(a, b, (2.0, 0.5), tolerance=9) == 1
    assert np.isinf(surface_distances(a, np.zeros_like(a)).to_truth).all()


@pytest.mark.parametrize("spacing", [0, -1.0, (1.0, 2.0, 3.0), (1.0, float("nan"))])
def test_a_spacing_that_is_none_is_refused(spacing):
    with pytest.raises(InputError, match="spacing"):
        hd95(np.ones((3, 3), bool), np.ones((3, 3), bool), spacing)


def test_masks_of_two_shapes_are_refused():
    with pytest.raises(InputError, match=r"\(3, 3\) and \(3, 4\)"):
        hd95(np.ones((3, 3), bool), np.ones((3, 4), bool))
