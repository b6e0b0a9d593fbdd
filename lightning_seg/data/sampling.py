"""How often training visits each image: each once an epoch, or strata evenly."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from lightning_seg.data.dataset import SegmentationDataset
from lightning_seg.errors import unknown

_KINDS = ("foreground", "groups")


def sampling_weights(kind: str, data: SegmentationDataset, source: Any) -> np.ndarray:
    """The weight of each item of a training set, so that strata are visited evenly.

    Args:
        kind: ``foreground``: images with any and images without; ``groups``: patients, sequences
            or what else is known to belong together; or a column of the data set's table.

    Errors: InputError for an unknown column.
    """
    strata = _strata(kind, data, source)
    counts = Counter(strata)
    weights = np.array([1 / counts[stratum] for stratum in strata])
    return np.tile(weights, data.copies)


def _strata(
    kind: str,
    data: SegmentationDataset,
    source: Any,
) -> Sequence[Any]:
    if kind == "foreground":
        return data.has_foreground().tolist()
    if kind == "groups":
        return [source.groups[id] for id in data.ids]
    # id -> column -> value
    rows: dict[str, dict[str, str]] = getattr(source, "columns", {})
    names = dict.fromkeys(name for row in rows.values() for name in row)
    if kind not in names:
        raise unknown("sampling (data.sampling)", kind, [*_KINDS, *names])
    return [rows.get(id, {}).get(kind, "") for id in data.ids]
