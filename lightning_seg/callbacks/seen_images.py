"""Scores of images that a network was trained on are refused before the first of them is made."""

import sys
from collections.abc import Mapping
from typing import Any

import lightning as L

from lightning_seg.runs.trained_on import TrainedOn

_SPLITS = {"test": "test", "validate": "val"}


class SeenImages(L.Callback):
    """Compares the images to be scored with those that each checkpoint has seen.

    Args:
        trained: name of a checkpoint -> its training; of an ensemble each member.
    """

    def __init__(self, trained: Mapping[str, TrainedOn]) -> None:
        self.trained = dict(trained)

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        data = trainer.datamodule.fingerprint(_SPLITS[stage])
        for name, training in self.trained.items():
            if (caution := training.check(data, name)) and trainer.is_global_zero:
                print(f"note: {caution}.", file=sys.stderr)
