"""Ranks of many models: the same integers as by comparing each with each, in memory that grows with their number."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lightning_seg.evaluation import ScoreTable, intervals, rank_intervals
from lightning_seg.evaluation.ranking import _ranks

NEAR = st.sampled_from([0.0, 0.1, 0.1 + 1e-13, 0.5, 0.5 + 1e-9, 0.9, -1.0])


@settings(max_examples=100, deadline=None)
@given(hnp.arrays(np.float64, st.tuples(st.integers(1, 7), st.integers(1, 4)), elements=NEAR))
def test_ranks_are_those_of_comparing_each_with_each(values):
    each = 1 + (values[None] > values[:, None] + 1e-12).sum(1)
    np.testing.assert_array_equal(_ranks(values), each)


def test_an_undefined_value_ranks_last():
    assert _ranks(np.array([[np.nan], [0.0], [0.5], [np.nan]]))[:, 0].tolist() == [3, 2, 1, 3]


def made(models, images):
    draw = np.random.default_rng(0)
    ids = tuple(map(str, range(images)))
    found = {}
    for place in range(models):
        tp = draw.integers(20, 90, images)
        counts = np.stack([tp, 90 - tp, 90 - tp, np.full(images, 900)], -1)[:, None]
        found[str(place)] = [ScoreTable(ids, ("x",), counts)]
    return found


def test_rank_intervals_are_the_quantiles_of_the_ranks_of_all_resamples():
    tables = made(12, 20)
    found = rank_intervals(tables, "x", resamples=2000)
    models = [intervals.statistic(each, "x", "dice") for each in tables.values()]
    drawn = np.stack([model.resampled(2000, 0) for model in models])
    ranks = 1 + (drawn[None] > drawn[:, None] + 1e-12).sum(1)
    bounds = np.quantile(ranks, [0.025, 0.975], axis=1, method="nearest").astype(int)
    for place, name in enumerate(tables):
        assert (found[name].rank_low, found[name].rank_high) == tuple(bounds[:, place])


def test_weights_are_the_same_drawn_at_once_or_in_parts(monkeypatch):
    whole = np.concatenate(list(intervals.draw_weights(13, 500, 3)))
    monkeypatch.setattr(intervals, "_KEPT", 100)
    monkeypatch.setattr(intervals, "_CHUNK", 130)
    parts = list(intervals.draw_weights(13, 500, 3))
    assert len(parts) == 50
    np.testing.assert_array_equal(np.concatenate(parts), whole)


@pytest.mark.slow
def test_a_thousand_models_are_ranked_in_less_than_a_gigabyte():
    tables = made(1000, 30)
    tracemalloc.start()
    found = rank_intervals(tables, "x")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(found) == 1000
    assert peak < 1e9
