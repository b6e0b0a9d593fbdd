"""A data set is known by its file: ``kvasir_seg.py`` holds ``KvasirSEG``, named ``kvasir_seg``.

Nothing is registered anywhere: a new file is a new data set, with its listing and its YAML name.
A class outside the project is named ``package.module:Class``. Its code runs only where a person
typed it, or trusts the file that names it (`trust_source`, `lightning_seg.files.trust`).
"""

import ast
import inspect
import pkgutil
from importlib import import_module
from pathlib import Path
from typing import Any

from lightning_seg.errors import InputError, unknown
from lightning_seg.plugins import outside_class

_SOURCES = Path(__file__).parent.parent
# name -> "module" or "module:class", imported when used
DATASETS: dict[str, str] = {
    module.name: f"lightning_seg.data.sources.{module.name}"
    for module in pkgutil.iter_modules([str(_SOURCES)])
    if not module.ispkg and not module.name.startswith("_")
}

# what is known of a data set before it is opened
_OFFERED = ("classes", "in_channels", "default_protocol", "read")


def channel_meaning(dataset: str, channels: int) -> str:
    """What the channels of a data set's images are: ``RGB``, ``grey``, or ``slices`` of a scan."""
    if channels == 1:
        return "grey"
    # a class outside the project is not imported to ask it
    of_scans = dataset in DATASETS and hasattr(source_class(dataset), "spacing")
    return "slices" if of_scans else "RGB" if channels == 3 else f"{channels} channels"


_TRUSTED: set[str] = set()  # data sets outside the project whose code may run


def trust_source(name: str) -> None:
    """Let the code of a data set ``package.module:Class`` run in this process."""
    _TRUSTED.add(name)


def _outside_class(name: str) -> type[Any]:
    if name not in _TRUSTED:
        raise InputError(
            f"the data set {name!r} is code outside lightning_seg; give --trust_code (in Python "
            "lightning_seg.data.trust_source) if you trust that code and the file that names it."
        )
    found = outside_class("data set", name)
    lacking = [part for part in _OFFERED if not hasattr(found, part)]
    if not inspect.isclass(found) or lacking:
        needed = ", ".join(lacking) or "to be a class"
        raise InputError(
            f"{name!r} is no data set: it lacks {needed}; see lightning_seg.data.sources.base.Source."
        )
    return found


def dataset_title(name: str) -> str:
    """The first sentence of the file of a data set, read without importing it."""
    source = (_SOURCES / f"{name}.py").read_text(encoding="utf-8")
    head, _, _ = (ast.get_docstring(ast.parse(source)) or "").partition("\n\n")
    return " ".join(head.split())


def source_class(name: str) -> type[Any]:
    """The class of the data set ``name``; InputError for an unknown name, or code not trusted."""
    if ":" in name and name not in DATASETS:
        return _outside_class(name)
    if name not in DATASETS:
        raise unknown("data set", name, DATASETS)
    module_name, _, given = DATASETS[name].partition(":")
    module = import_module(module_name)
    wanted = (given or name).replace("_", "").lower()
    for found, kind in inspect.getmembers(module, inspect.isclass):
        if found.lower() == wanted:
            return kind
    raise InputError(
        f"lightning_seg/data/sources/{name}.py holds no class whose name, in lower case, is "
        f"{wanted!r}; name its data set so."
    )
