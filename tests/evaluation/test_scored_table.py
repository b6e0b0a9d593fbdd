"""A score table and its summary that do not say the same are shown by nothing."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lightning_seg.errors import InputError
from lightning_seg.evaluation import ScoreTable, Summary
from lightning_seg.evaluation.scored_table import check_summary, table_digest
from tests.made_runs import make_run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The scores of a run, as `test` leaves them."""
    found = next(make_run(tmp_path / "a", 0.8).glob("test-*/*"))
    _change_summary(
        found, lambda facts: facts.update(table_digest=table_digest(found / "scores.csv"))
    )
    return found


def _change_summary(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    file = folder / "summary.json"
    facts = json.loads(file.read_text())
    change(facts)
    file.write_text(json.dumps(facts))


def _change_count(folder: Path) -> None:
    file = folder / "scores.csv"
    lines = file.read_text().splitlines()
    cells, place = lines[1].split(","), lines[0].split(",").index("tp")
    cells[place] = str(int(cells[place]) + 40)
    lines[1] = ",".join(cells)
    file.write_text("\n".join(lines))


def test_what_was_written_together_agrees(folder: Path) -> None:
    check_summary(Summary.read(folder), folder)
    _change_summary(folder, lambda facts: facts.pop("table_digest"))  # an older version
    check_summary(Summary.read(folder), folder)


@pytest.mark.parametrize("digest", [True, False])
def test_a_changed_table_is_refused(folder: Path, digest: bool) -> None:
    if not digest:
        _change_summary(folder, lambda facts: facts.pop("table_digest"))
    _change_count(folder)
    with pytest.raises(InputError, match=r"scores\.csv and the summary\.json .* not say the same"):
        check_summary(Summary.read(folder), folder)


def test_a_changed_score_and_a_changed_number_of_images_are_refused(folder: Path) -> None:
    def better(facts: dict[str, Any]) -> None:
        facts["scores"]["polyp"]["dice"]["image"]["value"] += 0.01

    _change_summary(folder, better)
    with pytest.raises(InputError, match=r"dice \(image\) of polyp is 0\.\d+ against 0\.\d+"):
        check_summary(Summary.read(folder), folder)
    _change_summary(folder, lambda facts: facts.update(images=61))
    with pytest.raises(InputError, match="60 images against 61"):
        check_summary(Summary.read(folder), folder)


def test_a_parquet_file_of_another_test_is_refused(folder: Path, tmp_path: Path) -> None:
    """It is what comparisons read."""
    other = next(make_run(tmp_path / "b", 0.6).glob("test-*/*"))
    table = ScoreTable.read(folder / "scores.csv")
    table.write(folder / "scores.csv")
    check_summary(Summary.read(folder), folder)
    ScoreTable.read(other / "scores.csv").write(other / "scores.csv")
    shutil.copy(other / "scores.parquet", folder / "scores.parquet")
    with pytest.raises(InputError, match="holds other rows than"):
        check_summary(Summary.read(folder), folder)
