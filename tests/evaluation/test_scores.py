"""Scores against sklearn, torchmetrics and numpy loops; conventions, empty masks, intervals, the table."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn import metrics as sk
from torchmetrics.classification import BinaryF1Score, BinaryJaccardIndex, BinaryPrecision, BinaryRecall

from lightning_seg.evaluation import ScoreTable, interval, per_image, pooled, scores
from lightning_seg.metrics import SegmentationCounts

masks = hnp.arrays(np.uint8, (5, 6, 7), elements=st.integers(0, 1))


def count(truth, prediction):
    t, p = truth.astype(bool), prediction.astype(bool)
    return np.array(
        [[(a & b).sum(), (~a & b).sum(), (a & ~b).sum(), (~a & ~b).sum()] for a, b in zip(t, p, strict=True)]
    )


@settings(max_examples=60, deadline=None)
@given(masks, masks)
def test_scores_agree_with_sklearn_under_both_conventions(truth, prediction):
    counts = count(truth, prediction)
    reference = {
        "dice": sk.f1_score,
        "iou": sk.jaccard_score,
        "precision": sk.precision_score,
        "recall": sk.recall_score,
    }
    both_empty = 1.0 if truth.sum() == prediction.sum() == 0 else 0.0
    for name, function in reference.items():
        assert pooled(counts, name) == pytest.approx(
            function(truth.ravel(), prediction.ravel(), zero_division=both_empty)
        )
        each = [
            function(t.ravel(), p.ravel(), zero_division=1.0 if t.sum() == p.sum() == 0 else 0.0)
            for t, p in zip(truth, prediction, strict=True)
        ]
        assert per_image(counts, name).mean() == pytest.approx(np.mean(each))
    assert pooled(counts, "accuracy") == pytest.approx((truth == prediction).mean())


@settings(max_examples=30, deadline=None)
@given(masks, masks)
def test_pooled_scores_satisfy_the_identity_of_dice_and_iou(truth, prediction):
    values = scores(count(truth, prediction))
    assert values["iou"] == pytest.approx(values["dice"] / (2 - values["dice"]))
    assert values["f1"] == values["dice"]


def test_counts_on_the_fly_agree_with_torchmetrics_and_know_each_image():
    generator = torch.Generator().manual_seed(1)
    metric = SegmentationCounts(num_classes=1, histogram=True)
    logits = torch.randn(7, 1, 16, 16, generator=generator)
    mask = (torch.rand(7, 1, 16, 16, generator=generator) > 0.6).to(torch.uint8)
    order = torch.tensor([6, 2, 0, 1, 5, 4, 3])
    for part in order.split(3):
        metric.update(logits[part], mask[part], part, torch.tensor(float(part[0])))
    index, counts, loss, _ = metric.compute()
    table = ScoreTable.collect(index.tolist(), counts.numpy(), [f"i{i}" for i in range(7)], ["polyp"])
    assert table.ids == tuple(f"i{i}" for i in range(7))
    np.testing.assert_array_equal(table.of("polyp"), count(mask[:, 0].numpy(), (logits > 0)[:, 0].numpy()))
    prediction = (logits > 0).int()
    for name, reference in {
        "dice": BinaryF1Score(),
        "iou": BinaryJaccardIndex(),
        "precision": BinaryPrecision(),
        "recall": BinaryRecall(),
    }.items():
        assert pooled(table.of("polyp"), name) == pytest.approx(reference(prediction, mask.int()).item(), abs=1e-6)
    assert loss == pytest.approx((3 * 6 + 3 * 1 + 1 * 3) / 7)
    assert metric.histogram.sum() == mask.numel()
    assert metric.histogram[0, 1].sum() == mask.sum()
    assert metric.histogram[0, 1, 128:].sum() == table.of("polyp")[:, 0].sum()


def test_an_image_that_a_distributed_sampler_repeats_counts_once():
    counts = np.arange(16).reshape(4, 1, 4)
    table = ScoreTable.collect([1, 0, 1, 2], counts, ["a", "b", "c"], ["polyp"])
    assert table.ids == ("a", "b", "c")
    np.testing.assert_array_equal(table.counts[:, 0], counts[[1, 0, 3], 0])


def test_empty_masks_follow_the_stated_policy():
    both_empty, false_alarm, missed = [0, 0, 0, 9], [0, 2, 0, 7], [0, 0, 3, 6]
    counts = np.array([both_empty, false_alarm, missed])
    np.testing.assert_array_equal(per_image(counts, "dice"), [1, 0, 0])
    np.testing.assert_array_equal(per_image(counts, "precision"), [1, 0, 0])
    np.testing.assert_array_equal(per_image(counts, "recall"), [1, 0, 0])


def test_the_table_survives_its_file_exactly(tmp_path):
    table = ScoreTable(("ä b", "c,d"), ("liver", "tumor"), np.arange(16).reshape(2, 2, 4))
    table.write(tmp_path / "deep" / "scores.csv")
    again = ScoreTable.read(tmp_path / "deep" / "scores.csv")
    assert (again.ids, again.classes) == (table.ids, table.classes)
    np.testing.assert_array_equal(again.counts, table.counts)


def test_the_interval_of_a_mean_is_close_to_the_normal_one_and_contains_the_score():
    generator = np.random.default_rng(0)
    tp = generator.integers(200, 400, 200)
    counts = np.stack([tp, 400 - tp // 2, 400 - tp, np.full(200, 1000)], 1)
    values = per_image(counts, "dice")
    low, high = interval(counts, "dice", "image")
    half = 1.96 * values.std(ddof=1) / np.sqrt(200)
    assert low == pytest.approx(values.mean() - half, abs=0.2 * half)
    assert high == pytest.approx(values.mean() + half, abs=0.2 * half)
    low, high = interval(counts, "dice", "pooled")
    assert low < pooled(counts, "dice") < high


def test_an_interval_needs_two_images_and_is_a_point_where_nothing_varies():
    one = np.array([[5, 1, 1, 9]])
    assert np.isnan(interval(one, "dice", "image")).all()
    low, high = interval(np.repeat(one, 4, 0), "dice", "image")
    assert low == high == per_image(one, "dice")[0]
