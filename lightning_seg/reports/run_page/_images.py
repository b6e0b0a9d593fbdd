"""The scores of every image as a table that the reader can sort."""

from collections.abc import Iterator
from math import isfinite
from typing import NamedTuple

import numpy as np

from lightning_seg.evaluation import ScoreTable, per_image
from lightning_seg.evaluation.measures import MEASURES
from lightning_seg.tables import number_text

MOST_ROWS = 2000  # a page of more would load slowly
_OVERLAP = ("dice", "iou", "precision", "recall")


class ImageCell(NamedTuple):
    """A text, and the number by which it is sorted; None: by the text."""

    text: str
    sort: float | None = None


class ImageTable(NamedTuple):
    """The images of one class, those of the lowest Dice first.

    Attributes:
        header: names of the columns; the first one is the image.
        falling: columns of which the highest value is the worst.
        rows: the id of an image, and its cells.
        left_out: images of higher Dice that the page has no room for.
    """

    header: tuple[str, ...]
    falling: tuple[str, ...]
    rows: list[tuple[str, list[ImageCell]]]
    left_out: int


def images_table(table: ScoreTable, name: str) -> ImageTable:
    """Overlap, share of the frame, measures, group and columns of each image of a class."""
    columns = dict(_columns(table, name))
    dice = per_image(table.of(name), "dice")
    order = np.argsort(np.where(np.isfinite(dice), dice, np.inf), kind="stable")
    shown = order[:MOST_ROWS].tolist()
    rows = [(table.ids[row], [cells[row] for cells in columns.values()]) for row in shown]
    known = {measure.name for measure in MEASURES if measure.lower_is_better}
    falling = tuple(column for column in columns if column in known)
    return ImageTable(("image", *columns), falling, rows, len(order) - len(shown))


def _columns(table: ScoreTable, name: str) -> Iterator[tuple[str, list[ImageCell]]]:
    """The columns beside the image, each with the cell of every image of the table."""
    place = table.index(name)
    counts = table.of(name)
    for score in _OVERLAP:
        yield score, [_number(value, 3) for value in per_image(counts, score).tolist()]
    share = 100 * table.areas[:, place] / np.maximum(counts.sum(-1), 1)
    yield "% of frame", [_number(value, 1) for value in share.tolist()]
    if table.components is not None:
        yield "lesions", [_number(value, 0) for value in table.components[:, place].tolist()]
    for measure, values in table.measures.items():
        yield measure, [_number(value, 3) for value in values[:, place].tolist()]
    if table.grouped:
        yield "group", [ImageCell(group) for group in table.groups]
    for column, texts in table.columns.items():
        yield column, [ImageCell(text) for text in texts.tolist()]


def _number(value: float, digits: int) -> ImageCell:
    return ImageCell(number_text(value, digits), value if isfinite(value) else None)
