"""The mean and standard deviation that an image scaled to [0, 1] is normed by."""

from typing import Literal

from lightning_seg.models import TimmEncoder

Normalization = Literal["encoder", "imagenet", "symmetric", "unit"]
IMAGENET: tuple[tuple[float, ...], tuple[float, ...]] = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def statistics(
    normalization: Normalization, encoder: TimmEncoder | None, in_channels: int
) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel; ``encoder`` without a timm encoder is ``imagenet``."""
    mean, std = {"unit": ((0.0,), (1.0,)), "symmetric": ((0.5,), (0.5,))}.get(
        normalization, IMAGENET
    )
    if normalization == "encoder" and encoder is not None:
        mean, std = encoder.mean, encoder.std
    if (
        len(mean) != in_channels
    ):  # grey or stacked slices: the mean over the colours, for every channel
        mean, std = (sum(mean) / len(mean),) * in_channels, (sum(std) / len(std),) * in_channels
    return list(mean), list(std)
