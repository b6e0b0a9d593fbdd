"""Windows that slide over a picture: an independent implementation, and what they must not change."""

import numpy as np
import pytest
import torch

from lightning_seg.data.sliding import (
    cut_sample,
    cut_window,
    sliding_bands,
    sliding_map,
    window_starts,
)
from lightning_seg.data.sources.base import Sample


def picture(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def windows_of(image, side):
    def read(corners):
        cut = np.stack([cut_window(image, corner, side) for corner in corners])
        return torch.from_numpy(cut).permute(0, 3, 1, 2).float()

    return read


@pytest.mark.parametrize("shape", [(70, 90), (32, 32), (33, 200), (20, 90), (7, 9)])
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5])
def test_maps_are_those_of_monai(shape, overlap):
    from monai.inferers import sliding_window_inference

    image, side = picture(*shape), 32
    kernel = torch.randn(2, 3, 5, 5, generator=torch.Generator().manual_seed(0)) / 500

    def network(x):
        return torch.nn.functional.conv2d(x, kernel, padding=2).sigmoid()

    read = windows_of(image, side)
    ours = sliding_map(shape, side, overlap, 3, lambda corners: network(read(corners)))
    whole = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    theirs = sliding_window_inference(
        whole, (side, side), 3, network, overlap, mode="gaussian", padding_mode="replicate"
    )
    torch.testing.assert_close(ours, theirs[0], atol=1e-5, rtol=1e-5)


def test_what_depends_on_a_pixel_alone_is_the_same_in_windows():
    image = picture(50, 77)
    found = sliding_map((50, 77), 16, 0.5, 4, windows_of(image, 16))
    np.testing.assert_allclose(found.permute(1, 2, 0).numpy(), image, atol=1e-3)


def test_bands_cover_each_row_once_and_hold_few():
    image, rows = picture(100, 40), []
    for band in sliding_bands((100, 40), 32, 0.5, 2, windows_of(image, 32)):
        rows += range(band.top, band.top + band.values.shape[1])
        assert band.values.shape[1] <= 32
        expected = image[band.top : band.top + band.values.shape[1]].transpose(2, 0, 1)
        np.testing.assert_allclose(band.values.numpy(), expected, atol=1e-3)
    assert rows == list(range(100))


def test_windows_end_with_the_picture():
    assert window_starts(100, 32, 0.5) == [0, 16, 32, 48, 64, 68]
    assert window_starts(32, 32, 0.5) == [0]


def test_what_lies_outside_a_picture_repeats_its_edge_and_is_ignored():
    image = picture(10, 12)
    sample = Sample(image, np.ones((10, 12, 1), np.uint8))
    cut = cut_sample(sample, (-3, -2), 16, with_region=True)
    np.testing.assert_array_equal(cut.image[3:13, 2:14], image)
    assert (cut.image[0, 2:14] == image[0]).all()
    assert cut.region.sum() == 2 * 10 * 12
    assert not cut.region[:3].any()
