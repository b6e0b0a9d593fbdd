"""Which of many pictures a person should look at first: those of the lowest expected Dice."""

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path

from lightning_seg.errors import printable
from lightning_seg.files import write_whole

FILE = "look_first.csv"
FEWEST = 6  # pictures, of which an order is worth the words
SHOWN = 5
# what is said of an expected Dice where nobody calibrated the network
UNCALIBRATED = (
    "of a network that is not calibrated it orders images, and as a number can be far off "
    "(lightning-seg calibrate)"
)


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
