"""Whether all masks of a data set mark their classes alike: by one value, and in one palette."""

from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path

import numpy as np

from lightning_seg.data.reading.masks import read_marked_mask, read_palette
from lightning_seg.errors import InputError


class AlikeMasks:
    """The masks of a data set, of which the first says how the class is marked.

    The first one is looked up again by each process, so that a cache of other masks hides nothing.

    Args:
        files: all masks in their order.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = files

    def check_mark(self, path: Path, mark: str) -> None:
        """InputError for a mask whose class has another value than in the first.

        Args:
            mark: as `read_marked_mask` gives it.
        """
        if not mark or mark == self._first_mark[1]:
            return
        first, usual = self._first_mark
        raise InputError(
            f"{path} marks its class by {mark}, and {first} by {usual}: whether these are one "
            "class is not known; say it in dataset_options: `labels: nonzero` where they are, "
            "`classes` and `labels` where each is one."
        )

    def check_palette(self, path: Path, numbers: np.ndarray) -> None:
        """InputError for a mask whose palette gives the colour of a number to another number.

        Args:
            numbers: that the mask holds.
        """
        own = read_palette(path)
        first, usual = self._first_palette if own else (path, own)
        if own == usual:
            return
        for number in np.unique(numbers).tolist():
            colour = own[number]
            places = [place for place, shown in usual.items() if shown == colour]
            if places and number not in places:
                raise InputError(
                    f"{path} shows {colour} where its number is {number}, and {first} where it is "
                    f"{places[0]}: a number does not mean the same in both; name the classes by "
                    "colour in dataset_options.labels."
                )

    @cached_property
    def _first_mark(self) -> tuple[Path, str]:
        for path in self._files:
            with suppress(InputError):  # its reader says it
                mark = read_marked_mask(path).mark
                if mark:
                    return path, mark
        return Path(), ""

    @cached_property
    def _first_palette(self) -> tuple[Path, dict[int, str]]:
        for path in self._files:
            with suppress(InputError):
                palette = read_palette(path)
                if palette:
                    return path, palette
        return Path(), {}
