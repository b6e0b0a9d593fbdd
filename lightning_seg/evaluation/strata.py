"""Parts of a test set that a mean hides: by the size of the lesions, and by their number."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lightning_seg.evaluation.table import ScoreTable

SIZES = ("small", "medium", "large")


class Stratum(NamedTuple):
    """Some images of a table."""

    name: str
    rule: str  # in words, with its figures
    rows: NDArray[np.bool_]  # (N,)


def strata(table: ScoreTable, class_name: str) -> list[Stratum]:
    """Small, medium and large: the thirds of the images by the share of the frame that is lesion;
    then none; then by number.

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
    return [stratum for stratum in found if stratum.rows.any()]
