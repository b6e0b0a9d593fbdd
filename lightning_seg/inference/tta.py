"""Test-time augmentation: the mean of the probabilities over mirrored passes, by name."""

from collections.abc import Callable

import torch
from torch import Tensor

from lightning_seg.errors import unknown

# name -> the axes that each pass mirrors; every list begins with the image as it is
PASSES: dict[str, tuple[tuple[int, ...], ...]] = {
    "none": ((),),
    "flips": ((), (-1,), (-2,), (-2, -1)),
    "resunet_plus_plus": ((), (-1,), (-2,)),  # Jha et al. 2021: as it is, left-right, upside down
}


def augmented(
    probabilities: Callable[[Tensor], Tensor],
    image: Tensor,
    name: str,
) -> Tensor:
    """The mean of ``probabilities(image)`` over the passes of ``name``, each mirrored back: (B, C,
    H, W) -> (B, K, H, W)."""
    check_tta(name)
    passes = [torch.flip(probabilities(torch.flip(image, axes)), axes) for axes in PASSES[name]]
    return passes[0] if len(passes) == 1 else torch.stack(passes).mean(0)


def check_tta(name: str) -> str:
    """``name`` itself; InputError for a name that is not in ``PASSES``."""
    if name not in PASSES:
        raise unknown("test-time augmentation", name, PASSES)
    return name
