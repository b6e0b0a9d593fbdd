"""Classes of code outside the project, named ``package.module:Class``: networks and data sets."""

import os
import sys
import traceback
from importlib import import_module
from pathlib import Path
from typing import Any

from lightning_seg.errors import InputError


def outside_class(kind: str, name: str) -> Any:
    """Import what ``package.module:Class`` names; modules of the working folder are found too.

    Args:
        kind: what it stands for in a sentence, such as ``architecture``.

    Raises:
        InputError: there is no such module or class, or its code fails: with file, line and cause.
    """
    module, _, member = name.partition(":")
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # as `python -m` does
    try:
        return getattr(import_module(module), member)
    except Exception as error:
        raise InputError(f"no {kind} {name!r}: {_cause(error)}.") from error
    except SystemExit as error:
        raise InputError(
            f"no {kind} {name!r}: {_place(error)}: its code ends the process when it is imported."
        ) from error


def _cause(error: Exception) -> str:
    if isinstance(error, SyntaxError):
        return f"{error.filename}, line {error.lineno}: {type(error).__name__}: {error.msg}"
    said = str(error).strip().partition("\n")[0].rstrip(".")
    where = _place(error)
    # without a place, Python's own words: no module named so, no such member
    return f"{where}: {type(error).__name__}: {said}" if where else said


def _place(error: BaseException) -> str:
    """``file, line 3`` of the named code, even where a library that it calls fails; empty where the
    code was not reached."""
    frames = traceback.extract_tb(error.__traceback__)[1:]
    reached = [frame for frame in frames if "importlib" not in frame.filename]
    if not reached:
        return ""
    home = Path(reached[0].filename).parent
    last = [frame for frame in reached if home in Path(frame.filename).parents][-1]
    return f"{last.filename}, line {last.lineno}"
