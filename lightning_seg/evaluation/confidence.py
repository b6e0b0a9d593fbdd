"""What a network's own probabilities say of how good its mask is, without the truth.

Of an ensemble, or of test-time passes, the map is their mean, which is soft where they disagree.
"""

import numpy as np
from numpy.typing import NDArray


def expected_dice(probability: NDArray[np.floating], mask: NDArray[np.bool_]) -> float:
    """The Dice to expect where the probabilities are right, 2 sum(p m) / (sum p + sum m).

    Soft Dice confidence of Borges et al., arXiv 2402.10665. Of an empty mask it is one minus the
    highest probability.

    Args:
        probability, mask: of one class, of one shape.
    """
    area = int(mask.sum())
    if not area:
        return 1 - float(probability.max(initial=0))
    both = float(probability[mask].sum(dtype=np.float64))
    return 2 * both / (float(probability.sum(dtype=np.float64)) + area)


def mean_entropy(probability: NDArray[np.floating]) -> float:
    """The mean binary entropy of the pixels, in bits; 0 of none."""
    if not probability.size:
        return 0.0
    p = np.clip(probability.astype(np.float64), 1e-12, 1 - 1e-12)
    return float(-(p * np.log2(p) + (1 - p) * np.log2(1 - p)).mean())
