"""The source files that a network needs, flat and with relative imports: what the Hub loads where
lightning_seg is absent.

transformers copies the files that a file names in ``from .name import``, one folder deep; so every
module of lightning_seg that is imported becomes a file beside the others, and nothing in them says
``lightning_seg``.
"""

import ast
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path

from lightning_seg import __version__

PACKAGE = "lightning_seg"
HEADER = f"# Part of {PACKAGE} {__version__}. SPDX-License-Identifier: Apache-2.0\n"
# Functions that only training needs, and what stands in their place.
REPLACED = {
    "load_weights": "",  # finds, downloads and hashes what an encoder starts from
    "typed": (
        "def typed(owner: str, cls: type, options: dict[str, Any], skip: set[str] | None = None) "
        "-> dict[str, Any]:\n"
        '    """``options`` as they are: they were checked before the network was trained."""\n'
        "    return options\n"
    ),
}


def flat_sources(modules: Iterable[str]) -> dict[str, str]:
    """File name -> text of ``modules`` (``lightning_seg.models.unet``) and of every module of the
    project they import."""
    found: dict[str, str] = {}
    homes: dict[str, str] = {}
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        name = f"{module.rpartition('.')[2]}.py"
        if homes.setdefault(name, module) != module:
            raise ValueError(
                f"{homes[name]} and {module} would both be {name}; give one of them another name"
            )
        if name not in found:
            text = _without_training(_source(module))
            found[name] = HEADER + _relative(text)
            waiting += [node.module or "" for node in _imports(text)]
    return dict(sorted(found.items()))


def _source(module: str) -> str:
    spec = find_spec(module)
    if spec is None or spec.origin is None or spec.submodule_search_locations is not None:
        raise ValueError(
            f"{module} is not a module of one file; import from the file that holds what is needed"
        )
    return Path(spec.origin).read_text(encoding="utf-8")


def _without_training(text: str) -> str:
    """``text`` without the functions of `REPLACED`."""
    lines = text.splitlines(keepends=True)
    functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)]
    for node in sorted(functions, key=lambda node: node.lineno, reverse=True):
        if node.name in REPLACED:
            first = min([node.lineno, *(each.lineno for each in node.decorator_list)]) - 1
            lines[first : node.end_lineno] = [REPLACED[node.name]]
    return "".join(lines)


def _imports(text: str) -> Iterator[ast.ImportFrom]:
    """The statements that import from the project."""
    for node in ast.walk(ast.parse(text)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if any(name.partition(".")[0] == PACKAGE for name in names):
            raise ValueError(
                f"`import {names[0]}` cannot be made relative; write `from {names[0]} import ...`"
            )
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == PACKAGE:
            yield node


def _relative(text: str) -> str:
    """``text`` with ``from lightning_seg.models.frame.skip import`` as ``from ._skip import``."""
    lines = text.splitlines(keepends=True)
    for node in _imports(text):
        module = node.module or ""
        here = f"from .{module.rpartition('.')[2]} import"
        lines[node.lineno - 1] = lines[node.lineno - 1].replace(f"from {module} import", here, 1)
    return "".join(lines)
