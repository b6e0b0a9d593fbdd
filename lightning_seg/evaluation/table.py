"""The table every score is made from: one row per image and class, integer counts, keyed by image id."""

import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lightning_seg.evaluation.conventions import Counts

HEADER = ("id", "class", "tp", "fp", "fn", "tn")


@dataclass(frozen=True)
class ScoreTable:
    """Counts (N, K, 4) of N images, named by ``ids``, and K ``classes``."""

    ids: tuple[str, ...]
    classes: tuple[str, ...]
    counts: Counts

    def of(self, name: str) -> Counts:
        """The (N, 4) counts of one class."""
        return self.counts[:, self.classes.index(name)]

    def write(self, path: Path) -> None:
        """Write as CSV; the file appears whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        with part.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(HEADER)
            for image, rows in zip(self.ids, self.counts, strict=True):
                writer.writerows((image, name, *map(int, row)) for name, row in zip(self.classes, rows, strict=True))
        os.replace(part, path)

    @classmethod
    def read(cls, path: Path) -> "ScoreTable":
        """Read what `write` wrote."""
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        ids, classes = tuple(dict.fromkeys(r["id"] for r in rows)), tuple(dict.fromkeys(r["class"] for r in rows))
        counts = np.array([[int(r[c]) for c in HEADER[2:]] for r in rows], dtype=np.int64)
        return cls(ids, classes, counts.reshape(len(ids), len(classes), 4))

    @classmethod
    def collect(cls, index: Sequence[int], counts: Counts, ids: Sequence[str], classes: Sequence[str]) -> "ScoreTable":
        """From rows in any order, in which an image may stand twice (distributed samplers repeat some): once each, sorted."""
        first = np.unique(np.asarray(index), return_index=True)
        return cls(tuple(ids[i] for i in first[0]), tuple(classes), np.asarray(counts, dtype=np.int64)[first[1]])
