"""`compare` of score tables that lie without their summaries."""

from pathlib import Path

import numpy as np
import pytest

from lightning_seg.errors import InputError
from lightning_seg.evaluation import ScoreTable
from lightning_seg.evaluation.contradictions import check_columns
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


@pytest.mark.parametrize(
    "file", sorted(RECORDED.glob("drive-*/*.csv"))[:1] + sorted(RECORDED.glob("kvasir-*/*.csv"))[:2]
)
def test_a_table_whose_headings_are_exchanged_is_refused(file, tmp_path):
    check_columns(ScoreTable.read(file), file)
    header, *rows = file.read_text().splitlines()
    names = {"tp": "fn", "fn": "tp"}
    header = ",".join(names.get(name, name) for name in header.split(","))
    (tmp_path / "exchanged.csv").write_text("\n".join([header, *rows]))
    for other in (file, tmp_path / "exchanged.csv"):
        with pytest.raises(InputError, match=r"exchanged.csv contradicts itself"):
            compare([f"one={other}", f"two={tmp_path / 'exchanged.csv'}"])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"dice": [0.5, 0.25]}, "dice is not that of tp, fp, fn and tn"),
        ({"cldice": [1.0, 0.5]}, "cldice finds an overlap and tp none"),
        ({"components": [1, 1]}, "components and tp"),
        ({"calibration": [[16, 5, 8], [16, 0, 1]]}, "is not the foreground of calibration"),
    ],
)
def test_measures_that_cannot_be_of_the_counts_are_told(change, told):
    counts = np.array([[[4, 2, 0, 10]], [[0, 1, 0, 15]]])
    [(name, values)] = change.items()
    right = {"dice": [0.8, 0], "cldice": [1.0, 0], "components": [1, 0]}
    right["calibration"] = [[[16, 4, 8]], [[16, 0, 1]]]

    def table(values):
        part = np.array(values).reshape(2, 1, *([1, 3] if name == "calibration" else []))
        parts = (
            {name: part} if name in ("components", "calibration") else {"measures": {name: part}}
        )
        return ScoreTable(("a", "b"), ("polyp",), counts, **parts)

    check_columns(table(right[name]), Path("scores.csv"))
    with pytest.raises(InputError, match=f"scores.csv contradicts itself: .*{told}"):
        check_columns(table(values), Path("scores.csv"))
