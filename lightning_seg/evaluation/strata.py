"""Parts of a test set that a mean hides: by the size of the lesions, by their number, and by the
values of each further column of the data set's table (centre, device, age)."""

from collections.abc import Iterator
from math import isfinite
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lightning_seg.evaluation.table import ScoreTable

SIZES = ("small", "medium", "large")
MISSING = ("", "na", "n/a", "nan")  # no value of a column, in any case
MOST_VALUES = 12  # of a column; of more, numbers are cut into thirds, and texts are left aside
_FEW_NUMBERS = 6  # up to here each number is a stratum, such as a grade


class Stratum(NamedTuple):
    """Some images of a table.

    Attributes:
        rule: in words, with its figures.
        rows: (N,) whether an image is one of them.
        column: of the data set's table, of which they share a value; empty for sizes and numbers.
    """

    name: str
    rule: str
    rows: NDArray[np.bool_]
    column: str = ""


def strata(table: ScoreTable, class_name: str) -> list[Stratum]:
    """Small, medium and large: the thirds of the images by the share of the frame that is lesion;
    then none; then by number; then by the values of each column (`of_column`).

    The thirds follow from the truth of the split, so they are the same for every model. Strata
    without images are left out.
    """
    k = table.index(class_name)
    share = table.areas[:, k] / np.maximum(table.counts[:, k].sum(-1), 1)
    seen = share > 0
    first, second = np.quantile(share[seen], [1 / 3, 2 / 3]) if seen.any() else (0.0, 0.0)
    found = [
        Stratum("small", f"up to {first:.1%} of the frame", seen & (share <= first)),
        Stratum("medium", f"{first:.1%} to {second:.1%}", (share > first) & (share <= second)),
        Stratum("large", f"over {second:.1%}", share > second),
        Stratum("empty", "no lesion in the truth", ~seen),
    ]
    if table.components is not None:
        number = table.components[:, k]
        found += [
            Stratum("one lesion", "one component", number == 1),
            Stratum("several lesions", "two components or more", number > 1),
        ]
    for column, values in table.columns.items():
        found += of_column(column, values)
    return [stratum for stratum in found if stratum.rows.any()]


def of_column(column: str, values: NDArray[np.str_]) -> list[Stratum]:
    """The strata of a column (N,): its values in order, or thirds of its numbers where there are
    many, then the images without a value.

    None where all images share one value, or where there are more than `MOST_VALUES` texts.
    """
    texts = np.char.strip(values)
    missing = np.isin(np.char.lower(texts), MISSING)
    distinct = sorted(set(texts[~missing].tolist()))
    if len(distinct) + missing.any() < 2 or not distinct:
        return []
    numbers = _numbers(texts, missing)
    if numbers is not None and len(distinct) > _FEW_NUMBERS:
        found = list(_thirds(column, numbers))
    elif len(distinct) > MOST_VALUES:
        return []
    else:
        if numbers is not None:
            distinct.sort(key=float)
        found = [
            _stratum(column, value, f"{column} is {value}", texts == value) for value in distinct
        ]
    found.append(_stratum(column, "missing", f"no value of {column}", missing))
    return [stratum for stratum in found if stratum.rows.any()]


def unused_columns(table: ScoreTable) -> list[str]:
    """The columns that make no strata, since too many values are texts, or all are one."""
    return [column for column, values in table.columns.items() if not of_column(column, values)]


def _numbers(texts: NDArray[np.str_], missing: NDArray[np.bool_]) -> NDArray[np.float64] | None:
    """The column as numbers, nan where one is missing; None where any is no finite number."""
    found = np.full(len(texts), np.nan)
    try:
        found[~missing] = [float(text) for text in texts[~missing]]
    except ValueError:
        return None
    return found if all(map(isfinite, found[~missing])) else None


def _thirds(column: str, numbers: NDArray[np.float64]) -> Iterator[Stratum]:
    first, second = np.nanquantile(numbers, [1 / 3, 2 / 3])
    low, high = f"up to {first:.4g}", f"over {second:.4g}"
    middle = f"over {first:.4g} up to {second:.4g}"
    yield _stratum(column, low, "lowest third", numbers <= first)
    yield _stratum(column, middle, "middle third", (numbers > first) & (numbers <= second))
    yield _stratum(column, high, "highest third", numbers > second)


def _stratum(column: str, value: str, rule: str, rows: NDArray[np.bool_]) -> Stratum:
    return Stratum(f"{column}: {value}", rule, rows, column)
