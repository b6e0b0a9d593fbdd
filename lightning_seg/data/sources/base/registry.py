"""A data set is known by its file: ``kvasir_seg.py`` holds ``KvasirSEG``, named ``kvasir_seg``.

Nothing is registered anywhere: a new file is a new data set, with its listing and its YAML name.
"""

import inspect
import pkgutil
from importlib import import_module
from pathlib import Path
from typing import Any

from lightning_seg.errors import InputError, unknown

_SOURCES = Path(__file__).parent.parent
# name -> "module" or "module:class", imported when used
DATASETS: dict[str, str] = {
    module.name: f"lightning_seg.data.sources.{module.name}"
    for module in pkgutil.iter_modules([str(_SOURCES)])
    if not module.ispkg and not module.name.startswith("_")
}


def channel_meaning(dataset: str, channels: int) -> str:
    """What the channels of a data set's images are: ``RGB``, ``grey``, or ``slices`` of a scan."""
    if channels == 1:
        return "grey"
    # a class outside the project is not imported to ask it
    of_scans = dataset in DATASETS and hasattr(source_class(dataset), "spacing")
    return "slices" if of_scans else "RGB" if channels == 3 else f"{channels} channels"


def source_class(name: str) -> type[Any]:
    """The class of the data set ``name``; InputError for an unknown name."""
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
