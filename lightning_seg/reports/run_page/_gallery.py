"""The worst, median and best images of a result, predicted again: image, truth, prediction and
attention side by side."""

import base64
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from lightning_seg.analysis.attention_maps import attention_maps
from lightning_seg.data import SegmentationDataModule
from lightning_seg.data.dataset import SegmentationDataset
from lightning_seg.data.show import COLOURS
from lightning_seg.data.sliding import OVERLAP, Corner, cut_window, sliding_map
from lightning_seg.data.sources.base import Source
from lightning_seg.errors import InputError
from lightning_seg.evaluation import ScoreTable, per_image, pooled
from lightning_seg.evaluation.conformal import Bound, Guarantee, Kind
from lightning_seg.evaluation.cut import Cut
from lightning_seg.inference.mask_rule import resized
from lightning_seg.inference.pictures import overlay, with_contours
from lightning_seg.models.frame.blocks import AttentionMap
from lightning_seg.models.frame.normalization import ImageNetwork

EACH = 4  # images of each kind
SIDE = 288  # of a picture on the page in pixels
WINDOWS = 4  # at once, of a network that was trained on crops
QUALITY = 82  # of its WebP
Image = NDArray[np.uint8]


class Panel(NamedTuple):
    title: str
    source: str  # data URI
    alt: str


class Example(NamedTuple):
    """An image of the gallery."""

    kind: str  # worst, median or best
    id: str
    scores: list[tuple[str, float, float]]  # class, Dice, IoU
    panels: list[Panel]
    off: float  # how far Dice is from the stored one when predicted again


def mean_dice(table: ScoreTable) -> NDArray[np.float64]:
    """Dice of each image, the mean over the classes."""
    by_class = [per_image(table.of(name), "dice") for name in table.classes]
    return np.mean(by_class, axis=0)


def choose(
    table: ScoreTable,
    each: int = EACH,
) -> list[tuple[str, int]]:
    """(kind, row) of the worst, median and best images by Dice, each image once; those with nothing
    to find or found are left out."""
    shown = np.flatnonzero(table.counts[..., :3].sum((1, 2)))
    by_dice = np.argsort(mean_dice(table)[shown], kind="stable")
    order = [int(row) for row in shown[by_dice]]
    each = min(each, len(order) // 3) or min(1, len(order))
    worst = order[:each]
    best = order[each:][-each:]
    middle = order[each:-each]
    start = max((len(middle) - each) // 2, 0)
    median = middle[start : start + each]
    kinds = {"worst": worst, "median": median, "best": best}
    return [(kind, row) for kind, rows in kinds.items() for row in rows]


def examples(
    module: ImageNetwork,
    data: dict[str, Any],
    table: ScoreTable,
    guarantee: Guarantee | None = None,
) -> list[Example]:
    """The chosen images, read through the datamodule of settings ``data`` and predicted on the CPU.
    InputError without the data, or one of the images."""
    source = SegmentationDataModule(**data).source
    size = (data["size"], data["size"]) if data["size"] else None
    found = []
    for kind, row in choose(table):
        item = _scored_sample(source, table.ids[row], size)
        with torch.inference_mode():
            predicted = _predicted(module, item["image"], data)
        dice = per_image(table.counts[row], "dice")
        iou = per_image(table.counts[row], "iou")
        scores = list(zip(table.classes, dice.tolist(), iou.tolist(), strict=True))
        again = _dice_of_classes(predicted, item["mask"])
        off = float(np.abs(again - dice).max())
        whole = data.get("crop") is None
        bounds = guarantee.bounds if guarantee is not None and whole else {}
        panels = _panels(module, item, predicted, hasattr(source, "spacing"), whole, bounds)
        found.append(Example(kind, table.ids[row], scores, panels, off))
    return found


def _scored_sample(source: Source, id: str, size: tuple[int, int] | None) -> dict[str, Any]:
    try:
        return SegmentationDataset(source, [id], size, None)[0]
    except KeyError:
        raise InputError(
            f"the data set holds no {id!r}, which the table of scores names; restore the images that "
            "were scored, or score those that are there."
        ) from None


def _predicted(
    module: ImageNetwork,
    image: torch.Tensor,
    data: dict[str, Any],
) -> torch.Tensor:
    """The masks (K, H, W) of an image (C, H, W), by windows where it was trained on crops."""
    side = data.get("crop")
    if side is None:
        return module.masks_of(module(image[None]).logits)[0]
    picture = image.permute(1, 2, 0).numpy()

    def predict(corners: Sequence[Corner]) -> torch.Tensor:
        windows = np.stack([cut_window(picture, corner, side) for corner in corners])
        return module.probabilities(torch.from_numpy(windows).permute(0, 3, 1, 2))

    overlap = data.get("crop_overlap", OVERLAP)
    maps = sliding_map(picture.shape[:2], side, overlap, WINDOWS, predict)
    found: torch.Tensor = Cut(exclusive=module.form.exclusive)(maps)
    return found


def _dice_of_classes(
    prediction: torch.Tensor,
    truth: torch.Tensor,
) -> NDArray[np.float64]:
    p, t = prediction.numpy(), truth.numpy() > 0
    outcomes = (p & t, p & ~t, ~p & t, ~p & ~t)
    counts = np.stack([pixels.sum((1, 2)) for pixels in outcomes], -1)
    return pooled(counts[:, None], "dice")


def _panels(
    module: ImageNetwork,
    item: dict[str, Any],
    prediction: torch.Tensor,
    slices: bool,
    attention: bool = True,
    bounds: Mapping[Kind, Bound] = MappingProxyType({}),
) -> list[Panel]:
    image = _enlarged(item["image"])
    truth = _enlarged(item["mask"], smooth=False)
    predicted = _enlarged(prediction, smooth=False)
    outlined = _outline(overlay(image, predicted, slices), truth)
    if bounds:
        with torch.inference_mode():
            probability = module.probabilities(item["image"][None])[0].numpy()
        height, width = image.shape[1:]
        enlarged = resized(probability, (height, width))
        outlined = with_contours(
            outlined, {kind: bound.masks(enlarged) for kind, bound in bounds.items()}
        )
    pictures = {
        "image": overlay(image, truth[:0], slices),
        "truth": overlay(image, truth, slices),
        "prediction": outlined,
    }
    if attention and any(
        isinstance(layer, AttentionMap) and layer.over != "channel_pairs"
        for layer in module.net.modules()
    ):
        pictures["attention"] = _attention(module, item["image"], pictures["image"])
    return [
        Panel(title, _uri(picture), f"{item['id']}: {title}") for title, picture in pictures.items()
    ]


def _enlarged(channels: torch.Tensor, smooth: bool = True) -> torch.Tensor:
    """(C, H, W) with its longer side at SIDE."""
    array = channels.numpy().astype(np.uint8)
    scale = SIDE / max(array.shape[1:])
    way = cv2.INTER_NEAREST_EXACT
    if smooth:
        way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    width_and_height = array.shape[:0:-1]
    size = tuple(max(1, round(side * scale)) for side in width_and_height)
    planes = [cv2.resize(plane, size, interpolation=way) for plane in array]
    return torch.from_numpy(np.stack(planes))


def _outline(picture: Image, truth: torch.Tensor) -> Image:
    """Draw the outline of the truth in white."""
    for channel in truth.numpy():
        outlines, _ = cv2.findContours(channel, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(picture, outlines, -1, (255, 255, 255), 1)
    return picture


def _attention(module: ImageNetwork, image: torch.Tensor, picture: Image) -> Image:
    """The mean of all maps over pixels, each from its least to its most, as colours over the image
    in grey."""
    found = attention_maps(module, image[None], overlay=True)
    maps = [each[0].mean(0).numpy() for each in found.values()]
    mean = np.mean([_stretched(each) for each in maps], axis=0)
    levels = (255 * mean / max(mean.max(), 1e-12)).astype(np.uint8)
    heat = cv2.resize(levels, picture.shape[1::-1])
    colours = cv2.applyColorMap(heat, cv2.COLORMAP_INFERNO)[..., ::-1]
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[..., None]
    return (0.4 * grey + 0.6 * colours).astype(np.uint8)


def _stretched(values: NDArray[np.floating]) -> NDArray[np.floating]:
    extent = max(float(np.ptp(values)), 1e-12)
    return (values - values.min()) / extent


def _uri(picture: Image) -> str:
    bgr = np.ascontiguousarray(picture[..., ::-1])
    ok, content = cv2.imencode(".webp", bgr, [cv2.IMWRITE_WEBP_QUALITY, QUALITY])
    assert ok
    return f"data:image/webp;base64,{base64.b64encode(content.tobytes()).decode()}"


def colour(k: int) -> str:
    """The colour of class ``k`` in overlays, as CSS."""
    return "rgb({}, {}, {})".format(*COLOURS[k % len(COLOURS)])
