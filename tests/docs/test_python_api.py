"""The page of the Python API names all that is public."""

import inspect
from pathlib import Path

import pytest

import lightning_seg as ls

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "python-api.md").read_text("utf-8")


@pytest.mark.parametrize("name", [name for name in ls.__all__ if not name.startswith("_")])
def test_every_public_name_stands_there_and_has_a_docstring(name):
    assert f":: lightning_seg.{name}\n" in PAGE
    assert inspect.getdoc(getattr(ls, name))


def test_members_that_are_named_are_there_with_a_docstring():
    owner = None
    for line in PAGE.splitlines():
        if "autoclass::" in line:
            owner = getattr(ls, line.rpartition(".")[2])
        members = line.partition(":members:")[2].split(",")
        for member in filter(None, map(str.strip, members)):
            assert inspect.getdoc(getattr(owner, member)), member
