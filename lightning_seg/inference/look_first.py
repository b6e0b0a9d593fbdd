"""Which of many pictures a person should look at first: those of the lowest expected Dice."""

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lightning_seg.data.split_sizes import FEWEST_CALIBRATING
from lightning_seg.errors import printable
from lightning_seg.files import write_whole
from lightning_seg.runs.trained_on import TrainedOn

FILE = "look_first.csv"
FEWEST = 6  # pictures, of which an order is worth the words
SHOWN = 5
# what is said of an expected Dice where nobody calibrated the network
_UNCALIBRATED = (
    "of a network that is not calibrated it orders images, and as a number can be far off"
)


def uncalibrated_words(contents: Iterable[Mapping[str, Any]]) -> str:
    """The doubt about an expected Dice of networks that nobody calibrated, and the cure where they
    have validation images enough for it.

    Args:
        contents: of their checkpoints.
    """
    known = [TrainedOn.read(content).images for content in contents]
    few = any(images and len(images["val"]) < FEWEST_CALIBRATING for images in known)
    return _UNCALIBRATED + ("" if few else " (lightning-seg calibrate)")


def doubtful_first(rows: Iterable[Mapping[str, str]]) -> list[tuple[str, float]]:
    """The files of a table of results, by the lowest expected Dice of their classes."""
    least: dict[str, float] = {}
    for row in rows:
        expected = float(row["expected_dice"])
        least[row["file"]] = min(expected, least.get(row["file"], 1.0))
    return sorted(least.items(), key=lambda item: (item[1], item[0]))


def write_order(rows: Iterable[Mapping[str, str]], folder: Path) -> str:
    """Write ``look_first.csv``; name the first in words, empty of few pictures."""
    order = doubtful_first(rows)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("file", "expected_dice"))
    writer.writerows((file, f"{expected:.4f}") for file, expected in order)
    write_whole(folder / FILE, text.getvalue().encode())
    if len(order) < FEWEST:
        return ""
    shown = order[: min(SHOWN, len(order) // 2)]
    return ", ".join(f"{printable(file)} ({expected:.2f})" for file, expected in shown)
