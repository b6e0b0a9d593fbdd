"""Test-time augmentation against its definition."""

import pytest
import torch

from lightning_seg.errors import InputError
from lightning_seg.inference.tta import PASSES, augmented


def asymmetric(image):
    """Probabilities that a mirrored image changes."""
    ramp = (
        torch.linspace(0, 1, image.shape[-1]) + 2 * torch.linspace(0, 1, image.shape[-2])[:, None]
    )
    return (image * ramp).sigmoid()


def test_flips_average_the_four_mirrored_passes():
    image = torch.randn(2, 1, 5, 6, generator=torch.manual_seed(0))
    expected = (
        asymmetric(image)
        + asymmetric(image.flip(3)).flip(3)
        + asymmetric(image.flip(2)).flip(2)
        + asymmetric(image.rot90(2, (2, 3))).rot90(2, (2, 3))
    ) / 4
    torch.testing.assert_close(augmented(asymmetric, image, "flips"), expected)


def test_resunet_plus_plus_has_three_passes():
    image = torch.randn(1, 1, 4, 4, generator=torch.manual_seed(1))
    expected = (
        asymmetric(image) + asymmetric(image.flip(3)).flip(3) + asymmetric(image.flip(2)).flip(2)
    ) / 3
    torch.testing.assert_close(augmented(asymmetric, image, "resunet_plus_plus"), expected)


def test_none_is_the_network_itself():
    image = torch.randn(1, 1, 4, 4, generator=torch.manual_seed(2))
    assert torch.equal(augmented(asymmetric, image, "none"), asymmetric(image))


@pytest.mark.parametrize("name", sorted(PASSES))
def test_every_name_sees_the_image_as_it_is_first_and_no_pass_twice(name):
    assert PASSES[name][0] == ()
    assert len(set(PASSES[name])) == len(PASSES[name])


def test_a_misspelt_name_is_a_sentence():
    with pytest.raises(InputError, match="did you mean 'flips'"):
        augmented(asymmetric, torch.zeros(1, 1, 2, 2), "flip")
