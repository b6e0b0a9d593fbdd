"""What is refused before a run begins."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lightning_seg.errors import InputError, unknown
from lightning_seg.evaluation import SCORES

_LONGEST = 10**9  # epochs or steps of a training


def check_sealed(what: str, monitor: str | None) -> None:
    """No test score decides anything: not the best epoch, not when training ends."""
    if monitor and monitor.startswith("test/"):
        raise InputError(
            f"{what} is {monitor!r}, but the test set is sealed; "
            "monitor a val/ score such as 'val/dice'."
        )


def check_best(checkpoint: Any) -> None:
    """The best epoch is chosen by a validation score, when there is a new one, and kept in the
    run."""
    monitor = checkpoint.monitor
    check_sealed("checkpoint.monitor", monitor)
    known = ["val/loss", "val/f1"]
    for score in SCORES:
        known += [f"val/{score}", f"val/{score}_image"]
    if monitor and not any(monitor == name or monitor.startswith(f"{name}_") for name in known):
        raise unknown("score to monitor", monitor, known)
    if checkpoint.dirpath is not None:
        raise InputError(
            f"checkpoint.dirpath is {str(checkpoint.dirpath)!r}, but checkpoints lie in the folder "
            "of their run; say where that is with --runs and --name."
        )
    filename = re.sub(r"{[^{}]*}", "", checkpoint.filename or "")
    if "/" in filename or "\0" in filename or len(filename) > 150:
        raise InputError(
            f"checkpoint.filename is {checkpoint.filename[:200]!r}; give a name without slashes, "
            "such as best-epoch={epoch:03d}."
        )
    for key in ("every_n_train_steps", "train_time_interval"):
        if checkpoint[key] is not None:
            raise InputError(
                f"checkpoint.{key} is {checkpoint[key]}, but between two validations no score of "
                "the weights is known; validate more often with trainer.val_check_interval."
            )


def check_length(trainer: Any) -> None:
    """InputError where nothing would be trained, or for ever."""
    for key in ("max_epochs", "max_steps"):
        value = trainer[key]
        if value is not None and value > _LONGEST:
            raise InputError(
                f"trainer.{key} has {len(str(value))} digits; give at most {_LONGEST}, or -1 for no end."
            )
        if value is not None and (value == 0 or value < -1):
            raise InputError(
                f"trainer.{key} is {value}, so nothing would be trained; give a whole number from 1."
            )
    if trainer.limit_train_batches == 0:
        raise InputError(
            "trainer.limit_train_batches is 0, so nothing would be trained; leave it out."
        )


def check_settings(
    given: Mapping[str, Any],
    content: Mapping[str, Any],
    keys: Iterable[str],
    name: Path | None,
) -> None:
    """A checkpoint's settings of the network, and of the optimiser in `fit`, cannot be changed."""
    for key in keys:
        theirs = content["hyper_parameters"].get(key)
        if (given[key] or None) != (theirs or None):
            raise InputError(
                f"{name} holds model.{key} = {theirs!r}, which contradicts {given[key]!r}; "
                f"leave model.{key} out, or train anew without --ckpt_path."
            )
