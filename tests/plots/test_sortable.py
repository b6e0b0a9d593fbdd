"""The script that sorts tables, in a real browser."""

import sys
from pathlib import Path

import pytest

from lightning_seg.plots import PAGE_STYLE, SORT_SCRIPT

sys.path.insert(0, str(Path(__file__).parents[1] / "serve"))

import browser

pytestmark = pytest.mark.skipif(browser.BINARY is None, reason="needs Chromium")

PAGE = """<!doctype html><html><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width"><style>{style}</style></head><body>
<div class="scroll"><table class="sortable">
<thead><tr><th>image</th><th aria-sort="ascending">dice</th><th data-down>hd95</th></tr></thead>
<tbody>
<tr><td>b</td><td data-sort="0.9">0.90</td><td>10.5</td></tr>
<tr><td>a</td><td data-sort="0.05">0.05</td><td>9.0</td></tr>
<tr><td>c</td><td>-</td><td>-</td></tr>
</tbody></table></div><script>{script}</script></body></html>"""
ORDER = "[...document.querySelectorAll('tbody tr')].map(row => row.cells[0].textContent).join('')"


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser")
    (folder / "page.html").write_text(PAGE.format(style=PAGE_STYLE, script=SORT_SCRIPT))
    opened = browser.Browser(folder)
    opened.open((folder / "page.html").as_uri())
    yield opened
    opened.close()


def click(tab, place):
    tab.run(f"document.querySelectorAll('th button')[{place}].click()")
    heads = "[...document.querySelectorAll('th')].map(head => head.getAttribute('aria-sort'))"
    return tab.run(ORDER), tab.run(heads)[place]


def test_a_click_sorts_and_a_second_one_turns_the_order_round(tab):
    assert click(tab, 0) == ("abc", "ascending")
    assert click(tab, 0) == ("cba", "descending")


def test_numbers_sort_as_numbers_and_what_is_unknown_comes_last_in_both_orders(tab):
    assert click(tab, 2) == ("bac", "descending")  # the highest first: the worst
    assert click(tab, 2) == ("abc", "ascending")
    assert click(tab, 1) == ("abc", "ascending")
    assert click(tab, 1) == ("bac", "descending")
    assert not tab.complaints


def test_a_narrow_page_offers_a_list_in_place_of_headings(tab):
    shown = "getComputedStyle(document.querySelector('.sorter')).display"
    tab.resize(1280, 900)
    assert tab.run(shown) == "none"
    tab.resize(400, 900)
    assert tab.run(shown) == "block"
    choose = "const s = document.querySelector('select'); s.value = 0; s.onchange(); true"
    assert tab.run(choose)
    assert tab.run(ORDER) == "abc"
