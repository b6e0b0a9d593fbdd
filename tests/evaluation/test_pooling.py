"""The pooled scores of a cross-validation, against plain numpy."""

import dataclasses

import numpy as np
import pytest
import torch

from lightning_seg.errors import InputError
from lightning_seg.evaluation import ScoreTable, Summary
from lightning_seg.evaluation.findings import find_scores_of_table
from lightning_seg.evaluation.pooling import pool_summaries, pool_tables, pooled_digest
from lightning_seg.evaluation.volumes import (
    VolumeRow,
    read_volume_rows,
    summarize_volumes,
    write_volume_rows,
)
from lightning_seg.models.frame.normalization import class_probabilities, mean_logits


def fold_table(prefix, images, seed, **more):
    generator = np.random.default_rng(seed)
    tp, fp, fn = generator.integers(5, 200, (3, images))
    counts = np.stack([tp, fp, fn, 1000 - tp - fp - fn], -1)[:, None]
    ids = tuple(f"{prefix}{place}" for place in range(images))
    groups = tuple(f"{prefix}p{place // 2}" for place in range(images))
    return ScoreTable(ids, ("polyp",), counts, groups, **more)


def summary_of(table, place, **more):
    facts = {"dataset": "d", "split": "test", "size": 64, "scored_at": "network size"}
    facts |= {"protocol": f"fold-{place}-of-3", "protocol_digest": f"{place}", "looks": place}
    return Summary(**facts, **find_scores_of_table(table), **more)


TABLES = [fold_table(name, 6 + 2 * place, place) for place, name in enumerate("cab")]
SUMMARIES = [summary_of(table, place + 1) for place, table in enumerate(TABLES)]


def dice(table):
    tp, fp, fn, _ = table.counts[:, 0].T
    return 2 * tp / (2 * tp + fp + fn)


def test_the_pooled_table_holds_each_image_as_its_own_fold_scored_it():
    whole = pool_tables(TABLES)
    assert whole.ids == tuple(sorted(id for table in TABLES for id in table.ids))
    for table in TABLES:
        rows = np.array([whole.ids.index(id) for id in table.ids])
        assert np.array_equal(whole.counts[rows], table.counts)
        assert tuple(whole.groups[row] for row in rows) == table.groups


def test_scores_are_over_all_images_and_mean_and_deviation_over_folds():
    found = pool_summaries(SUMMARIES, TABLES, "3-fold", 3)
    every = np.concatenate([dice(table) for table in TABLES])
    assert found.scores["polyp"]["dice"]["image"].value == pytest.approx(every.mean())
    totals = np.concatenate([table.counts[:, 0] for table in TABLES]).sum(0)
    pooled = 2 * totals[0] / (2 * totals[0] + totals[1] + totals[2])
    assert found.scores["polyp"]["dice"]["pooled"].value == pytest.approx(pooled)
    means = [dice(table).mean() for table in TABLES]
    assert found.folds.mean("polyp", "dice", "image") == pytest.approx(np.mean(means))
    assert found.folds.spread("polyp", "dice", "image") == pytest.approx(np.std(means, ddof=1))
    assert (found.images, found.groups, found.looks) == (24, 12, 3)
    assert not found.partial


def test_the_interval_is_that_of_a_bootstrap_over_groups():
    found = pool_summaries(SUMMARIES, TABLES, "3-fold", 3)
    values = np.concatenate([dice(table) for table in TABLES]).reshape(-1, 2)
    draw = np.random.default_rng(5).integers(len(values), size=(4000, len(values)))
    ends = np.quantile(values[draw].mean((1, 2)), [0.025, 0.975])
    assert found.scores["polyp"]["dice"]["image"].interval == pytest.approx(tuple(ends), abs=0.02)


def test_a_part_of_the_folds_is_partial_and_another_division():
    found = pool_summaries(SUMMARIES[:2], TABLES[:2], "3-fold", 3)
    assert "2 of 3 folds" in found.partial
    assert any(text.startswith("PARTIAL") for text in found.cautions())
    assert found.protocol_digest != pool_summaries(SUMMARIES, TABLES, "3-fold", 3).protocol_digest
    assert pooled_digest(["1", "2", "3"]) != pooled_digest(["1", "3", "2"])


def test_what_any_fold_has_to_say_stands_above_the_whole():
    said = {"changed": "seed was 1 and is 2 now", "other_images": "3 of 5 are not there"}
    odd = dataclasses.replace(SUMMARIES[1], **said, read_otherwise="at 127")
    found = pool_summaries([SUMMARIES[0], odd, SUMMARIES[2]], TABLES, "3-fold", 3)
    told = " ".join(found.cautions())
    assert all(words in told for words in (*said.values(), "at 127"))


def test_folds_survive_the_file_of_a_summary(tmp_path):
    found = pool_summaries(SUMMARIES, TABLES, "3-fold", 3, untested=2)
    found.write(tmp_path)
    assert Summary.read(tmp_path).folds == found.folds
    assert any("tested in no fold" in text for text in found.cautions())


def test_folds_of_unlike_uses_or_with_shared_images_are_refused():
    other = summary_of(TABLES[1], 2, threshold=0.3)
    with pytest.raises(InputError, match=r"threshold: 0\.5 and 0\.3"):
        pool_summaries([SUMMARIES[0], other], TABLES[:2], "3-fold", 3)
    with pytest.raises(InputError, match="'c0' is tested in two folds"):
        pool_tables([TABLES[0], TABLES[0]])


def test_thresholds_that_each_fold_chose_are_pooled_and_named(tmp_path):
    chosen = {"threshold_from": "chosen on the validation split"}
    some = [
        dataclasses.replace(each, threshold=cut, **chosen)
        for each, cut in zip(SUMMARIES, (0.25, 0.5, 0.75), strict=True)
    ]
    found = pool_summaries(some, TABLES, "3-fold", 3)
    assert found.threshold_text == (
        "0.5 (the mean over folds, each chosen on the validation split: 0.25, 0.5, 0.75)"
    )
    others = [dataclasses.replace(each, threshold=0.3) for each in some]
    assert pool_summaries(others, TABLES, "3-fold", 3).use() == found.use()
    assert found.use() != SUMMARIES[0].use()
    with pytest.raises(InputError, match=r"threshold: 0\.5 and chosen on the validation split"):
        pool_summaries([SUMMARIES[0], *some[1:]], TABLES, "3-fold", 3)


def test_whole_scans_are_pooled_scan_by_scan_and_survive_their_file(tmp_path):
    rows = [
        VolumeRow(f"s{k}", "polyp", 0.1 * k, 0.05 * k, float("nan"), 0.5, 2.0, 1.5, k, 1, 2)
        for k in range(6)
    ]
    write_volume_rows(rows, tmp_path)
    again = read_volume_rows(tmp_path)
    assert [row[:4] + row[5:] for row in again] == [row[:4] + row[5:] for row in rows]
    parts = [
        dataclasses.replace(each, volumes=summarize_volumes(rows[2 * k : 2 * k + 2], [f"x{k}"]))
        for k, each in enumerate(SUMMARIES)
    ]
    found = pool_summaries(parts, TABLES, "3-fold", 3, scans=rows).volumes
    assert (found.scans, found.incomplete) == (6, ["x0", "x1", "x2"])
    assert found.scores["polyp"]["dice"].value == pytest.approx(0.25)
    lacking = [parts[0], SUMMARIES[1], parts[2]]
    assert pool_summaries(lacking, TABLES, "3-fold", 3, scans=rows).volumes is None
    with pytest.raises(InputError, match=r"volumes\.csv cannot be read"):
        read_volume_rows(tmp_path / "absent")


def test_measures_that_a_fold_lacks_are_left_out_and_columns_are_empty():
    measured = fold_table("x", 4, 1, measures={"hd95": np.ones((4, 1))})
    centre = fold_table("y", 4, 2, columns={"centre": np.array(list("ABAB"))})
    whole = pool_tables([measured, centre])
    assert not whole.measures
    assert whole.columns["centre"].tolist() == ["", "", "", "", "A", "B", "A", "B"]


@pytest.mark.parametrize("exclusive", [False, True])
def test_mean_logits_are_those_of_the_mean_probability(exclusive):
    several = [torch.randn(2, 3, 4, 4) * 6 for _ in range(5)]
    mean = torch.stack([class_probabilities(one, exclusive) for one in several]).mean(0)
    found = class_probabilities(mean_logits(several, exclusive), exclusive)
    assert torch.allclose(found, mean, atol=1e-6)
    assert mean_logits([torch.full((1, 2, 1, 1), 90.0)] * 2, exclusive).isfinite().all()
