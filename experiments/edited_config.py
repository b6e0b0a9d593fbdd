"""A configuration that was edited after the training: the checkpoints beside it know better."""

import json
from typing import Any

from lightning_seg.errors import InputError
from lightning_seg.runs import Run
from lightning_seg.runs.checkpoints import read_checkpoint
from lightning_seg.training.module import NETWORK, OPTIMIZATION

# what a resumed training goes on with; calibration came later
_FIXED = {*NETWORK, *OPTIMIZATION} - {"calibration"}


def check_config(run: Run) -> None:
    """InputError where ``config.yaml`` names a network or an optimiser that the run's last
    checkpoint was not trained with.

    A run without checkpoints is taken at its word.
    """
    saved = run.last
    if saved is None:
        return
    trained: dict[str, Any] = read_checkpoint(saved.path, weights=False)["hyper_parameters"]
    for name, given in (run.config.get("model") or {}).items():
        if name in trained.keys() & _FIXED and _plain(given) != _plain(trained[name]):
            raise InputError(
                f"{run.config_file} says model.{name} = {given!r}, and {saved.path.name} beside it "
                f"was trained with {trained[name]!r}; put the file back as the training wrote it."
            )


def _plain(value: Any) -> str:
    """The same text for a tuple and a list, and for nothing and an empty mapping."""
    return json.dumps(value or None, sort_keys=True, default=str)
