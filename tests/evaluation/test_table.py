"""The score table: rows once each, files whole, old files readable."""

import numpy as np
import pytest

from lightning_seg.errors import InputError
from lightning_seg.evaluation import ScoreTable


def full():
    generator = np.random.default_rng(0)
    return ScoreTable(
        ("ä b", "c,d", "e"),
        ("liver", "tumor"),
        generator.integers(0, 10**9, (3, 2, 4)),
        ("scan 1", "scan 1", "scan 2"),
        {"hd95": generator.random((3, 2)) * 100, "nsd": generator.random((3, 2))},
        generator.integers(0, 100, (3, 2, 4)),
        generator.integers(0, 5, (3, 2)),
        generator.random((3, 2, 16, 3)),
    )


def assert_same(a, b, but=()):
    assert (a.ids, a.classes, a.groups, a.measures.keys()) == (
        b.ids,
        b.classes,
        b.groups,
        b.measures.keys(),
    )
    for name in {"counts", "fov_counts", "components", "calibration"} - set(but):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), name)
    for name, values in a.measures.items():
        np.testing.assert_array_equal(values, b.measures[name], name)


def test_an_image_that_a_distributed_sampler_repeats_counts_once():
    counts = np.arange(16).reshape(4, 1, 4)
    table = ScoreTable.collect([1, 0, 1, 2], counts, ["a", "b", "c"], ["polyp"])
    assert table.ids == ("a", "b", "c")
    np.testing.assert_array_equal(table.counts[:, 0], counts[[1, 0, 3], 0])


def test_the_table_survives_its_files_exactly(tmp_path):
    full().write(tmp_path / "deep" / "scores.csv")
    assert {path.name for path in (tmp_path / "deep").iterdir()} == {"scores.csv", "scores.parquet"}
    assert_same(full(), ScoreTable.read(tmp_path / "deep" / "scores.parquet"))
    assert_same(full(), ScoreTable.read(tmp_path / "deep" / "scores.csv"), but=["calibration"])


def test_a_table_without_measures_and_one_of_before_there_were_groups_are_read(tmp_path):
    counts = np.arange(16).reshape(2, 2, 4)
    ScoreTable(("a", "b"), ("liver", "tumor"), counts).write(tmp_path / "scores.csv")
    text = "id,class,tp,fp,fn,tn\na,liver,0,1,2,3\na,tumor,4,5,6,7\nb,liver,8,9,10,11\nb,tumor,12,13,14,15\n"
    (tmp_path / "old.csv").write_text(text)
    for name in ("scores.csv", "scores.parquet", "old.csv"):
        table = ScoreTable.read(tmp_path / name)
        np.testing.assert_array_equal(table.counts, counts)
        assert table.groups == table.ids == ("a", "b")
        assert not table.grouped
        assert table.fov_counts is table.components is None


def test_parts_of_a_table_keep_what_belongs_together():
    part = full().at(np.array([2, 0]))
    assert (part.ids, part.groups) == (("e", "ä b"), ("scan 2", "scan 1"))
    for name in ("counts", "fov_counts", "components", "calibration"):
        np.testing.assert_array_equal(getattr(part, name), getattr(full(), name)[[2, 0]])
    np.testing.assert_array_equal(part.measures["nsd"], full().measures["nsd"][[2, 0]])
    np.testing.assert_array_equal(part.areas, part.counts[..., 0] + part.counts[..., 2])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no column 'id'"),
        ("name,dice\na,1\n", "no column 'id'"),
        (
            "id,class,tp,fp,fn,tn\na,x,1,2,3,4\na,y,1,2,3,4\nb,x,1,2,3,4\n",
            "3 rows for 2 images and 2 classes",
        ),
        ("id,class,tp,fp,fn,tn\na,x,1,2,3\n", "damaged"),
        ("id,class,tp,fp,fn,tn\na,x,1,2,3,many\n", "damaged"),
        ("id,class,tp,fp,fn,tn\n", "damaged"),
        ("id,class,tp,fp,fn,tn,tp\na,x,1,2,3,4,5\n", "two columns have one name"),
    ],
)
def test_a_file_that_is_no_whole_table_is_one_sentence(tmp_path, text, words):
    (tmp_path / "scores.csv").write_text(text)
    with pytest.raises(InputError, match=words):
        ScoreTable.read(tmp_path / "scores.csv")


def test_a_missing_or_broken_parquet_file_is_one_sentence(tmp_path):
    with pytest.raises(InputError, match="there is no score table"):
        ScoreTable.read(tmp_path / "scores.parquet")
    (tmp_path / "scores.parquet").write_bytes(b"PAR1 half of it")
    with pytest.raises(InputError, match="no Parquet file"):
        ScoreTable.read(tmp_path / "scores.parquet")


def test_a_write_that_fails_leaves_the_file_of_before(tmp_path, monkeypatch):
    import pyarrow.parquet

    full().write(tmp_path / "scores.csv")
    monkeypatch.setattr(
        pyarrow.parquet, "write_table", lambda *_: (_ for _ in ()).throw(OSError("disk full"))
    )
    with pytest.raises(OSError, match="disk full"):
        full().at(np.array([0])).write(tmp_path / "scores.csv")
    assert_same(full(), ScoreTable.read(tmp_path / "scores.parquet"))
    assert not list(tmp_path.glob("*.part"))
