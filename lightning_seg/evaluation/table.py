"""The table every score is made from: one row per image and class, integer counts and measures,
keyed by image id."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_seg.errors import InputError, unknown
from lightning_seg.evaluation._columns import (
    columns_of,
    read_columns,
    table_parts,
    write_columns,
)
from lightning_seg.evaluation.conventions import Counts


@dataclass(frozen=True)
class ScoreTable:
    """The counts and measures of N images under K classes.

    Attributes:
        ids: of the images, each once, in the order of the split.
        classes: names of the mask's channels.
        counts: (N, K, 4) pixels: TP, FP, FN, TN over the whole frame.
        groups: the patient, sequence or scan of each image; its id where none is known.
        measures: name -> (N, K) float64, such as ``hd95`` (see ``measures``).
        fov_counts: (N, K, 4) inside the field of view, where the data set has one.
        components: (N, K) lesions of the truth: its 8-connected components.
        calibration: (N, K, bins, 3) by predicted probability: pixels, foreground pixels, sum of
            probabilities. In Parquet only.
        columns: name -> the (N,) values of a further column of the data set's table, such as
            ``centre``; empty texts where an image has none.
    """

    ids: tuple[str, ...]
    classes: tuple[str, ...]
    counts: Counts
    groups: tuple[str, ...] = ()
    measures: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    fov_counts: Counts | None = None
    components: NDArray[np.int64] | None = None
    calibration: NDArray[np.float64] | None = None
    columns: Mapping[str, NDArray[np.str_]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.groups:
            object.__setattr__(self, "groups", self.ids)

    def of(self, name: str) -> Counts:
        """The (N, 4) counts of one class."""
        return self.counts[:, self.index(name)]

    def index(self, name: str) -> int:
        """The position of a class; InputError where there is none of this name."""
        if name not in self.classes:
            raise unknown("class", name, self.classes)
        return self.classes.index(name)

    @property
    def areas(self) -> NDArray[np.int64]:
        """(N, K) pixels of the truth."""
        return self.counts[..., 0] + self.counts[..., 2]

    @property
    def grouped(self) -> bool:
        """True where any group holds more than one image: then groups, not images, are the
        independent units."""
        return len(set(self.groups)) < len(self.ids)

    def at(self, rows: NDArray[np.integer[Any]]) -> "ScoreTable":
        """The images at these positions, in their order."""

        def part(value: Any) -> Any:
            if isinstance(value, Mapping):
                return {name: values[rows] for name, values in value.items()}
            return tuple(value[row] for row in rows) if isinstance(value, tuple) else value[rows]

        parts: dict[str, Any] = {each.name: getattr(self, each.name) for each in fields(self)}
        kept = {
            key: part(value)
            for key, value in parts.items()
            if key != "classes" and value is not None
        }
        return ScoreTable(classes=self.classes, **kept)

    @classmethod
    def collect(
        cls,
        index: Sequence[int],
        counts: Counts,
        ids: Sequence[str],
        classes: Sequence[str],
        **parts: Any,
    ) -> "ScoreTable":
        """Make a table from rows in any order, in which an image may stand twice (distributed samplers repeat
        some): once each, sorted.

        Args:
            index: of each row, its position in ``ids``.
            parts: further fields of the table, row by row.
        """
        _, first = np.unique(np.asarray(index), return_index=True)
        rows = tuple(ids[i] for i in np.asarray(index))
        return cls(rows, tuple(classes), np.asarray(counts, dtype=np.int64), **parts).at(first)

    def write(self, path: Path) -> None:
        """Write CSV and Parquet, of the name of ``path``, beside each other; each appears whole or
        not at all."""
        write_columns(path, columns_of(self), self.calibration)

    @classmethod
    def read(cls, path: Path) -> "ScoreTable":
        """Read a CSV or Parquet file that `write` wrote; InputError where it is none."""
        columns = read_columns(path)
        ids, classes = tuple(dict.fromkeys(columns["id"])), tuple(dict.fromkeys(columns["class"]))
        rows = list(zip(columns["id"], columns["class"], strict=True))
        if not rows or rows != [(id, name) for id in ids for name in classes]:
            raise InputError(
                f"{path} is not a whole score table: {len(rows)} rows for {len(ids)} images and {len(classes)} classes; "
                "test the run again."
            )
        try:
            return cls(ids, classes, **table_parts(columns, (len(ids), len(classes))))
        except (ValueError, TypeError, ArithmeticError) as error:
            raise InputError(
                f"{path} is a damaged score table ({error}); test the run again."
            ) from error


def column_values(
    rows: Mapping[str, Mapping[str, str]], ids: Sequence[str]
) -> dict[str, NDArray[np.str_]]:
    """The further columns of a data set's table, name -> (N,) values of the ids.

    Args:
        rows: id -> column -> value.
    """
    known = [rows.get(id, {}) for id in ids]
    names = dict.fromkeys(name for row in known for name in row)
    return {name: np.array([row.get(name, "") for row in known], dtype=str) for name in names}
