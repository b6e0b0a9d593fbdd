"""What a recipe with overrides says, without a run: the keys and values of a study are checked
before its first trial."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hpo.space import corners, flatten, overrides, parameters
from lightning_seg.cli.dry_fit import DryFit
from lightning_seg.errors import InputError

# what decides by which images a trial is judged
_JUDGING = {
    "data.dataset",
    "data.root",
    "data.protocol",
    "trainer.limit_val_batches",
    "trainer.overfit_batches",
}


class DryRun(DryFit):
    """What a recipe with overrides says."""

    @property
    def values(self) -> dict[str, Any]:
        """Every key with its value, dotted."""
        return flatten(self.config["fit"].as_dict())


def digest(recipe: str | Path) -> str:
    """The first 16 hex digits of the SHA-256 of a recipe's file."""
    return hashlib.sha256(Path(recipe).read_bytes()).hexdigest()[:16]


def named_files(*places: Any) -> dict[str, str]:
    """The YAML files that values name, such as those of augmentation, and the digest of each.

    Args:
        places: texts, and lists and mappings of them, at any depth.
    """
    found: dict[str, str] = {}
    for place in places:
        if isinstance(place, Mapping):
            found |= named_files(*place.values())
        elif isinstance(place, list | tuple):
            found |= named_files(*place)
        elif isinstance(place, str) and Path(place).suffix in (".yaml", ".yml"):
            file = Path(place).expanduser()
            found |= {place: digest(file)} if file.is_file() else {}
    return found


def try_fit(args: Sequence[str]) -> DryRun:
    """``fit`` with these arguments, dry; InputError where something in it does not work."""
    return DryRun.of(args)


def dry_run(recipe: str, args: Sequence[str]) -> dict[str, Any]:
    """Every key of ``fit -c recipe args`` with its value, dotted; InputError where one does not
    work."""
    return try_fit(["-c", recipe, *args]).values


def check_space(
    recipe: str,
    args: Sequence[str],
    space: Mapping[str, Any],
) -> dict[str, Any]:
    """The configuration of the recipe itself, once the whole space has been tried.

    Each choice and each end of a range is tried on the command line. InputError for a space that
    varies the images by which trials are judged.
    """
    for key in _JUDGING & {parameter.key for parameter in parameters(space)}:
        raise InputError(
            f"the space varies {key}, so trials would be ranked by scores of different images; "
            "give it in the recipe, and run a study for each of its values."
        )
    base = dry_run(recipe, args)
    for values in corners(space):
        changed = overrides(values, base)
        try:
            dry_run(recipe, [*args, *changed])
        except InputError as error:
            raise InputError(
                f"the space does not fit {recipe} ({' '.join(changed)}): {error}"
            ) from error
    return base
