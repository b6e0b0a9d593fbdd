"""Contact sheets of what a network sees: each image as it is read, and as the augmentation of some
epochs changes it."""

from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from lightning_seg.data.sources.base import Sample
from lightning_seg.errors import InputError
from lightning_seg.files import write_whole

# one colour for each class, RGB
COLOURS = (
    (64, 224, 96),
    (255, 176, 32),
    (80, 160, 255),
    (240, 80, 200),
    (240, 240, 64),
    (120, 240, 240),
)
_CELL, _TITLE, _GAP = 224, 16, 4  # pixels


class Cell(NamedTuple):
    """A sample and what stands above it."""

    sample: Sample
    title: str


def outlined(
    sample: Sample,
    size: tuple[int, int],
) -> np.ndarray:
    """RGB (H, W, 3) uint8 of ``size`` (height, width): the masks' outlines, and the field of view,
    beyond which it is dimmed."""
    height, width = size
    image = (
        sample.image
        if sample.image.shape[2] == 3
        else sample.image[..., sample.image.shape[2] // 2, None]
    )
    shrinks = height * width < image.shape[0] * image.shape[1]
    picture = cv2.resize(
        image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_NEAREST
    )
    picture = np.array(np.broadcast_to(picture.reshape(height, width, -1), (height, width, 3)))
    if sample.region is not None:
        region = cv2.resize(sample.region, (width, height), interpolation=cv2.INTER_NEAREST)
        picture[region < 2] = picture[region < 2] // 2
        _draw_outlines(picture, region == 2, (255, 255, 255))
    for k, plane in enumerate(sample.mask.transpose(2, 0, 1)):
        mask = cv2.resize(
            np.ascontiguousarray(plane), (width, height), interpolation=cv2.INTER_NEAREST
        )
        _draw_outlines(picture, mask > 0, COLOURS[k % len(COLOURS)])
    return picture


def _draw_outlines(
    picture: np.ndarray,
    inside: np.ndarray,
    colour: tuple[int, int, int],
) -> None:
    outlines, _ = cv2.findContours(inside.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, outlines, -1, colour, 1)


def sheet(rows: list[list[Cell]]) -> np.ndarray:
    """RGB (H, W, 3): the rows of cells, each cell scaled to a square of its own, with its title
    above."""
    drawn = [np.concatenate([_draw_cell(cell) for cell in row], axis=1) for row in rows]
    return np.concatenate(drawn, axis=0)


def _draw_cell(cell: Cell) -> np.ndarray:
    height, width = cell.sample.image.shape[:2]
    scale = _CELL / max(height, width)
    size = max(1, round(height * scale)), max(1, round(width * scale))
    picture = np.full((_TITLE + _CELL + _GAP, _CELL + _GAP, 3), 24, np.uint8)
    picture[_TITLE : _TITLE + size[0], : size[1]] = outlined(cell.sample, size)
    title = cell.title if len(cell.title) <= 30 else f"{cell.title[:14]}...{cell.title[-13:]}"
    text = title.encode("ascii", "replace").decode()  # OpenCV's letters
    cv2.putText(
        picture,
        text,
        (2, _TITLE - 5),
        cv2.FONT_HERSHEY_SIMPLEX,
        0.38,
        (230, 230, 230),
        1,
        cv2.LINE_AA,
    )
    return picture


def show(
    data: dict[str, Any],
    split: str,
    count: int,
    epochs: range,
    output: Path,
) -> tuple[int, int]:
    """Write the sheet: ``count`` images of a split, evenly spread; of training images one column
    for each epoch.

    Args:
        data: the arguments of `SegmentationDataModule`, as under ``data:`` in a recipe.
        epochs: numbered from 0. Where ``data`` asks for copies the columns are those of the first
            epoch.
        output: a .png or .jpg file.

    Returns:
        (rows, columns).
    """
    if output.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise InputError(
            f"the sheet cannot be written as {output.name!r}; give a name that ends with .png or .jpg."
        )
    rows = _cell_rows(data, split, count, epochs)
    ok, content = cv2.imencode(output.suffix, sheet(rows)[..., ::-1])
    assert ok, output
    write_whole(output, content.tobytes())
    return len(rows), len(rows[0])


def _cell_rows(
    data: dict[str, Any],
    split: str,
    count: int,
    epochs: range,
) -> list[list[Cell]]:
    from lightning_seg.data.augment.pipeline import Augmentation, transforms_of
    from lightning_seg.data.crops import CropDataset
    from lightning_seg.data.datamodule import (
        SegmentationDataModule,
    )  # torch takes seconds, and `outlined` needs none
    from lightning_seg.data.dataset import SegmentationDataset

    module = SegmentationDataModule(**data)
    ids = module.ids(split)
    if not ids:
        raise InputError(f"protocol {module.protocol_name} has no {split} ids; name another split.")
    chosen = [
        ids[place]
        for place in dict.fromkeys(np.linspace(0, len(ids) - 1, count).astype(int).tolist())
    ]
    online, copies = module.hparams["online"], module.hparams["copies"]

    def opened(augmentation: Augmentation | None, copies: int) -> SegmentationDataset:
        how = augmentation, copies, online
        if module.crops is not None:
            seed = module.hparams["seed"]
            return CropDataset(module.source, chosen, module.crops, seed, *how)
        side = module.hparams["size"]
        size = None if side is None else (side, side)
        return SegmentationDataset(module.source, chosen, size, *how)

    plain = opened(None, 1)
    rows = [[Cell(_sample(plain[row]), id)] for row, id in enumerate(chosen)]
    if split != "train":
        return rows
    augmentation = Augmentation(transforms_of(module.hparams["augment"]), module.hparams["seed"])
    changed = opened(augmentation, copies)
    for row, cells in enumerate(rows):
        for epoch, copy in _columns(epochs, copies, online):
            item = changed[epoch, copy * len(chosen) + row]
            title = f"in epoch {epoch + 1}" if copies == 1 else f"copy {copy + 1}"
            cells.append(Cell(_sample(item), title))
    return rows


def _columns(
    epochs: range,
    copies: int,
    online: bool,
) -> list[tuple[int, int]]:
    """The (epoch, copy) of each column: where images have copies, those of the first epoch."""
    if copies == 1:
        return [(epoch, 0) for epoch in epochs] if online else [(0, 0)]
    return [(epochs.start if online else 0, copy) for copy in range(min(copies, len(epochs)))]


def _sample(item: dict[str, Any]) -> Sample:
    image, mask = (item[name].numpy().transpose(1, 2, 0) for name in ("image", "mask"))
    return Sample(image, mask, item["region"].numpy()[0] if "region" in item else None)
