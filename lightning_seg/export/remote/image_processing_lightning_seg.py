"""From pictures to the model's input, scaled as in training, and from its logits to masks at the
size of the pictures."""

import warnings
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import BatchFeature
from transformers.image_processing_base import ImageProcessingMixin
from transformers.processing_utils import ImagesKwargs

from .conversion import COLOURS_LOST, NEARLY_BLACK, is_coloured, picture_array
from .windowing import channels_in_memory, checked_window, windowed

Size = tuple[int, int]


class LightningSegImageProcessor(ImageProcessingMixin):
    """Scales pictures to the size of training, to [0, 1]; the model itself subtracts mean and
    divides by std.

    Training scaled with OpenCV: by area where a picture shrinks, else bilinearly, in whole grey
    levels. The same is computed here with NumPy; few pixels differ, by one grey level.

    Args:
        size: ``{"height": h, "width": w}``; None: pictures stay as they are.
        in_channels: 3 (RGB) or 1 (grey); of other numbers only arrays are taken.
        of_pictures: False where the channels are neighbouring slices, which come as arrays alone.
        exclusive: whether the logits are of a softmax, with the background before the classes.
        window: the values that are black and white, [low, high], or ``percentiles``: of pictures of
            more than 8 bits, which are then taken as they are stored. None: 8 bits.
    """

    model_input_names: ClassVar[list[str]] = ["pixel_values"]
    valid_kwargs = ImagesKwargs  # which words of `from_pretrained` stand over those of the file

    def __init__(
        self,
        size: dict[str, int] | None = None,
        in_channels: int = 3,
        of_pictures: bool = True,
        exclusive: bool = False,
        window: list[float] | str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.window = window
        self.exclusive = exclusive
        self.size = size
        self.in_channels = in_channels
        self.of_pictures = of_pictures

    def __call__(
        self, images: Any, return_tensors: str | None = None, **kwargs: Any
    ) -> BatchFeature:
        return self.preprocess(images, return_tensors, **kwargs)

    def preprocess(
        self, images: Any, return_tensors: str | None = None, **kwargs: Any
    ) -> BatchFeature:
        """``pixel_values`` (B, C, H, W) float32 in [0, 1].

        Args:
            images: a PIL image, an array of uint8, (H, W) or (H, W, C), or a tensor (C, H, W); or a
                list of these. EXIF, depth, alpha and palettes are as in training (``conversion``);
                give PIL images as they were opened. With a window arrays may be of any type.
            return_tensors: ``pt`` or ``np``; None gives a list of arrays (C, H, W).
        """
        given = images if isinstance(images, list | tuple) else [images]
        arrays = [self._scaled(self._read(image)) for image in given]
        planes = [np.float32(array.transpose(2, 0, 1)) / np.float32(255) for array in arrays]
        return BatchFeature({"pixel_values": planes}, tensor_type=return_tensors)

    def size_of(self, image: Any) -> Size:
        """(height, width) of a picture as a viewer shows it, for ``target_sizes``."""
        height, width, _ = self._read(image).shape
        return height, width

    def _read(self, image: Any) -> np.ndarray:
        """A picture as training read it, (H, W, C) uint8."""
        window = checked_window(self.window)
        if window is None:
            array = _array(image, self.in_channels, self.of_pictures)
            if self.of_pictures:
                _warn_of_doubts(image, array)
            return array
        return windowed(channels_in_memory(image), self.in_channels, window)

    def _scaled(self, image: np.ndarray) -> np.ndarray:
        return (
            image if self.size is None else resize(image, (self.size["height"], self.size["width"]))
        )

    def post_process_masks(
        self, outputs: Any, target_sizes: list[Size] | Tensor | None = None, threshold: float = 0.5
    ) -> list[Tensor]:
        """The masks of each image, (K, H, W) bool of all classes, which may overlap.

        Those of exclusive classes do not; a pixel is of the most probable one.

        Args:
            outputs: of the model.
            target_sizes: (height, width) of each picture, to which probabilities are scaled
                (bilinear) before the cut.
            threshold: above which a probability belongs to the mask.
        """
        found = _probabilities(outputs, target_sizes, self.exclusive)
        return [_cut(maps, threshold, self.exclusive) for maps in found]

    def post_process_semantic_segmentation(
        self, outputs: Any, target_sizes: list[Size] | Tensor | None = None, threshold: float = 0.5
    ) -> list[Tensor]:
        """The map of each image, (H, W) int64 of class numbers, as ``config.id2label`` names them;
        -1 where there is none.

        Of classes that overlap the last counts: data sets list what lies inside (a tumor) after
        what holds it (a liver). Arguments as in `post_process_masks`, which keeps all.
        """
        return [
            _class_map(masks) for masks in self.post_process_masks(outputs, target_sizes, threshold)
        ]

    def post_process_panoptic_segmentation(
        self,
        outputs: Any,
        threshold: float = 0.0,
        mask_threshold: float = 0.5,
        overlap_mask_area_threshold: float = 0.0,
        target_sizes: list[Size] | Tensor | None = None,
        **kwargs: Any,
    ) -> list[dict[str, Any]]:
        """The answer to ``pipeline("image-segmentation")``: the map of classes, and of each class
        found its mean probability.

        ``mask_threshold`` is the cut. A class is one segment, so the other thresholds, which
        choose among many, have no effect.
        """
        found = []
        for maps in _probabilities(outputs, target_sizes, self.exclusive):
            segmentation = _class_map(_cut(maps, mask_threshold, self.exclusive))
            segments = [
                {
                    "id": k,
                    "label_id": k,
                    "was_fused": False,
                    "score": float(maps[k][segmentation == k].mean()),
                }
                for k in range(len(maps))
                if (segmentation == k).any()
            ]
            found.append({"segmentation": segmentation, "segments_info": segments})
        return found


def _cut(maps: Tensor, threshold: float, exclusive: bool) -> Tensor:
    """The masks of probabilities (K, H, W)."""
    if not exclusive:
        return maps > threshold
    numbers = torch.arange(len(maps), device=maps.device).view(-1, 1, 1)
    return (maps.argmax(0) == numbers) & (maps > 1 - maps.sum(0))


def _probabilities(
    outputs: Any, target_sizes: list[Size] | Tensor | None, exclusive: bool
) -> list[Tensor]:
    """Probabilities (K, H, W) float32 of each image."""
    logits = outputs["logits"].float()
    maps = logits.softmax(1)[:, 1:] if exclusive else logits.sigmoid()
    if target_sizes is None:
        return list(maps)
    sizes = [(int(height), int(width)) for height, width in target_sizes]
    if len(sizes) != len(maps):
        raise ValueError(
            f"there are {len(maps)} images and {len(sizes)} target_sizes; give one of each image."
        )
    return [
        F.interpolate(one[None], size, mode="bilinear", align_corners=False)[0]
        for one, size in zip(maps, sizes, strict=True)
    ]


def _class_map(masks: Tensor) -> Tensor:
    """masks (K, H, W) bool -> (H, W) int64."""
    found = torch.full(masks.shape[1:], -1, dtype=torch.int64, device=masks.device)
    for number, mask in enumerate(masks):
        found[mask] = number
    return found


def _warn_of_doubts(image: Any, read: np.ndarray) -> None:
    """Warn of what the masks of a picture may be wrong in.

    Args:
        read: the picture as the network sees it, (H, W, C).
    """
    if read.shape[2] == 1 and is_coloured(picture_array(image, 3)):
        warnings.warn(f"a picture is {COLOURS_LOST}", stacklevel=4)
    elif read.max() <= 1:
        warnings.warn(f"a picture is {NEARLY_BLACK}", stacklevel=4)


def _array(image: Any, channels: int, of_pictures: bool = True) -> np.ndarray:
    """A picture, or neighbouring slices, as (H, W, C) uint8."""
    if channels in (1, 3) and of_pictures:
        return picture_array(image, channels)
    array: np.ndarray = image if isinstance(image, np.ndarray) else np.zeros(0)
    if array.ndim != 3 or array.shape[2] != channels or array.dtype != np.uint8:
        raise ValueError(
            f"the model takes {channels} channels, which no picture has; "
            f"give arrays (H, W, {channels}) of uint8."
        )
    return array


def resize(image: np.ndarray, size: Size) -> np.ndarray:
    """image (H, W, C) uint8 at ``size`` (height, width): by area where neither side grows, else
    bilinearly."""
    height, width = image.shape[:2]
    if (height, width) == tuple(size):
        return image
    shrinks = size[0] <= height and size[1] <= width
    return _by_area(image, size) if shrinks else _bilinear(image, size)


def _by_area(image: np.ndarray, size: Size) -> np.ndarray:
    """The mean over the area that a pixel covers."""
    # in float32, as OpenCV adds
    rows, columns = (
        _overlaps(n, m).astype(np.float32) for n, m in zip(image.shape[:2], size, strict=True)
    )
    mean = np.tensordot(rows, image.astype(np.float32), (1, 0))  # (h, w, C)
    mean = np.tensordot(columns, mean, (1, 1)).transpose(1, 0, 2)  # (h, w, C)
    halves = tuple(n == 2 * m for n, m in zip(image.shape[:2], size, strict=True))
    return (np.floor(mean + 0.5) if all(halves) else np.rint(mean)).astype(
        np.uint8
    )  # OpenCV rounds so


def _overlaps(length: int, new: int) -> np.ndarray:
    """(new, length): the share of each new pixel that lies in each old one."""
    edges, pixel = np.arange(new + 1) * (length / new), np.arange(length)
    shared = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
    return np.clip(shared, 0, None) * (new / length)


def _bilinear(image: np.ndarray, size: Size) -> np.ndarray:
    """Weigh by OpenCV's fixed-point weights, of 11 bits."""
    left, right, a, b = _neighbours(image.shape[1], size[1])
    wide = image.astype(np.int64)
    wide = (wide[:, left] * a[:, None] + wide[:, right] * b[:, None]) >> 4
    above, below, a, b = _neighbours(image.shape[0], size[0], keep=True)
    upper, lower = (wide[above] * a[:, None, None]) >> 16, (wide[below] * b[:, None, None]) >> 16
    return ((upper + lower + 2) >> 2).clip(0, 255).astype(np.uint8)


def _neighbours(
    length: int, new: int, keep: bool = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The two old pixels that each new one lies between, and their weights.

    Args:
        keep: beyond the edge both are the last pixel, each with its weight, as OpenCV rounds rows.
    """
    place = (np.arange(new) + 0.5) * (length / new) - 0.5
    place = place if keep else np.clip(place, 0, length - 1)
    first = np.floor(place).astype(np.int64)
    weight = place - first
    return (
        np.clip(first, 0, length - 1),
        np.clip(first + 1, 0, length - 1),
        np.rint((1 - weight) * 2048).astype(np.int64),
        np.rint(weight * 2048).astype(np.int64),
    )
