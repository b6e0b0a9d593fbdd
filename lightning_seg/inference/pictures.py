"""Pictures that a person looks at: overlays and contact sheets, and how a picture is written."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import lightning as L
import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont
from numpy.typing import NDArray
from torch import Tensor

from lightning_seg.data.show import COLOURS
from lightning_seg.files import whole
from lightning_seg.training.run_place import run_dir

Image = NDArray[np.uint8]
EXAMPLES, PER_COLUMN = 12, 6
CONTOUR_COLOURS = {"outer": (255, 255, 160), "inner": (40, 0, 120)}
_DOT = 3  # pixels of a dotted line
LEGEND_WIDTH, LEGEND_HEIGHT = 320, 22  # pixels: the least width of a sheet with a legend
TITLE, GAP = 18, 2  # pixels of a cell above the image, and around it


def as_seen(image: Tensor, slices: bool = False) -> Image:
    """An image (C, H, W) uint8 as a person sees it: RGB (H, W, 3), in memory of its own.

    Args:
        slices: whether the channels are neighbouring slices of a volume; the middle one is the
            image.
    """
    channels = len(image)
    if slices or channels not in (1, 3):
        image = image[channels // 2, None]
    picture = image.permute(1, 2, 0).cpu().numpy()
    # a copy: `overlay` draws into it, and a batch that is channels-last would be drawn into as well
    return np.array(np.broadcast_to(picture, (*picture.shape[:2], 3)), order="C")


def overlay(image: Tensor, mask: Tensor, slices: bool = False) -> Image:
    """A picture of image (C, H, W) uint8 with the outline and a tint of each channel of its mask.

    Args:
        mask: (K, H, W); what is above zero belongs to the class.
        slices: see `as_seen`.
    """
    picture = as_seen(image, slices)
    for k, channel in enumerate(mask.cpu().numpy() > 0):
        colour = COLOURS[k % len(COLOURS)]  # truth and prediction have the same
        picture[channel] = (0.7 * picture[channel] + 0.3 * np.array(colour)).astype(np.uint8)
        outlines, _ = cv2.findContours(
            channel.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE
        )
        cv2.drawContours(picture, outlines, -1, colour, 1)
    return picture


def with_contours(picture: Image, contours: Mapping[str, NDArray[np.bool_]]) -> Image:
    """Draw guaranteed contours into a picture, dotted: the outer one light, the inner one dark.

    Args:
        picture: (H, W, 3), drawn into.
        contours: ``outer`` and ``inner`` -> (K, H, W).
    """
    for kind, masks in contours.items():
        for mask in masks.astype(np.uint8):
            outlines, _ = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
            for outline in outlines:
                x, y = outline[:, 0].T
                shown = np.arange(len(x)) // _DOT % 2 == 0
                picture[y[shown], x[shown]] = CONTOUR_COLOURS[kind]
    return picture


def contact_sheet(
    images: list[Tensor],
    truths: list[Tensor],
    predictions: list[Tensor],
    titles: list[str],
    slices: bool = False,
) -> Image:
    """Image, truth and prediction side by side, with a title each, six in a column: RGB."""
    drawn = [
        _row_of_cells([as_seen(image, slices), *(overlay(image, mask, slices) for mask in masks)])
        for image, *masks in zip(images, truths, predictions, strict=True)
    ]
    rows = [_titled(row, title) for row, title in zip(drawn, titles, strict=True)]
    height, width = (max(row.shape[axis] for row in rows) for axis in (0, 1))
    padded = [_filled(row, height, width) for row in rows]
    if len(rows) > PER_COLUMN:
        padded += [np.zeros_like(padded[0])] * (-len(rows) % PER_COLUMN)
    columns = [
        np.concatenate(padded[start : start + PER_COLUMN])
        for start in range(0, len(padded), PER_COLUMN)
    ]
    return np.concatenate(columns, 1)


def titled_grid(cells: Sequence[Image], titles: Sequence[str]) -> Image:
    """Pictures (H, W, 3) of one size in rows, with a title each: as many rows as columns, or one
    less."""
    drawn = [
        _titled(_row_of_cells([cell]), title) for cell, title in zip(cells, titles, strict=True)
    ]
    columns = math.ceil(math.sqrt(len(drawn)))
    drawn += [np.zeros_like(drawn[0])] * (-len(drawn) % columns)
    rows = [np.concatenate(drawn[k : k + columns], 1) for k in range(0, len(drawn), columns)]
    return np.concatenate(rows)


def with_legend(sheet: Image, classes: Sequence[str]) -> Image:
    """A contact sheet, enlarged where it is small, over a line that says what its pictures show.

    Args:
        classes: names of the mask's channels, which stand in their colours.
    """
    factor = -(-LEGEND_WIDTH // sheet.shape[1])
    large = sheet.repeat(factor, 0).repeat(factor, 1)
    strip = PIL.Image.new("RGB", (large.shape[1], LEGEND_HEIGHT))
    pen, font = PIL.ImageDraw.Draw(strip), PIL.ImageFont.load_default(LEGEND_HEIGHT - 8)
    place = 4.0
    words = [("image, truth, prediction", (255, 255, 255))]
    words += [(name, COLOURS[k % len(COLOURS)]) for k, name in enumerate(classes)]
    for text, colour in words:
        pen.text((place, 2), text, colour, font)
        place += pen.textlength(text, font) + 14
    return np.concatenate([large, np.asarray(strip, np.uint8)])


def _row_of_cells(cells: list[Image]) -> Image:
    """Cells side by side, each with room for a title above."""
    margins = ((TITLE, GAP), (GAP, GAP), (0, 0))
    return np.concatenate([np.pad(cell, margins) for cell in cells], axis=1)


def _titled(row: Image, title: str) -> Image:
    white, place = (255, 255, 255), (4, TITLE - 5)
    text = title.encode("ascii", "replace").decode()  # OpenCV's letters
    found = cv2.putText(row, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.38, white, 1, cv2.LINE_AA)
    return np.asarray(found, np.uint8)


def _filled(row: Image, height: int, width: int) -> Image:
    """Fill up with black below and to the right: images of different sizes share a sheet."""
    below, right = height - row.shape[0], width - row.shape[1]
    return np.pad(row, ((0, below), (0, right), (0, 0)))


def of_slices(trainer: L.Trainer) -> bool:
    """Tell whether the channels of the data's images are neighbouring slices of a volume."""
    data: Any = getattr(trainer, "datamodule")  # noqa: B009  (not declared by Lightning)
    return hasattr(data.source, "spacing")


def checkpoint_label(trainer: L.Trainer) -> str:
    """The name of results within a run, by checkpoint and image size:
    ``best-epoch=051-dice=0.8986-160``."""
    data: Any = getattr(trainer, "datamodule")  # noqa: B009  (an attribute that Lightning does not declare)
    return f"{Path(str(trainer.ckpt_path)).stem}-{data.hparams['size'] or 'native'}"


def other_precision(trainer: L.Trainer) -> str:
    """The precision of the computation where it is none of float32, such as ``bf16-true``."""
    found = str(trainer.precision)
    return "" if found == "32-true" else found


def score_folder(trainer: L.Trainer, pl_module: Any, split: str) -> Path:
    """The folder of the scores of a ``val`` or ``test`` split.

    ``<run>/<split>-<protocol>/<label of the checkpoint>``. Other data than those of the training
    have folders of their own, ``<split>-<protocol>-<data set>-<fingerprint>``. Scores of more than
    the network alone, or of another precision than float32, come before the label:
    ``tta=flips-best-epoch=...``.
    """
    data: Any = getattr(trainer, "datamodule")  # noqa: B009
    images = data.fingerprint(split)
    home = pl_module.trained_on is None or pl_module.trained_on.is_home(images)
    elsewhere = "" if home else f"-{images.dataset}-{images.short}"
    native = "-native" if pl_module.scorer.scoring.score_at == "native" else ""
    precision = other_precision(trainer)
    labels = [pl_module.scorer.scoring.label, f"precision={precision}" if precision else ""]
    more = "".join(f"{label}-" for label in labels if label)
    return (
        run_dir(trainer)
        / f"{split}-{data.protocol_name}{elsewhere}"
        / f"{more}{checkpoint_label(trainer)}{native}"
    )


def corrupted_folder(folder: Path) -> Path:
    """The folder of the scores of corrupted images beside that of the images as they are: no name
    under which a split's scores are looked for."""
    return folder.parent.with_name(f"corrupted-{folder.parent.name}") / folder.name


def jpeg_content(picture: Image) -> bytes:
    """An RGB picture (H, W, 3) as JPEG, in colours of full resolution: outlines are a pixel wide."""
    fine = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    done, content = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90, *fine])
    assert done
    return content.tobytes()


def write_png(
    path: Path,
    picture: Image | NDArray[np.uint16],
) -> None:
    """Write (H, W) or RGB (H, W, 3) as PNG, or as JPEG where the path ends so, whole or not at
    all."""
    stored = picture if picture.ndim == 2 else picture[..., ::-1]
    ok, content = cv2.imencode(path.suffix, stored)
    assert ok, path
    with whole(path) as part:
        part.write_bytes(content.tobytes())
