"""The page of networks is current, and names a test for all that it says."""

import sys
from pathlib import Path

import pytest

from lightning_seg import models

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
import networks_page


def test_every_network_stands_on_the_page_with_tests_that_exist() -> None:
    assert list(networks_page.PROOFS) == models.names()
    for proof in networks_page.PROOFS.values():
        for test in proof.tests:
            file, name = test.split("::")
            source = (networks_page.TESTS / file).read_text(encoding="utf-8")
            assert f"def {name}(" in source, test


def test_recipes_and_results_on_the_page_are_those_of_today() -> None:
    page = networks_page.PAGE.read_text(encoding="utf-8")
    recipes, results = networks_page.architecture_recipes(), networks_page.own_results()
    for name in models.names():
        line = next(row for row in page.splitlines() if row.startswith(f"| `{name}`"))
        ending = f"| {'<br>'.join(recipes[name]) or '-'} | {results.get(name, '-')} |"
        assert line.endswith(ending), "run python tools/networks_page.py"


@pytest.mark.slow
def test_the_page_is_current() -> None:
    page = networks_page.PAGE.read_text(encoding="utf-8")
    assert page == networks_page.page_text(), "run python tools/networks_page.py"
