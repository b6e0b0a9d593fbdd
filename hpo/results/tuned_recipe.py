"""The recipe that a trial found."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial

from hpo.recipe import digest, dry_run
from hpo.space import overrides
from hpo.spec import StudySpec
from hpo.trials import shared_arguments
from lightning_seg.errors import InputError
from lightning_seg.files.documents import read_yaml
from lightning_seg.files.trust import FLAG

# of the machine that trains, not of the training
MACHINE = (
    "data.root",
    "data.cache",
    "data.num_workers",
    "trainer.accelerator",
    "trainer.devices",
    "trainer.strategy",
    "trainer.num_nodes",
)


def tuned_content(spec: StudySpec, trial: FrozenTrial) -> dict[str, Any]:
    """The study's recipe with the overrides of all its trials and of this one; InputError where
    that recipe has changed."""
    recipe = Path(spec.recipe)
    if not recipe.is_file() or digest(recipe) != spec.digest:
        raise InputError(
            f"{recipe}, the recipe of the study, is not there or has changed since; restore it first."
        )
    args = [*spec.args, *own_overrides(spec, trial), *shared_arguments(spec)]
    trust = [FLAG] if FLAG in spec.args else []
    before, values = (dry_run(spec.recipe, each) for each in (trust, args))
    content: dict[str, Any] = read_yaml(recipe)
    for key in dict.fromkeys(_keys(args)):
        if key not in MACHINE and values[key] != before[key]:
            section, _, name = key.partition(".")
            place = content.setdefault(section, {}) if name else content
            place[name or section] = values[key]
    return content


def own_overrides(spec: StudySpec, trial: FrozenTrial) -> list[str]:
    """The arguments that the trial's parameters add to the command line."""
    return overrides(trial.params, spec.base)


def _keys(args: Sequence[str]) -> Iterator[str]:
    """``model.loss`` for --model.loss, --model.loss=... and --model.loss.dice: the keys of a recipe
    have two parts."""
    for part in args:
        if part.startswith("--"):
            yield ".".join(part[2:].partition("=")[0].split(".")[:2])
