"""The difference of two sets of images that share none, against plain numpy."""

import json

import numpy as np
import pytest

from lightning_seg.errors import InputError
from lightning_seg.evaluation import ScoreTable
from lightning_seg.evaluation.compare import compare_data_sets
from lightning_seg.reports.comparison import main


def scored(images, errors, prefix, seed):
    """Images of patients with two each; ``errors`` is the most false pixels of an image."""
    generator = np.random.default_rng(seed)
    tp = generator.integers(100, 200, images)
    fp, fn = generator.integers(1, errors, (2, images))
    counts = np.stack([tp, fp, fn, 1000 - tp - fp - fn], -1)[:, None]
    ids = tuple(f"{prefix}{place}" for place in range(images))
    return ScoreTable(ids, ("polyp",), counts, tuple(f"{prefix}p{n // 2}" for n in range(images)))


def drawn_means(table, seed, resamples=4000):
    tp, fp, fn, _ = table.counts[:, 0].T
    pairs = (2 * tp / (2 * tp + fp + fn)).reshape(-1, 2)
    draw = np.random.default_rng(seed).integers(len(pairs), size=(resamples, len(pairs)))
    return pairs.mean(), pairs[draw].mean((1, 2))


def test_the_unpaired_interval_is_that_of_two_bootstraps_over_groups():
    inside, outside = scored(60, 40, "a", 1), scored(40, 150, "b", 2)
    found = compare_data_sets([inside], [outside], "polyp")
    (one, first), (other, second) = drawn_means(inside, 11), drawn_means(outside, 12)
    assert found.difference == pytest.approx(one - other)
    assert (found.low, found.high) == pytest.approx(
        tuple(np.quantile(first - second, [0.025, 0.975])), abs=0.008
    )
    assert found.groups == (30, 20)


@pytest.fixture
def folders(tmp_path):
    for name, images, dataset in (("in", 60, "d"), ("out", 40, "e"), ("few", 8, "f")):
        folder = tmp_path / name
        table = scored(images, 40 if name == "in" else 150, name, images)
        table.write(folder / "scores.csv")
        facts = {"images": images, "dataset": dataset, "protocol": "p", "split": "test"}
        (folder / "summary.json").write_text(json.dumps(facts | {"size": 64}))
    return tmp_path


def test_compare_names_an_unpaired_difference_so(folders, capsys):
    main([str(folders / "in"), str(folders / "out"), "--unpaired", "--score", "dice"])
    printed = capsys.readouterr().out
    assert "UNPAIRED" in printed
    assert "in (d) against out (e)" in printed
    assert "they differ" in printed
    main([str(folders / "in"), str(folders / "few"), "--unpaired", "--score", "dice"])
    assert "too few images" in capsys.readouterr().out


def test_compare_refuses_what_is_paired_and_names_the_option_for_what_is_not(folders):
    one, other = str(folders / "in"), str(folders / "out")
    with pytest.raises(InputError, match="--unpaired"):
        main([one, other])
    with pytest.raises(InputError, match="not independent"):
        main([one, f"b={one}", "--unpaired"])
    with pytest.raises(InputError, match="give two"):
        main([one, other, str(folders / "few"), "--unpaired"])


def test_own_data_are_called_by_their_folder_or_table(folders, capsys):
    for name, root in (("in", "/data/clinic"), ("out", "/data/other.v2.csv")):
        file = folders / name / "summary.json"
        facts = json.loads(file.read_text()) | {"dataset": "folder", "data": {"root": root}}
        file.write_text(json.dumps(facts))
    main([str(folders / "in"), str(folders / "out"), "--unpaired", "--score", "dice"])
    assert "in (clinic (folder)) against out (other.v2 (folder))" in capsys.readouterr().out
