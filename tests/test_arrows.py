"""Who may import whom: the arrows that keep the packages apart, and one home for each third-party library."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# The rooms from the bottom up; each may import those before it. Where it needs fewer, they are named in `NARROWER`.
ROOMS = [
    "errors",
    "plugins",
    "files",
    "options",
    "tables",
    "plots",
    "models",
    "data",
    "evaluation",
    "runs",
    "training",
    "inference",
    "analysis",
    "reports",
    "callbacks",
    "export",
    "serve",
    "cli",
    "__main__",
]
NARROWER = {
    "plots": set(),
    "models": {"errors", "plugins", "tables"},
    "data": {"errors", "plugins", "files", "options", "tables", "plots"},
    "evaluation": {"errors", "files", "options", "tables", "data"},
}
HOMES = {
    "timm": {"lightning_seg/models"},
    "albumentations": {"lightning_seg/data/augment/pipeline.py"},
    "optuna": {"hpo"},
}


def imports(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def files(package):
    path = ROOT / Path(*package.split("."))
    return sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_what_lies_below_it(room):
    below = NARROWER.get(room, set(ROOMS[: ROOMS.index(room)]))
    for path in files(f"lightning_seg.{room}"):
        for name in imports(path):
            part = name.split(".")[1] if name.startswith("lightning_seg.") else "__version__"
            if part not in ("__version__", room):
                assert part in below, f"{path.relative_to(ROOT)} imports {name}"


def test_every_room_is_listed():
    found = {
        path.stem
        for path in (ROOT / "lightning_seg").iterdir()
        if path.suffix == ".py" or path.is_dir()
    }
    assert found - {"__init__", "__pycache__"} == set(ROOMS)


@pytest.mark.parametrize("library", sorted(HOMES))
def test_each_library_with_quirks_has_one_home(library):
    for folder in ("lightning_seg", "experiments", "hpo"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            where = path.relative_to(ROOT).as_posix()
            if any(where.startswith(home) for home in HOMES[library]):
                continue
            assert not any(name.split(".")[0] == library for name in imports(path)), (
                f"{where} imports {library}"
            )


def test_there_is_no_package_of_leftovers():
    names = {
        path.stem
        for folder in ("lightning_seg", "experiments", "hpo")
        for path in (ROOT / folder).rglob("*")
    }
    assert not names & {"utils", "util", "helpers", "misc", "common"}
