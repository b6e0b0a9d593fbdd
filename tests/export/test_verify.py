"""`lightning_seg.export.verify`: agreement against plain numpy, and the rule by which an export is refused."""

import numpy as np
import pytest
import torch

from lightning_seg.errors import InputError
from lightning_seg.export import verify
from lightning_seg.export._graph import scaled
from lightning_seg.export._trace import Shapes
from lightning_seg.export.verify import agreement, image_batches, verify_logits
from lightning_seg.inference.network import Network, Trained
from lightning_seg.module import SegmentationModule


@pytest.fixture(scope="module")
def network() -> Network:
    torch.manual_seed(0)
    module = SegmentationModule("unet", options={"widths": [4, 8]}, classes=["polyp"]).eval()
    return Network([module], Trained(("polyp",), 3, 32, "phantom_polyp", {}))


def images(count: int = 2) -> list[np.ndarray]:
    return list(np.random.default_rng(0).random((count, 1, 3, 32, 32), np.float32))


def test_agreement_is_the_largest_difference_and_the_mean_dice():
    one = np.array([[[[3.0, -1.0], [1.0, -2.0]]]], np.float32)  # the mask has two pixels
    other = np.array([[[[3.5, -1.0], [-1.0, -2.0]]]], np.float32)  # one of them
    empty = -np.ones_like(one)
    found = agreement(lambda batch: batch[:, :1], lambda batch: batch[:, 1:], [np.concatenate([one, other], 1)])
    assert found == (2.0, 2 / 3, 1, 3.0)
    both_empty = agreement(lambda batch: batch, lambda batch: batch, [empty])
    assert both_empty.dice == 1


def test_agreement_cuts_at_the_threshold_of_the_probability():
    probability = np.array([0.2, 0.35, 0.6, 0.9], np.float32).reshape(1, 1, 2, 2)
    logits = np.log(probability / (1 - probability))
    found = agreement(
        lambda batch: batch, lambda batch: np.where(batch == logits[0, 0, 0, 1], -9, batch), [logits], 0.3
    )
    assert found.dice == pytest.approx(2 * 2 / (3 + 2))


def test_no_numbers_and_other_shapes_never_agree():
    batch = np.zeros((1, 1, 2, 2), np.float32)
    assert agreement(lambda x: x, lambda x: x * np.nan, [batch]).max_difference == np.inf
    with pytest.raises(InputError, match="shape"):
        agreement(lambda x: x, lambda x: x[..., :1], [batch])


def test_logits_beyond_the_bound_are_refused_unless_float32_itself_is_as_far_off(network, monkeypatch):
    reference = verify.reference_of(network)
    assert verify_logits(network, reference, images()).found.max_difference == 0
    verify_logits(network, lambda batch: reference(batch) + np.float32(9e-5), images())
    with pytest.raises(InputError, match="not the checkpoint"):
        verify_logits(network, lambda batch: reference(batch) + np.float32(3e-4), images())
    monkeypatch.setattr(verify, "rounding", lambda *_: 1e-4)
    assert "by rounding" in verify_logits(network, lambda batch: reference(batch) + np.float32(3e-4), images()).text


def test_the_rounding_of_float32_is_small_and_not_zero(network):
    assert 0 < verify.rounding(network, images()) < 1e-5


def test_free_shapes_are_verified_at_three_sizes_alone_and_in_twos():
    pictures = [np.zeros((50, 40, 3), np.uint8)] * 3
    free = {batch.shape for batch in image_batches(pictures, Shapes(True, None, 8), 32)}
    assert free == {(count, 3, *size) for count in (1, 2) for size in [(32, 32), (29, 19), (16, 24)]}
    fixed = [batch.shape for batch in image_batches(pictures, Shapes(False, 32), 32)]
    assert fixed == [(1, 3, 32, 32)] * 2


@pytest.mark.parametrize(
    ("height", "width", "share"),
    [(64, 64, 0), (70, 91, 0.005), (480, 360, 0.005), (33, 32, 0.005), (32, 32, 0), (20, 25, 0.02), (20, 90, 0.02)],
)
def test_the_graph_scales_pictures_as_the_project_does(network, height, width, share):
    picture = np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)
    expected = network.scale(picture).astype(int)
    found = scaled(torch.from_numpy(picture).permute(2, 0, 1)[None].float(), 32)[0].permute(1, 2, 0).numpy().astype(int)
    assert np.abs(found - expected).max() <= 1
    assert (found != expected).mean() <= share
