"""`lightning_seg.export.verify`: agreement against plain numpy, and the rule by which an export is refused."""

import numpy as np
import pytest
import torch

from lightning_seg.errors import InputError
from lightning_seg.export import verify
from lightning_seg.export._graph import scaled_pixels
from lightning_seg.export._trace import Shapes
from lightning_seg.export.verify import compare_logits, image_batches, verify_logits
from lightning_seg.inference.ensemble import Ensemble, Trained
from lightning_seg.inference.prediction import Prediction
from lightning_seg.training.module import SegmentationModule


@pytest.fixture(scope="module")
def network() -> Ensemble:
    torch.manual_seed(0)
    module = SegmentationModule("unet", options={"widths": [4, 8]}, classes=["polyp"]).eval()
    return Ensemble([module], Trained(("polyp",), 3, 32, "phantom_polyp", {}))


def images(count: int = 2) -> list[np.ndarray]:
    return list(np.random.default_rng(0).random((count, 1, 3, 32, 32), np.float32))


def test_agreement_is_the_largest_difference_and_the_mean_dice_of_images_with_a_mask():
    one = np.array([[[[3.0, -1.0], [1.0, -2.0]]]], np.float32)  # the mask has two pixels
    other = np.array([[[[3.5, -1.0], [-1.0, -2.0]]]], np.float32)  # one of them
    empty = -np.ones_like(one)
    found = compare_logits(
        lambda batch: batch[:, :1], lambda batch: batch[:, 1:], [np.concatenate([one, other], 1)]
    )
    assert found == (2.0, 2 / 3, 1, 3.0)
    pairs = [np.concatenate(pair, 1) for pair in ((one, one), (one, other), (empty, empty))]
    found = compare_logits(lambda batch: batch[:, :1], lambda batch: batch[:, 1:], pairs)
    assert found.dice == pytest.approx((1 + 2 / 3) / 2)  # an image without a mask says nothing
    both_empty = compare_logits(lambda batch: batch, lambda batch: batch, [empty])
    assert np.isnan(both_empty.dice)
    assert "all masks are empty" in both_empty.describe()


def test_the_class_whose_masks_agree_least_counts():
    one = np.ones((1, 2, 4, 4), np.float32)
    other = one * np.array([1, -1], np.float32).reshape(1, 2, 1, 1)
    assert compare_logits(lambda batch: one, lambda batch: other, [one]).dice == 0


@pytest.mark.parametrize("variant", ["", "int8", "bf16"])
def test_a_checkpoint_whose_logits_are_not_finite_is_refused(variant):
    broken = SegmentationModule("unet", options={"widths": [4, 8]}, classes=["polyp"]).eval()
    with torch.no_grad():
        next(broken.net.parameters()).fill_(float("nan"))
    network = Ensemble([broken], Trained(("polyp",), 3, 32, "phantom_polyp", {}))
    with pytest.raises(InputError, match="not finite"):
        verify_logits(network, verify.reference_of(network), images(), variant)


def test_a_variant_must_find_something_and_stay_finite(network):
    for shift, message in ((100, "infinite"), (-100, "nothing tells what int8 does")):
        other = network.copy_to(network.device)
        with torch.no_grad():
            [
                layer
                for layer in other.modules[0].net.modules()
                if isinstance(layer, torch.nn.Conv2d)
            ][-1].bias += shift
        reference = verify.reference_of(other)
        with pytest.raises(InputError, match=message):
            verify_logits(
                other,
                lambda batch, of=reference: np.where(of(batch) > 0, np.inf, -1),
                images(),
                "int8",
            )


class Fixed:
    """A rule that finds a small square in every picture."""

    def __call__(self, probability, size):
        mask = np.zeros((1, *size), bool)
        mask[:, 5:11, 5:11] = True
        return Prediction(mask, np.where(mask, np.float32(0.9), np.float32(0.1)), ("polyp",))


def candidate_of(change):
    """The masks and probabilities of `Fixed`, changed."""

    def run(pictures):
        found = [Fixed()(None, picture.shape[:2]) for picture in pictures]
        return change(
            *(np.stack([getattr(one, name) for one in found]) for name in ("mask", "probability"))
        )

    return run


WRONG = {
    "no mask": lambda mask, probability: (mask & False, probability),
    "another probability": lambda mask, probability: (mask, probability * 0.9),
}


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG)
def test_masks_that_miss_a_small_lesion_and_wrong_probabilities_are_refused(network, change):
    pictures = [np.zeros((200, 200, 3), np.uint8)] * 2
    right = verify.verify_masks(
        network, Fixed(), candidate_of(lambda *both: both), pictures, batch=True
    )
    assert right.found.max_difference == 0
    assert right.found.dice == 1
    with pytest.raises(InputError, match="not the checkpoint"):
        verify.verify_masks(network, Fixed(), candidate_of(change), pictures, batch=True)
    with pytest.raises(InputError, match="shape"):
        verify.verify_masks(
            network, Fixed(), candidate_of(lambda m, p: (m[:, :, :-1], p)), pictures, batch=True
        )


def test_agreement_cuts_at_the_threshold_of_the_probability():
    probability = np.array([0.2, 0.35, 0.6, 0.9], np.float32).reshape(1, 1, 2, 2)
    logits = np.log(probability / (1 - probability))
    found = compare_logits(
        lambda batch: batch,
        lambda batch: np.where(batch == logits[0, 0, 0, 1], -9, batch),
        [logits],
        0.3,
    )
    assert found.dice == pytest.approx(2 * 2 / (3 + 2))


def test_no_numbers_and_other_shapes_never_agree():
    batch = np.zeros((1, 1, 2, 2), np.float32)
    assert compare_logits(lambda x: x, lambda x: x * np.nan, [batch]).max_difference == np.inf
    with pytest.raises(InputError, match="shape"):
        compare_logits(lambda x: x, lambda x: x[..., :1], [batch])


def test_logits_beyond_the_bound_are_refused_unless_float32_itself_is_as_far_off(
    network, monkeypatch
):
    reference = verify.reference_of(network)
    assert verify_logits(network, reference, images()).found.max_difference == 0
    verify_logits(network, lambda batch: reference(batch) + np.float32(9e-5), images())
    with pytest.raises(InputError, match="not the checkpoint"):
        verify_logits(network, lambda batch: reference(batch) + np.float32(3e-4), images())
    monkeypatch.setattr(verify, "rounding", lambda *_: 1e-4)
    assert (
        "by rounding"
        in verify_logits(network, lambda batch: reference(batch) + np.float32(3e-4), images()).text
    )


def test_the_rounding_of_float32_is_small_and_not_zero(network):
    assert 0 < verify.rounding(network, images()) < 1e-5


def test_free_shapes_are_verified_at_three_sizes_alone_and_in_twos():
    pictures = [np.zeros((50, 40, 3), np.uint8)] * 3
    free = {batch.shape for batch in image_batches(pictures, Shapes(True, None, 8), 32)}
    assert free == {
        (count, 3, *size) for count in (1, 2) for size in [(32, 32), (29, 19), (16, 24)]
    }
    fixed = [batch.shape for batch in image_batches(pictures, Shapes(False, 32), 32)]
    assert fixed == [(1, 3, 32, 32)] * 2


@pytest.mark.parametrize(
    ("height", "width", "share"),
    [
        (64, 64, 0),
        (70, 91, 0.005),
        (480, 360, 0.005),
        (33, 32, 0.005),
        (32, 32, 0),
        (20, 25, 0.001),
        (20, 90, 0.001),
        (3, 90, 0.001),
    ],
)
def test_the_graph_scales_pictures_as_the_project_does(network, height, width, share):
    picture = np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)
    expected = network.scale(picture).astype(int)
    found = (
        scaled_pixels(torch.from_numpy(picture).permute(2, 0, 1)[None].float(), 32)[0]
        .permute(1, 2, 0)
        .numpy()
        .astype(int)
    )
    assert np.abs(found - expected).max() <= 1
    assert (found != expected).mean() <= share
