"""A score table as the columns of a CSV or Parquet file."""

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lightning_seg.errors import InputError
from lightning_seg.files import whole

if TYPE_CHECKING:
    from lightning_seg.evaluation.table import ScoreTable

COUNTS = ("tp", "fp", "fn", "tn")
FOV_COUNTS = tuple(f"fov_{name}" for name in COUNTS)
OF_TABLE = "column:"  # before the name of a further column of the data set's table
_KEYS = ("id", "group", "class")
_NAMED = {*_KEYS, *COUNTS, *FOV_COUNTS, "components", "calibration"}  # the others are measures

Columns = dict[str, list[Any]]


def columns_of(table: "ScoreTable") -> Columns:
    """id, group, class, counts, then what else there is; a row is one image and class."""
    repeats = len(table.classes)
    columns: Columns = {
        "id": [id for id in table.ids for _ in range(repeats)],
        "group": [group for group in table.groups for _ in range(repeats)],
        "class": list(table.classes) * len(table.ids),
    }
    for names, counts in ((COUNTS, table.counts), (FOV_COUNTS, table.fov_counts)):
        if counts is not None:
            columns |= {
                name: counts[..., place].ravel().tolist() for place, name in enumerate(names)
            }
    if table.components is not None:
        columns["components"] = table.components.ravel().tolist()
    columns |= {
        OF_TABLE + name: np.repeat(values, repeats).tolist()
        for name, values in table.columns.items()
    }
    return columns | {
        name: np.asarray(values, float).ravel().tolist() for name, values in table.measures.items()
    }


def table_parts(
    columns: Columns,
    shape: tuple[int, int],
) -> dict[str, Any]:
    """The fields of a table of ``shape`` (N, K) besides ids and classes."""

    def counts(names: tuple[str, ...]) -> NDArray[np.int64]:
        values = np.array([[int(v) for v in columns[name]] for name in names], dtype=np.int64)
        if values.size and values.min() < 0:
            raise ValueError(f"it counts {values.min()} pixels")
        return values.T.reshape(*shape, 4)

    found: dict[str, Any] = {"counts": counts(COUNTS)}
    if "group" in columns:  # tables of before groups were stored have none
        found["groups"] = tuple(columns["group"][:: shape[1]])
    if FOV_COUNTS[0] in columns:
        found["fov_counts"] = counts(FOV_COUNTS)
    if "components" in columns:
        found["components"] = np.array(
            [int(v) for v in columns["components"]], dtype=np.int64
        ).reshape(shape)
    if "calibration" in columns:
        found["calibration"] = np.array(columns["calibration"], dtype=np.float64).reshape(
            *shape, -1, 3
        )
    further = [name for name in columns if name.startswith(OF_TABLE)]
    found["columns"] = {
        name.removeprefix(OF_TABLE): np.array(columns[name][:: shape[1]], dtype=str)
        for name in further
    }
    names = [name for name in columns if name not in _NAMED and name not in further]
    return found | {
        "measures": {
            name: np.array(columns[name], dtype=np.float64).reshape(shape) for name in names
        }
    }


def write_columns(
    path: Path,
    columns: Columns,
    calibration: NDArray[np.float64] | None,
) -> None:
    """Write ``path`` as CSV, and as Parquet with the calibration sums."""
    with whole(path.with_suffix(".csv")) as part:
        _write_csv(part, columns)
    if calibration is not None:
        columns = columns | {"calibration": calibration.reshape(len(columns["id"]), -1).tolist()}
    with whole(path.with_suffix(".parquet")) as part:
        _write_parquet(part, columns)


def _write_csv(path: Path, columns: Columns) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def _write_parquet(path: Path, columns: Columns) -> None:
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.table(columns), path)


def read_columns(path: Path) -> Columns:
    """The columns of a CSV (as text) or Parquet file; InputError where it holds no score table."""
    if not path.is_file():
        raise InputError(
            f"there is no score table {str(path)!r}; give a scores.csv or scores.parquet that a test wrote."
        )
    columns = _read_parquet(path) if path.suffix == ".parquet" else _read_csv(path)
    missing = [name for name in ("id", "class", *COUNTS) if name not in columns]
    if missing:
        raise InputError(
            f"{path} is no score table: it has no column {missing[0]!r}; give a scores.csv that a test wrote."
        )
    return columns


def _read_csv(path: Path) -> Columns:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            header, *rows = list(csv.reader(file)) or [[]]
        if len(set(header)) < len(header):
            raise ValueError("two columns have one name")
        return {
            name: list(column) for name, column in zip(header, zip(*rows, strict=True), strict=True)
        }
    except (csv.Error, ValueError) as error:  # ValueError: a line was cut short, or not text
        raise InputError(
            f"{path} is a damaged score table ({error}); test the run again."
        ) from error


def _read_parquet(path: Path) -> Columns:
    import pyarrow
    from pyarrow import parquet

    try:
        columns: Columns = parquet.read_table(path).to_pydict()
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"{path} is no Parquet file ({reason}); test the run again.") from error
    return columns
