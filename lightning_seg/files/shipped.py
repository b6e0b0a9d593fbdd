"""The files that come with the project, found from any folder: recipes, sweeps, search spaces.

They lie in the packages ``experiments`` and ``hpo``, which stand beside ``lightning_seg`` in a
checkout and inside of it in an installed wheel.
"""

import re
import sys
from pathlib import Path

from lightning_seg.errors import InputError, near_match

_PACKAGE = Path(__file__).parent.parent
_INSIDE = _PACKAGE / "_beside"  # made when a wheel is built: see setup.py
HOME = _INSIDE if _INSIDE.is_dir() else _PACKAGE.parent
# what is shipped -> its folder
_FOLDERS = {"recipe": "experiments", "sweep": "experiments/sweeps", "space": "hpo/spaces"}


def import_from_home() -> None:
    """Let ``experiments`` and ``hpo`` be imported, wherever they lie."""
    if str(HOME) not in sys.path:
        sys.path.insert(0, str(HOME))


def shipped_names(kind: str) -> list[str]:
    """The names of what ships, sorted.

    Args:
        kind: recipe, sweep or space.
    """
    files = (HOME / _FOLDERS[kind]).glob("*.yaml")
    return sorted(file.stem for file in files if kind != "recipe" or _is_recipe(file))


def _is_recipe(file: Path) -> bool:
    return bool(re.search(r"(?m)^model:", file.read_text(encoding="utf-8")))


def shipped_title(kind: str, name: str) -> str:
    """The first line of its comment."""
    text = (HOME / _FOLDERS[kind] / f"{name}.yaml").read_text(encoding="utf-8")
    return text.partition("\n")[0].lstrip("# ")


def find_shipped(kind: str, given: str | Path) -> Path:
    """The file that a path, or the name of one that ships, means.

    A path is looked for in the working folder first. ``unet_a``, ``unet_a.yaml`` and
    ``experiments/unet_a.yaml`` then mean the one that ships.

    Raises:
        InputError: there is none.
    """
    path = Path(given).expanduser()
    if path.is_file():
        return path
    folder = Path(_FOLDERS[kind])
    file = HOME / folder / f"{path.name.removesuffix('.yaml')}.yaml"
    names = shipped_names(kind)
    if path.parent in (Path("."), folder) and file.stem in names:
        return file
    near = near_match(path.stem, names)
    hint = f"did you mean {near!r}? Give" if near else "give"
    raise InputError(
        f"there is no {kind} {str(path.absolute())!r}; {hint} the path of a YAML file, such as "
        f"{folder.as_posix()}/{names[0]}.yaml, or the name of one that ships: {', '.join(names)}."
    )
