"""The threshold that `fit` chose on the validation split, and what ``--threshold`` means."""

from collections.abc import Sequence
from pathlib import Path

from lightning_seg.errors import InputError
from lightning_seg.options import VALIDATED
from lightning_seg.runs.checkpoints import read_checkpoint

CHOSEN_ON_VAL = "chosen on the validation split"


def resolve_threshold(given: float | str, checkpoints: Sequence[Path]) -> float:
    """The number that ``--threshold`` means for a network, or an ensemble of several.

    InputError for `VALIDATED` where the checkpoint holds no threshold, and of an ensemble: each
    was chosen for its network alone.
    """
    if given != VALIDATED:
        try:
            return float(given)
        except ValueError:
            raise InputError(
                f"the threshold is {given!r}; give a probability between 0 and 1, such as 0.5, "
                f"or {VALIDATED}."
            ) from None
    if len(checkpoints) > 1:
        raise InputError(
            f"--threshold {VALIDATED} is chosen for one network, but {len(checkpoints)} are "
            "averaged; give a number."
        )
    [file] = checkpoints
    facts = read_checkpoint(file, weights=False).get("lightning_seg", {})
    if not facts.get("threshold"):
        raise InputError(
            f"{file} holds no threshold that was chosen on the validation split (its classes are "
            "exclusive, or an older version trained it); give a number, such as 0.5."
        )
    return float(facts["threshold"]["value"])
