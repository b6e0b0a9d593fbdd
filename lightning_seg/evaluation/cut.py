"""`Cut`: the masks that probabilities stand for, before anything is done to them."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from lightning_seg.errors import InputError


@dataclass(frozen=True)
class Cut:
    """Where each class is: above a threshold, or where it is the most probable of all.

    Attributes:
        threshold: a probability above it belongs to the mask.
        exclusive: whether a pixel is of one class at most: the most probable one, unless the
            background, which has the rest of the probability, is at least as probable.

    Errors: InputError for a threshold outside (0, 1), and one of exclusive classes.
    """

    threshold: float = 0.5
    exclusive: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.threshold < 1:
            raise InputError(
                f"the threshold is {self.threshold}; give a probability between 0 and 1, such as "
                "0.5."
            )
        if self.exclusive and self.threshold != 0.5:
            raise InputError(
                f"the threshold is {self.threshold}, but the classes of this network are "
                "exclusive: a pixel is of the most probable one; leave the threshold out."
            )

    def __call__(self, probability: Any, axis: int = 0) -> Any:
        """Masks, bool, of an array or tensor of any shape whose classes lie along ``axis``."""
        if not self.exclusive:
            return probability > self.threshold
        count, inserted = probability.shape[axis], (*(slice(None),) * axis, None)
        shape = [1] * probability.ndim
        shape[axis] = count
        numbers: Any = np.arange(count)
        if not isinstance(probability, np.ndarray):
            numbers = probability.new_tensor(list(range(count)))
        most_probable = probability.argmax(axis)[inserted] == numbers.reshape(shape)
        background = (1 - probability.sum(axis))[inserted]
        return most_probable & (probability > background)
