"""Scores and conventions against sklearn, torchmetrics and numpy loops; what evaluation by one convention hides."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn import metrics as sk
from torchmetrics.classification import (
    BinaryF1Score,
    BinaryJaccardIndex,
    BinaryPrecision,
    BinaryRecall,
)

from lightning_seg.errors import InputError
from lightning_seg.evaluation import (
    ScoreTable,
    bca,
    per_image,
    pooled,
    rank_intervals,
    scores,
    statistic,
)
from lightning_seg.evaluation.conventions import mean_of_defined, two_class
from lightning_seg.evaluation.counts import SegmentationCounts
from lightning_seg.evaluation.intervals import p_value
from lightning_seg.evaluation.measures import measure

masks = hnp.arrays(np.uint8, (5, 6, 7), elements=st.integers(0, 1))


def count(truth, prediction):
    t, p = truth.astype(bool), prediction.astype(bool)
    return np.array(
        [
            [(a & b).sum(), (~a & b).sum(), (a & ~b).sum(), (~a & ~b).sum()]
            for a, b in zip(t, p, strict=True)
        ]
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
    assert values["iou"] == pytest.approx(values["dice"] / (2 - values["dice"]), nan_ok=True)
    assert values["f1"] == pytest.approx(values["dice"], nan_ok=True)


def test_counts_on_the_fly_agree_with_torchmetrics_and_know_each_image():
    generator = torch.Generator().manual_seed(1)
    metric = SegmentationCounts(num_classes=1)
    logits = torch.randn(7, 1, 16, 16, generator=generator)
    mask = (torch.rand(7, 1, 16, 16, generator=generator) > 0.6).to(torch.uint8)
    order = torch.tensor([6, 2, 0, 1, 5, 4, 3])
    for part in order.split(3):
        maps = logits[part]
        metric.update(
            maps > 0, mask[part], part, torch.tensor(float(part[0])), None, maps.sigmoid()
        )
    index, counts, inside, loss, _ = metric.compute()
    assert inside is None
    table = ScoreTable.collect(index.tolist(), counts, [f"i{i}" for i in range(7)], ["polyp"])
    assert table.ids == tuple(f"i{i}" for i in range(7))
    np.testing.assert_array_equal(
        table.of("polyp"), count(mask[:, 0].numpy(), (logits > 0)[:, 0].numpy())
    )
    prediction = (logits > 0).int()
    for name, reference in {
        "dice": BinaryF1Score(),
        "iou": BinaryJaccardIndex(),
        "precision": BinaryPrecision(),
        "recall": BinaryRecall(),
    }.items():
        assert pooled(table.of("polyp"), name) == pytest.approx(
            reference(prediction, mask.int()).item(), abs=1e-6
        )
    assert loss == pytest.approx((3 * 6 + 3 * 1 + 1 * 3) / 7)
    assert metric.histogram.sum() == mask.numel()
    assert metric.histogram[0, 1].sum() == mask.sum()
    assert metric.histogram[0, 1, 128:].sum() == table.of("polyp")[:, 0].sum()


def test_empty_masks_follow_the_stated_policy():
    both_empty, false_alarm, missed = [0, 0, 0, 9], [0, 2, 0, 7], [0, 0, 3, 6]
    counts = np.array([both_empty, false_alarm, missed])
    np.testing.assert_array_equal(per_image(counts, "dice"), [1, 0, 0])
    np.testing.assert_array_equal(per_image(counts, "precision"), [1, 0, 0])
    np.testing.assert_array_equal(per_image(counts, "recall"), [1, 0, 0])


def test_nothing_to_find_and_nothing_found_in_any_image_is_no_score():
    nothing = np.array([[0, 0, 0, 9], [0, 0, 0, 9]])
    found = scores(nothing)
    defined = {name for name, value in found.items() if not np.isnan(value)}
    assert defined == {"specificity", "specificity_image", "accuracy", "accuracy_image"}
    one_alarm = np.array([[0, 1, 0, 8], [0, 0, 0, 9]])
    assert (scores(one_alarm)["dice"], scores(one_alarm)["dice_image"]) == (0.0, 0.5)
    assert mean_of_defined([0.25, float("nan"), 0.75]) == 0.5
    assert np.isnan(mean_of_defined([float("nan")]))


@pytest.mark.parametrize("convention", ["image", "pooled", "two_class", "batch2", "volume"])
@pytest.mark.parametrize("score", ["dice", "mcc", "hd95"])
def test_an_undefined_score_has_no_interval_and_no_difference(score, convention):
    if score == "hd95" and convention != "image":
        return
    counts = np.full((8, 2, 4), [0, 0, 0, 9])
    counts[:, 1] = [4, 1, 0, 4]
    distances = {"hd95": np.zeros((8, 2))}
    ids = tuple("abcdefgh")
    table = ScoreTable(ids, ("tumor", "liver"), counts, tuple("aabbccdd"), measures=distances)
    found = statistic([table, table], "tumor", score, convention)
    assert np.isnan([found.value, *bca(found), p_value(found.minus(found))]).all()
    assert not np.isnan(statistic([table], "liver", score, convention).value)
    ranking = rank_intervals({"a": [table], "b": [table]}, "tumor", score, convention)
    assert [each.rank for each in ranking.values()] == [1, 1]


@settings(max_examples=40, deadline=None)
@given(masks, masks)
def test_the_mean_of_two_classes_and_mcc_are_those_of_sklearn(truth, prediction):
    total = count(truth, prediction).sum(0)
    flat = truth.ravel(), prediction.ravel()
    if 0 < truth.sum() < truth.size:
        expected = sk.jaccard_score(*flat, average="macro", labels=[0, 1])
        assert two_class(total, "iou") == pytest.approx(expected)
    if 0 < truth.mean() < 1 and 0 < prediction.mean() < 1:
        assert pooled(total[None], "mcc") == pytest.approx(sk.matthews_corrcoef(*flat))
    assert per_image(np.array([0, 0, 0, 5]), "mcc") == 1
    assert per_image(np.array([0, 2, 0, 5]), "mcc") == 0


def loop(counts, groups, convention):
    """Dice under a convention, one image after the other."""

    def dice(rows):
        tp, fp, fn, _ = np.sum(rows, axis=0)
        return 2 * tp / (2 * tp + fp + fn) if tp + fp + fn else 1.0

    if convention == "pooled":
        return dice(counts)
    if convention == "volume":
        return np.mean(
            [
                dice([c for c, g in zip(counts, groups, strict=True) if g == group])
                for group in set(groups)
            ]
        )
    size = int(convention.removeprefix("batch")) if convention.startswith("batch") else 1
    return np.mean([dice(counts[start : start + size]) for start in range(0, len(counts), size)])


@pytest.mark.parametrize(
    "convention", ["image", "pooled", "batch1", "batch4", "batch100", "volume"]
)
def test_every_convention_is_what_a_loop_says(convention):
    generator = np.random.default_rng(0)
    counts = generator.integers(0, 50, (11, 1, 4))
    counts[3] = [[0, 0, 0, 100]]
    groups = tuple("aabbbcddaee")
    table = ScoreTable(tuple(map(str, range(11))), ("polyp",), counts, groups)
    assert statistic([table], "polyp", "dice", convention).value == pytest.approx(
        loop(counts[:, 0], groups, convention)
    )
    inside = ScoreTable(table.ids, table.classes, counts + 7, groups, fov_counts=counts)
    assert statistic([inside], "polyp", "dice", f"{convention}_fov").value == pytest.approx(
        loop(counts[:, 0], groups, convention)
    )


def test_a_convention_that_does_not_exist_or_does_not_apply_is_refused():
    table = ScoreTable(
        ("a", "b"), ("polyp",), np.ones((2, 1, 4), int), measures={"hd95": np.ones((2, 1))}
    )
    for score, convention, words in (
        ("dice", "pooledd", "did you mean 'pooled'"),
        ("dice", "batch0", "no convention named 'batch0'"),
        ("dice", "image_fov", "field of view"),
        ("hd95", "pooled", "measure of single images"),
        ("dise", "image", "did you mean 'dice'"),
        ("ece", "pooled", "calibration sums"),
    ):
        with pytest.raises(InputError, match=words):
            statistic([table], "polyp", score, convention)
    with pytest.raises(InputError, match="did you mean 'polyp'"):
        statistic([table], "polip", "dice")


def simulated(images=100, seed=0):
    """Lesions of about a tenth of the frame, as in colonoscopy, found worse the smaller they are; soft edges."""
    from scipy.ndimage import gaussian_filter

    generator, (y, x) = np.random.default_rng(seed), np.mgrid[:64, :64]
    for _ in range(images):
        radius = 64 * np.sqrt(np.clip(generator.lognormal(np.log(0.1), 0.8), 0.01, 0.5) / np.pi)
        centre = generator.uniform(16, 48, 2)
        shift = generator.normal(0, 1.7, 2) * (4 if generator.random() < 0.12 else 1)
        truth, found = (np.hypot(x - c[0], y - c[1]) < radius for c in (centre, centre + shift))
        noise = gaussian_filter(generator.normal(size=found.shape), 2) * 0.8
        yield (
            truth,
            np.clip(gaussian_filter(found.astype(float), 1.5) * 0.9 + noise * 0.3 + 0.05, 0, 1),
        )


def test_one_set_of_predictions_has_many_dice_in_the_order_that_the_field_publishes():
    pairs = list(simulated())
    counts = count(np.stack([t for t, _ in pairs]), np.stack([p > 0.5 for _, p in pairs]))[:, None]
    table = ScoreTable(tuple(map(str, range(100))), ("polyp",), counts)
    dice = {
        name: statistic([table], "polyp", "dice", name).value
        for name in ("image", "pooled", "batch8", "two_class")
    }
    pranet = [measure(p, t, families=["saliency"]) for t, p in pairs]
    dice["mean_pranet"] = np.mean([found.values["dice_pranet"] for found in pranet])
    dice["max_pranet"] = np.mean([found.curves[0] for found in pranet], 0).max()
    assert dice["mean_pranet"] < dice["image"] < dice["batch8"] < dice["pooled"] < dice["two_class"]
    assert dice["mean_pranet"] < dice["max_pranet"] <= dice["pooled"]
    assert dice["two_class"] - dice["image"] > 0.04
    iou = statistic([table], "polyp", "iou", "image").value
    assert iou > dice["image"] / (2 - dice["image"]) + 0.01


def test_the_interval_of_a_mean_dice_is_as_wide_as_the_number_of_images_says():
    """An SD of .15 over images: +-.040 for 53 of them, +-.029 for 100, +-.026 for 120."""
    for images, half in ((53, 0.040), (100, 0.029), (120, 0.026)):
        values = np.random.default_rng(1).beta(4, 1, images)
        values = 0.8 + 0.15 * (values - values.mean()) / values.std()
        low, high = bca(statistic([measured(values)], "polyp", "score"))
        assert (high - low) / 2 == pytest.approx(half, abs=0.002)


def test_the_best_of_24_equal_models_looks_better_than_it_is_and_is_tied_with_most():
    generator, excess, tied = np.random.default_rng(0), [], []
    for _ in range(5):
        easy = generator.normal(0.88, 0.12, 53)
        values = np.clip(easy + generator.normal(0, 0.075, (24, 53)), 0, 1)
        tables = {f"m{k}": [measured(values[k])] for k in range(24)}
        ranking = rank_intervals(tables, "polyp", "score", resamples=500)
        excess.append(next(iter(ranking.values())).value - values.mean())
        tied.append(sum(model.tied_with_best for model in ranking.values()))
    assert 0.013 < np.mean(excess) < 0.028
    assert np.mean(tied) > 22


def measured(values):
    ids = tuple(map(str, range(len(values))))
    return ScoreTable(
        ids,
        ("polyp",),
        np.ones((len(ids), 1, 4), int),
        measures={"score": np.asarray(values)[:, None]},
    )
