"""Steps on masks, against plain definitions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import ndimage
from skimage import measure

from lightning_seg.errors import InputError
from lightning_seg.inference.component_counter import ComponentCounter
from lightning_seg.inference.postprocess import (
    STEPS,
    Postprocess,
    components,
    crf,
    fill_holes,
    keep_largest,
    min_area,
)

planes = arrays.arrays(bool, arrays.array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=7))


def parts(mask):
    """Sizes of connected parts by scikit-image, largest first."""
    labels = measure.label(mask, connectivity=mask.ndim)
    return sorted(np.bincount(labels.ravel())[1:].tolist(), reverse=True)


@given(planes)
@settings(max_examples=80, deadline=None)
def test_components_are_those_of_scikit_image(mask):
    assert components(mask) == len(parts(mask))


@given(planes, st.integers(1, 6))
@settings(max_examples=80, deadline=None)
def test_the_filters_keep_the_largest_parts(mask, pixels):
    sizes = parts(mask)
    assert parts(keep_largest(mask)) == sizes[:1]
    assert parts(min_area(mask, pixels)) == [size for size in sizes if size >= pixels]
    assert not (keep_largest(mask) & ~mask).any()
    assert not (min_area(mask, pixels) & ~mask).any()


@given(planes)
@settings(max_examples=80, deadline=None)
def test_holes_are_filled_as_scipy_fills_them(mask):
    np.testing.assert_array_equal(fill_holes(mask), ndimage.binary_fill_holes(mask))


@given(arrays.arrays(bool, st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 6))))
@settings(max_examples=120, deadline=None)
def test_parts_of_a_volume_are_counted_slice_by_slice(volume):
    counter = ComponentCounter()
    for plane in volume:
        counter.add(plane)
    assert counter.count == len(parts(volume))


def test_the_crf_is_the_mean_field_of_the_dense_model():
    """Against sums over all pairs of pixels, in float64."""
    rng = np.random.default_rng(0)
    mask = ndimage.gaussian_filter(rng.normal(size=(14, 11)), 1.5) > 0
    places = np.argwhere(np.ones(mask.shape))
    squared = ((places[:, None] - places[None]) ** 2).sum(-1)
    kernel = np.exp(-squared / (2 * 3**2))
    norm = 1 / np.sqrt(kernel.sum(1))
    kernel = kernel * norm[:, None] * norm[None]
    unary = -np.log(np.where(mask.ravel()[:, None] == [False, True], 0.7, 0.3))
    belief = np.exp(-unary)
    for _ in range(10):
        belief = np.exp(-unary + 3 * kernel @ belief)
        belief /= belief.sum(1, keepdims=True)
    expected = (belief[:, 1] > belief[:, 0]).reshape(mask.shape)
    assert (crf(mask) != mask).any()
    np.testing.assert_array_equal(crf(mask), expected)


def test_the_crf_removes_specks_and_keeps_a_disc():
    rows, columns = np.ogrid[:64, :64]
    disc = (rows - 30) ** 2 + (columns - 34) ** 2 < 15**2
    noisy = disc.copy()
    noisy[::13, ::11] ^= True
    assert (crf(noisy) != disc).mean() < 0.005 < (noisy != disc).mean()


def test_a_volume_is_smoothed_slice_by_slice():
    volume = np.random.default_rng(1).random((3, 16, 16)) > 0.5
    np.testing.assert_array_equal(crf(volume), np.stack([crf(plane) for plane in volume]))


def test_a_chain_runs_in_its_order_and_a_scope_is_for_its_class_alone():
    ring = np.zeros((2, 9, 9), bool)
    ring[:, 1:6, 1:6] = True
    ring[:, 3, 3] = False
    ring[:, 8, 8] = True
    chain = Postprocess("liver:fill_holes, min_area=2", ["liver", "tumor"])
    found = chain(ring)
    assert found[0].sum() == 25
    assert found[1].sum() == 24
    assert ring[:, 8, 8].all()  # the argument is as it was
    assert not Postprocess("", ["liver"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("fil_holes", "did you mean 'fill_holes'"),
        ("min_area", "min_area takes its number of pixels"),
        ("min_area=-3", "min_area takes its number of pixels"),
        ("crf=2", "the others none"),
        ("livr:crf", "did you mean 'liver'"),
    ],
)
def test_a_wrong_chain_is_a_sentence(text, words):
    with pytest.raises(InputError, match=words):
        Postprocess(text, ["liver"])


@pytest.mark.parametrize("name", sorted(STEPS))
@pytest.mark.parametrize("value", [False, True])
def test_every_step_takes_empty_and_full_masks(name, value):
    text = "min_area=3" if name == "min_area" else name
    mask = np.full((1, 5, 4), value)
    np.testing.assert_array_equal(Postprocess(text, ["polyp"])(mask), mask)
