"""Patients that a table may divide unseen: groups written in two ways, in part, or in a column that
nobody uses."""

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lightning_seg.data.sources.base.table_doubts import plain_text, table_doubts
from lightning_seg.data.sources.folder import Folder

COMPOSED = "Andr\u00e9"


def doubts_of(columns: list[str], *rows: tuple[str, ...]) -> str:
    lines = [dict(zip(columns, row, strict=True)) for row in rows]
    return " | ".join(table_doubts("t.csv", columns, lines))


@pytest.mark.parametrize("written", [" P1", "P1\t", "P1 ", "\u00a0P1"])
def test_white_space_makes_no_other_patient(written: str) -> None:
    assert plain_text(written) == "P1"


def test_letters_are_the_same_composed_or_not() -> None:
    assert plain_text(unicodedata.normalize("NFD", COMPOSED)) == COMPOSED


@pytest.mark.parametrize(
    "pair", [("P1", "p1"), ("1", "01"), ("1", "1.0"), ("P-01", "p 1"), ("a_7", "A7")]
)
def test_groups_that_hands_may_have_written_in_two_ways_are_named(pair: tuple[str, str]) -> None:
    told = doubts_of(["group"], *((group,) for group in (*pair, "other")))
    assert "taken for different patients" in told
    assert all(repr(group) in told for group in pair)


@pytest.mark.parametrize(
    "groups", [("P1", "P2", "P1"), ("1", "10", "100"), ("1-1", "11"), ("a1", "1a"), ("-", "--")]
)
def test_groups_that_differ_are_not_named(groups: tuple[str, ...]) -> None:
    assert not doubts_of(["group"], *((group,) for group in groups))


def test_rows_without_a_group_beside_others_are_counted() -> None:
    assert "no group in 2 of 3 rows" in doubts_of(["group"], ("P1",), ("",), (" ",))
    assert not doubts_of(["group"], ("",), ("",))


@pytest.mark.parametrize("column", ["patient", "Patient_ID", "case_number", "video"])
def test_a_column_of_patients_that_is_not_used_is_named(column: str) -> None:
    rows = ("a", "a", "b")
    assert repr(column) in doubts_of([column], *((row,) for row in rows))
    grouped = [("x", row) for row in rows]
    assert not doubts_of(["group", column], *grouped)
    assert not doubts_of([column], ("a",), ("b",), ("c",))  # one each: nothing to divide


@pytest.mark.parametrize("values", [("train", "val"), ("Training", "testing"), ("train", "")])
def test_a_column_of_splits_that_is_not_used_is_named(values: tuple[str, ...]) -> None:
    assert "'set'" in doubts_of(["set"], *((value,) for value in values))
    assert not doubts_of(["split", "set"], *(("train", value) for value in values))


def test_a_data_set_groups_by_what_is_seen_and_tells_its_doubts(tmp_path: Path) -> None:
    lines = ["id,image,mask,group"]
    groups = ["P1", "P1 ", unicodedata.normalize("NFD", COMPOSED), COMPOSED, "p1"]
    for place, group in enumerate(groups):
        Image.fromarray(np.full((8, 8, 3), place, np.uint8)).save(tmp_path / f"i{place}.png")
        Image.fromarray(np.eye(8, dtype=np.uint8) * 255).save(tmp_path / f"m{place}.png")
        lines.append(f"a{place},i{place}.png,m{place}.png,{group}")
    (tmp_path / "t.csv").write_text("\n".join(lines), encoding="utf-8")
    source = Folder(tmp_path / "t.csv")
    assert source.groups["a0"] == source.groups["a1"] != source.groups["a4"]
    assert source.groups["a2"] == source.groups["a3"]
    assert "'P1' and 'p1'" in source.doubts[0]
