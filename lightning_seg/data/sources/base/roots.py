"""Where a data set lies."""

import os
from collections.abc import Sequence
from pathlib import Path

from lightning_seg.errors import InputError

DATA_VARIABLE = "LIGHTNING_SEG_DATA"


def find_root(
    name: str,
    root: Path | None,
    candidates: Sequence[str],
) -> Path:
    """``root`` where it is given, else the first of ``candidates`` in $LIGHTNING_SEG_DATA."""
    if root is not None:
        root = root.expanduser()
        if not root.exists():
            raise InputError(
                f"{name}: the root {str(root)!r} does not exist; "
                "give the folder that holds the data set."
            )
        return root
    folder = os.environ.get(DATA_VARIABLE)
    if not folder:
        raise InputError(
            f"{name}: no root is given and {DATA_VARIABLE} is not set; give one of them."
        )
    places = [Path(folder).expanduser() / candidate for candidate in candidates]
    for place in places:
        if place.exists():
            return place
    looked = ", ".join(str(place) for place in places)
    raise InputError(
        f"{name}: nothing found at {looked}; give root, or put the data set into one of these "
        "places."
    )


def find_folder(
    place: Path,
    names: Sequence[str],
    parts: Sequence[str],
) -> Path | None:
    """The first of ``place`` and the folders ``names`` in it that holds all ``parts``; or None."""
    folders = (place, *(place / name for name in names))
    return next((folder for folder in folders if _holds_parts(folder, parts)), None)


def _holds_parts(folder: Path, parts: Sequence[str]) -> bool:
    return all((folder / part).is_dir() for part in parts)
