"""Scores by the values of a further column of the data set's table, against plain numpy."""

import numpy as np
import pytest

from lightning_seg.evaluation import ScoreTable
from lightning_seg.evaluation.estimates import estimate_strata
from lightning_seg.evaluation.strata import of_column, strata, unused_columns


def scored(images=60, per_group=2, **columns):
    generator = np.random.default_rng(7)
    tp, fp, fn = generator.integers(1, 200, (3, images))
    counts = np.stack([tp, fp, fn, 1000 - tp - fp - fn], -1)[:, None]
    ids = tuple(f"i{n:02d}" for n in range(images))
    groups = tuple(f"p{n // per_group}" for n in range(images))
    columns = {name: np.array(values, dtype=str) for name, values in columns.items()}
    return ScoreTable(ids, ("polyp",), counts, groups, columns=columns)


def by_hand(table, rows, resamples=4000):
    """The mean Dice of some rows and its percentile interval, by drawing whole groups."""
    tp, fp, fn, _ = table.counts[rows, 0].T
    dice, groups = 2 * tp / (2 * tp + fp + fn), np.array(table.groups)[rows]
    units = [dice[groups == group] for group in dict.fromkeys(groups)]
    draw = np.random.default_rng(1).integers(len(units), size=(resamples, len(units)))
    means = [np.concatenate([units[place] for place in one]).mean() for one in draw]
    return dice.mean(), np.quantile(means, [0.025, 0.975])


def test_each_value_of_a_column_has_its_mean_and_an_interval_over_groups():
    centre = ["A"] * 30 + ["B"] * 24 + [""] * 6
    table = scored(centre=centre)
    found = {part.name: part for part in estimate_strata(table)["polyp"] if part.column}
    assert list(found) == ["centre: A", "centre: B", "centre: missing"]
    for value, images, groups in (("A", 30, 15), ("B", 24, 12)):
        part = found[f"centre: {value}"]
        mean, (low, high) = by_hand(table, np.array(centre) == value)
        assert (part.images, part.groups, part.column) == (images, groups, "centre")
        assert part.value == pytest.approx(mean)
        assert part.interval == pytest.approx((low, high), abs=0.02)
    assert found["centre: missing"].groups == 3
    assert np.isnan(found["centre: missing"].interval).all()


def test_many_numbers_are_cut_into_thirds_and_few_stand_in_their_order():
    ages = np.arange(18, 78)
    low, middle, high = of_column("age", ages.astype(str))
    assert [part.rows.sum() for part in (low, middle, high)] == [20, 20, 20]
    assert ages[low.rows].max() < ages[middle.rows].min() < ages[high.rows].min()
    assert low.name.startswith("age: up to")
    assert high.name.startswith("age: over")
    grades = of_column("grade", np.array(["10", "2", "1"] * 4))
    assert [part.name for part in grades] == [
        "grade: 1",
        "grade: 2",
        "grade: 10",
    ]


def test_what_is_no_number_or_not_finite_is_a_text():
    values = np.array(["1", "2", "3", "4", "5", "6", "7", "inf"])
    assert [part.name for part in of_column("x", values)][:2] == ["x: 1", "x: 2"]
    missing = of_column("x", np.array(["1", "NA", "n/a", "nan", " ", "2"]))[-1]
    assert missing.name == "x: missing"
    assert missing.rows.sum() == 4


def test_a_column_of_names_or_of_one_value_makes_no_strata_and_is_said():
    table = scored(name=[f"n{n}" for n in range(60)], one=["a"] * 60, sex=["f", "m"] * 30)
    assert unused_columns(table) == ["name", "one"]
    assert {part.column for part in strata(table, "polyp")} == {"", "sex"}


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_columns_are_kept_by_files_and_by_parts_of_a_table(tmp_path, suffix):
    table = scored(4, centre=["A", "", "B, C", "007"], dice=["1", "2", "3", "4"])
    table.write(tmp_path / "scores.csv")
    again = ScoreTable.read(tmp_path / f"scores.{suffix}")
    assert {k: v.tolist() for k, v in again.columns.items()} == {
        "centre": ["A", "", "B, C", "007"],
        "dice": ["1", "2", "3", "4"],
    }
    assert not again.measures
    assert again.at(np.array([3, 0])).columns["centre"].tolist() == ["007", "A"]
