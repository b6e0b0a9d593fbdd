"""`compare` of score tables that lie without their summaries."""

from pathlib import Path

import numpy as np
import pytest

from lightning_seg.errors import InputError
from lightning_seg.evaluation import ScoreTable
from lightning_seg.reports.comparison import main as compare

RECORDED = Path(__file__).parent.parent.parent / "experiments" / "results" / "scores"


def write_table(folder, pixels):
    tp = np.arange(8)
    counts = np.stack([tp, tp % 3, tp % 2, pixels - tp - tp % 3 - tp % 2], -1)[:, None]
    ScoreTable(tuple("abcdefgh"), ("polyp",), counts).write(folder / "scores.csv")


@pytest.fixture
def tables(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, pixels in (("one", 1024), ("two", 1024), ("large", 4096)):
        (tmp_path / name).mkdir()
        write_table(tmp_path / name, pixels)


def test_what_is_not_known_of_them_is_said(tables, capsys):
    compare(["one", "two", "--resamples", "100"])
    said = " ".join(capsys.readouterr().out.split())
    assert "one lies without a summary.json" in said
    assert "two lies without a summary.json" in said


def test_tables_of_other_numbers_of_pixels_are_refused(tables):
    with pytest.raises(InputError, match="they count 4096 and 1024 pixels of a"):
        compare(["one", "large"])
    with pytest.raises(InputError, match="they count 4096 and 1024 pixels of a"):
        compare(["x=one,large", "two"])


def test_recorded_tables_say_what_they_are_of(capsys):
    small, large = (
        sorted(RECORDED.glob(f"kvasir-unet-a-f1*-{size}-*/*.csv")) for size in (96, 128)
    )
    compare([f"a={large[0]}", f"b={large[1]}", "--score", "dice", "--resamples", "100"])
    said = " ".join(capsys.readouterr().out.split())
    assert "this protocol LEAKS" in said
    assert "protocol kvasir-unet-a, size 128" in said
    with pytest.raises(InputError, match="differ in scored_size"):
        compare([f"a={small[0]}", f"b={large[0]}"])
