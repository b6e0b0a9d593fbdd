"""What is found is not obeyed: the one rule for recipes, configurations, checkpoints, sweeps and
studies.

A file may name classes of Lightning and of this project. Code from elsewhere runs where its user
typed it on the command line, or gave ``--trust_code``.
"""

import re
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from lightning_seg.errors import InputError
from lightning_seg.files import real_path
from lightning_seg.files.documents import parse_yaml

FLAG = "--trust_code"
_OWN = ("lightning", "lightning_seg")
_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
# keys whose words are names of files, scores or folders, never of classes
_WORDS = ("default_root_dir", "dirpath", "save_dir", "filename", "name", "version", "monitor")
_SECTIONS = ("trainer", "model", "data", "checkpoint")
Keys = tuple[str, ...]


def check_code(content: Any, file: object, trust_code: bool) -> None:
    """InputError where a file names code from outside, unless that is allowed.

    Args:
        content: of the file: a configuration, a sweep, a space, the settings in a checkpoint.
        file: whom the sentence names.
    """
    if trust_code:
        return
    for place, name in _foreign(content, ()):
        raise InputError(
            f"{str(file)!r} holds {place} {name[:200]!r}, for which code outside lightning_seg "
            f"would run; give {FLAG} (in Python trust_code=True) if you trust that code and this "
            "file."
        )


def check_code_of_arguments(args: Sequence[str], origin: object, trust_code: bool) -> None:
    """The same for a command line that was found, such as that of a study's trials."""
    if trust_code:
        return
    for option, value in zip(args, [*args, ""][1:], strict=True):
        name, equals, inner = option.partition("=")
        if name == FLAG:
            raise InputError(f"{origin} gives itself {FLAG}; give it yourself if you trust it.")
        if name.startswith("--"):
            text = inner if equals else value
            check_code({name[2:]: parse_yaml(text, f"{name} of {origin}")}, origin, False)


def names_code(args: Sequence[str]) -> bool:
    """Tell whether a command line names code from outside, or allows it."""
    try:
        check_code_of_arguments(args, "", False)
    except InputError:
        return True
    return False


def check_places(content: Any, file: object, near: Sequence[Path], trust_code: bool) -> None:
    """InputError where a configuration that was found would have files written elsewhere.

    Args:
        content: of the configuration.
        near: the folders in which it may.
    """
    if trust_code:
        return
    trainer = content.get("trainer") if isinstance(content, dict) else None
    homes = [real_path(folder) for folder in near]
    for path, text in _texts(trainer, ("trainer",)):
        place = Path(text)
        if "\0" in text or not (place.is_absolute() or ".." in place.parts):
            continue
        whole = real_path(place)
        if not any(whole == home or home in whole.parents for home in homes):
            raise InputError(
                f"{str(file)!r} holds {'.'.join(path)} {text[:200]!r}, outside of its run and of "
                f"this folder; give another on the command line, or {FLAG} if you trust the file."
            )


def _foreign(content: Any, path: Keys) -> Iterator[tuple[str, str]]:
    """Place and name of all that would be imported, or read as a further configuration."""
    if isinstance(content, dict):
        for key, value in content.items():
            yield from _foreign(value, (*path, *str(key).split(".")))
    elif isinstance(content, list | tuple):
        for value in content:
            yield from _foreign(value, path)
    elif isinstance(content, str) and _unfolded(content, path) != content:
        yield from _foreign(_unfolded(content, path), path)
    elif isinstance(content, str) and _is_foreign(content, path):
        yield _place(path), content


def _place(path: Keys) -> str:
    if "architecture" in path:
        return "the network"
    return "the data set" if path[-1:] == ("dataset",) else ".".join(path)


def _unfolded(text: str, path: Keys) -> Any:
    """The lists and mappings that a text of the trainer's section is read as; else the text."""
    if "trainer" not in path or not set(text) & set("{[:"):
        return text
    try:
        found = parse_yaml(text, "a text")
    except InputError:
        return text
    return found if isinstance(found, dict | list) else text


def _is_foreign(text: str, path: Keys) -> bool:
    if "architecture" in path or path[-1:] == ("dataset",):
        return ":" in text
    if path[-1:] == ("class_path",):
        return "." in text and not _is_own(text)
    # a section or class in another file, which would be read in its place
    if path[-1:] == ("config",) or (path and path[-1] in _SECTIONS):
        return _is_file(text)
    if "trainer" not in path or path[-1] in _WORDS:
        return False
    return _is_file(text) or (bool(_DOTTED.fullmatch(text)) and not _is_own(text))


def _is_file(text: str) -> bool:
    try:
        return Path(text).expanduser().is_file()
    except (OSError, ValueError, RuntimeError):
        return False


def _is_own(name: str) -> bool:
    """Tell whether a dotted name is that of a class which Lightning or this project defines.

    Their modules also hold what they import, as in ``lightning_seg.files.os``: that is not theirs.
    """
    parts = name.split(".")
    if parts[0] not in _OWN:
        return False
    for count in range(len(parts) - 1, 0, -1):
        try:
            found: Any = import_module(".".join(parts[:count]))
        except ImportError:
            continue
        for part in parts[count:]:
            found = getattr(found, part, None)
        return str(getattr(found, "__module__", "")).partition(".")[0] in _OWN
    return False


def _texts(content: Any, path: Keys) -> Iterator[tuple[Keys, str]]:
    if isinstance(content, dict):
        for key, value in content.items():
            yield from _texts(value, (*path, str(key)))
    elif isinstance(content, list | tuple):
        for value in content:
            yield from _texts(value, path)
    elif isinstance(content, str):
        yield path, content
