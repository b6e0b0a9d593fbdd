"""The augmentation of a batch where the network is: workers draw the random numbers, the device
moves the pixels.

The numbers are those of the augmentation in the workers, so an image is changed alike in both
places, but for rounding: a grey value may differ by a little, a mask at its outline. It knows the
transforms below; a recipe with others stays with workers.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_seg.data.augment.pipeline import Augmentation, Key
from lightning_seg.data.sources.base import Sample
from lightning_seg.errors import InputError

_WIDTH = 8  # numbers that describe one transform of one image: whether it is applied, then its parameters
_PARTS = ("image", "mask", "region")


class DeviceAugmentation:
    """The chain of an ``Augmentation``, drawn per sample and applied per batch.

    Errors: InputError for a transform, or an option of one, that is not known here.
    """

    def __init__(self, augmentation: Augmentation) -> None:
        self.augmentation = augmentation
        self.names = [str(transform.get("name")) for transform in augmentation.transforms]
        for transform, name in zip(augmentation.transforms, self.names, strict=True):
            known = _OPTIONS.get(name)
            strange = (
                name
                if known is None
                else next((option for option in transform if not known(option, transform)), "")
            )
            if strange:
                raise InputError(
                    f"the augmentation on the device does not know {strange!r} of {transform}; set data.augment_on: workers "
                    f"(it knows {', '.join(_OPTIONS)}, with black borders and without hue)."
                )

    def draw(self, sample: Sample, key: Key | None) -> Tensor:
        """(transforms, 8) float32: what is to be done to this sample; nothing, where there is no
        key."""
        rows = np.zeros((len(self.names), _WIDTH), np.float32)
        if key is not None:
            for row, name, params in zip(
                rows, self.names, self.augmentation.draws(sample, key), strict=True
            ):
                if params is not None:
                    found = [1.0, *_ENCODE[name](params)]
                    row[: len(found)] = found
        return torch.from_numpy(rows)

    def __call__(
        self,
        batch: dict[str, Any],
    ) -> dict[str, Any]:
        """The batch with image (B, C, H, W), mask and region uint8 changed, and without
        ``draw``."""
        draws: Tensor = batch.pop("draw")
        parts = {name: batch[name].float() for name in _PARTS if name in batch}
        for position, name in enumerate(self.names):
            row = draws[:, position].to(parts["image"].device)
            on = row[:, 0].view(-1, 1, 1, 1) > 0
            changed = _CHANGE[name](parts, row, self.augmentation.transforms[position])
            parts |= {part: torch.where(on, changed[part], parts[part]) for part in changed}
        image = parts.pop("image").byte().contiguous(memory_format=torch.channels_last)
        return batch | {"image": image} | {part: values.byte() for part, values in parts.items()}


Parts = dict[str, Tensor]


def _rotated(
    parts: Parts,
    row: Tensor,
    transform: dict[str, Any],
) -> Parts:
    cos, sin, zero = row[:, 1], row[:, 2], torch.zeros_like(row[:, 1])
    height, width = parts["image"].shape[-2:]
    theta = torch.stack(
        [cos, -sin * height / width, zero, sin * width / height, cos, zero], 1
    ).view(-1, 2, 3)
    grid = F.affine_grid(
        theta, list(parts["image"].shape), align_corners=False
    )  # from each pixel to where it comes from
    smooth = "bilinear" if transform.get("interpolation", 1) == 1 else "nearest"
    modes = dict.fromkeys(parts, "nearest") | {"image": smooth}
    moved = {
        part: F.grid_sample(x, grid, modes[part], align_corners=False) for part, x in parts.items()
    }
    return moved | {"image": moved["image"].round()}


def _coloured(
    parts: Parts,
    row: Tensor,
    transform: dict[str, Any],
) -> Parts:
    """Brightness, contrast and saturation blend with black, with the mean grey and with the grey,
    in the order drawn."""
    image = parts["image"]
    for place in range(4):
        number = row[:, 4 + place].long()
        factor = row.gather(1, 1 + number[:, None].clamp(max=2)).view(-1, 1, 1, 1)
        number = number.view(-1, 1, 1, 1)
        grey = _grey(image)
        other = torch.where(
            number == 0, 0.0, torch.where(number == 1, grey.mean((1, 2, 3), keepdim=True), grey)
        )
        blended = (factor * image + (1 - factor) * other).clamp(0, 255)
        blended = torch.where(number == 2, blended.round(), blended.floor())
        unchanged = (
            number == 3 if image.shape[1] == 3 else number >= 2
        )  # the hue stays, and grey has no saturation
        image = torch.where(unchanged | (factor == 1), image, blended)
    return {"image": image}


def _grey(image: Tensor) -> Tensor:
    if image.shape[1] == 1:
        return image
    weights = torch.tensor([0.299, 0.587, 0.114], device=image.device).view(1, 3, 1, 1)
    return (image * weights).sum(1, keepdim=True).round()


def _plain_option(option: str, transform: dict[str, Any]) -> bool:
    return option in ("name", "p")


def _turns(option: str, transform: dict[str, Any]) -> bool:
    legal: dict[str, tuple[Any, ...]] = {
        "interpolation": (0, 1),
        "border_mode": (0,),
        "fill": (0,),
        "fill_mask": (0,),
    }
    return option in ("name", "p", "limit") or transform[option] in legal.get(option, ())


def _colours(option: str, transform: dict[str, Any]) -> bool:
    return option in ("name", "p", "brightness", "contrast", "saturation") or (
        option,
        transform[option],
    ) == ("hue", 0)


_OPTIONS: dict[str, Callable[[str, dict[str, Any]], bool]] = {
    "HorizontalFlip": _plain_option,
    "VerticalFlip": _plain_option,
    "Rotate": _turns,
    "ColorJitter": _colours,
}
_ENCODE: dict[str, Callable[[dict[str, Any]], list[float]]] = {
    "HorizontalFlip": lambda params: [],
    "VerticalFlip": lambda params: [],
    "Rotate": lambda params: list(params["matrix"][0, :2]),
    "ColorJitter": lambda params: [
        *(params[name] for name in ("brightness", "contrast", "saturation")),
        *params["order"],
    ],
}
_CHANGE: dict[str, Callable[[Parts, Tensor, dict[str, Any]], Parts]] = {
    "HorizontalFlip": lambda parts, row, transform: {
        name: part.flip(3) for name, part in parts.items()
    },
    "VerticalFlip": lambda parts, row, transform: {
        name: part.flip(2) for name, part in parts.items()
    },
    "Rotate": _rotated,
    "ColorJitter": _coloured,
}
