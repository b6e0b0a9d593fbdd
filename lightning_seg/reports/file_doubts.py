"""What true masks and the predictions of files leave in doubt: inverted, or the same files."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from lightning_seg.data.mask_shares import MaskShare, covering_doubt, mask_share
from lightning_seg.evaluation.cut import Cut

_FEW_COVERING = 0.05  # share of the masks that may cover nearly whole pictures


class FileDoubts:
    """Looks at each image that is scored, and says in the end what is strange of all of them.

    Args:
        cut: of probabilities.
    """

    def __init__(self, cut: Cut) -> None:
        self._cut = cut
        self._truth: list[MaskShare] = []
        self._predicted: list[MaskShare] = []
        self._marked = self._equal = 0

    def add(self, maps: NDArray[np.float32], mask: NDArray[np.uint8]) -> None:
        """Look at an image.

        Args:
            maps: predicted probabilities (K, H, W).
            mask: the truth (H, W, K) of 0 and 1.
        """
        predicted = self._cut(maps).transpose(1, 2, 0).astype(np.uint8)
        self._truth.append(mask_share(mask))
        self._predicted.append(mask_share(predicted))
        if mask.any():
            self._marked += 1
            self._equal += int((predicted == mask).all())

    def sentences(self) -> Iterator[str]:
        """Sentences on what is strange."""
        for what, shares in (("true mask", self._truth), ("prediction", self._predicted)):
            if doubt := covering_doubt(shares, what, _FEW_COVERING):
                yield f"{doubt}; look at them"
        if self._equal == self._marked > 0:
            yield (
                "every prediction equals its truth, pixel by pixel, as if the true masks were "
                "given as predictions"
            )
