"""Who may import whom: the arrows that keep the packages apart, and one home for each third-party library."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# package or module -> what of the project it may import besides itself
ALLOWED = {
    "lightning_seg.errors": set(),
    "lightning_seg.files": {"lightning_seg.errors"},
    "lightning_seg.blocks": {"lightning_seg.errors"},
    "lightning_seg.models": {"lightning_seg.errors", "lightning_seg.blocks"},
    "lightning_seg.losses": {"lightning_seg.errors"},
    "lightning_seg.metrics": {"lightning_seg.errors", "lightning_seg.evaluation"},
    "lightning_seg.data": {"lightning_seg.errors", "lightning_seg.files"},
    "lightning_seg.evaluation": {"lightning_seg.errors", "lightning_seg.files"},
    "lightning_seg.acceleration": {"lightning_seg.errors", "lightning_seg.environment"},
    "lightning_seg.averaging": {"lightning_seg.errors"},
    "lightning_seg.freezing": {"lightning_seg.errors"},
    "lightning_seg.recomputation": {"lightning_seg.errors"},
    "lightning_seg.normalization": {"lightning_seg.models"},
    "lightning_seg.training_options": {
        f"lightning_seg.{name}"
        for name in ("errors", "models", "acceleration", "averaging", "freezing", "optimization", "recomputation")
    },
    "lightning_seg.optimization": {"lightning_seg.errors"},
    "lightning_seg.scoring": {f"lightning_seg.{name}" for name in ("errors", "metrics", "evaluation")},
    "lightning_seg.environment": set(),
    "lightning_seg.run_record": {f"lightning_seg.{name}" for name in ("environment", "files", "inference")},
    "lightning_seg.module": {
        f"lightning_seg.{name}"
        for name in ("errors", "checkpoint", "losses", "models", "evaluation", "optimization", "scoring")
    }
    | {"lightning_seg.normalization", "lightning_seg.training_options"},
    "lightning_seg.inference": {
        f"lightning_seg.{name}" for name in ("errors", "files", "blocks", "checkpoint", "module", "data", "evaluation")
    },
    "lightning_seg.dashboard": {f"lightning_seg.{name}" for name in ("evaluation", "inference", "printing")},
    "lightning_seg.serve": {
        f"lightning_seg.{name}" for name in ("__version__", "errors", "checkpoint", "data", "evaluation", "inference")
    },
    "lightning_seg.export": {
        f"lightning_seg.{name}"
        for name in (
            *("__version__", "errors", "files", "checkpoint", "evaluation", "models", "module", "data", "inference"),
            *("printing", "run_report"),
        )
    },
    "lightning_seg.run_report": {
        f"lightning_seg.{name}"
        for name in (
            *("__version__", "errors", "files", "checkpoint", "environment", "evaluation", "printing"),
            *("blocks", "data", "module", "inference"),
        )
    },
}
HOMES = {
    "timm": {"lightning_seg/models"},
    "albumentations": {"lightning_seg/data/augment.py"},
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


@pytest.mark.parametrize("package", sorted(ALLOWED))
def test_a_package_imports_only_what_lies_below_it(package):
    for path in files(package):
        for name in imports(path):
            if not name.startswith("lightning_seg.") or name.startswith(package):
                continue
            part = ".".join(name.split(".")[:2])
            assert part in ALLOWED[package], f"{path.relative_to(ROOT)} imports {name}"


@pytest.mark.parametrize("library", sorted(HOMES))
def test_each_library_with_quirks_has_one_home(library):
    for folder in ("lightning_seg", "experiments", "hpo"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            where = path.relative_to(ROOT).as_posix()
            if any(where.startswith(home) for home in HOMES[library]):
                continue
            assert not any(name.split(".")[0] == library for name in imports(path)), f"{where} imports {library}"


def test_there_is_no_package_of_leftovers():
    names = {path.stem for folder in ("lightning_seg", "experiments", "hpo") for path in (ROOT / folder).rglob("*")}
    assert not names & {"utils", "util", "helpers", "misc", "common"}
