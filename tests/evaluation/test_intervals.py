"""Intervals, p-values, ranks and comparisons against scipy and by simulation; strata."""

import json

import numpy as np
import pytest
from scipy import stats

from lightning_seg.errors import InputError
from lightning_seg.evaluation import (
    ScoreTable,
    bca,
    compare_models,
    holm,
    interval,
    per_image,
    pooled,
    rank_intervals,
    statistic,
    strata,
)
from lightning_seg.reports.comparison import main


def table(quality=0.9, seed=0, images=60, groups=()):
    """Images of different size and difficulty, the same for every seed, segmented about as well as ``quality``."""
    same, own = np.random.default_rng(99), np.random.default_rng([seed, 7])
    size, ease = same.integers(500, 8000, images), same.beta(8, 1.5, images)
    tp = (size * np.clip(ease * quality + own.normal(0, 0.03, images), 0, 1)).astype(int)
    fp = ((size - tp) * own.uniform(0.3, 1.2, images)).astype(int)
    counts = np.stack([tp, fp, size - tp, 65536 - size - fp], -1)[:, None]
    return ScoreTable(tuple(f"i{i}" for i in range(images)), ("polyp",), counts, groups)


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


def test_an_interval_needs_six_images_and_is_a_point_where_nothing_varies():
    one = np.array([[5, 1, 1, 9]])
    low, high = interval(np.repeat(one, 6, 0), "dice", "image")
    assert low == high == per_image(one, "dice")[0]
    few = np.array([[5, 1, 1, 9], [2, 3, 4, 7], [8, 0, 1, 7], [6, 2, 2, 6], [1, 9, 3, 3]])
    assert np.isnan(interval(few, "dice", "image")).all()
    assert np.isnan(interval(few, "dice", "pooled")).all()
    more = np.vstack([few, [[4, 4, 4, 4]]])
    assert np.ptp(interval(more, "dice", "image")) > 0
    in_groups = interval(more, "dice", "image", groups=tuple("aabbcc"))
    assert np.isnan(in_groups).all()


def test_the_interval_is_the_bca_interval_of_scipy():
    counts = table().of("polyp")
    values = per_image(counts, "dice")
    expected = stats.bootstrap(
        (values,), np.mean, n_resamples=2000, rng=np.random.default_rng(0)
    ).confidence_interval
    assert interval(counts, "dice", "image") == pytest.approx(tuple(expected), abs=1e-9)

    def of_rows(rows, axis=-1):
        return pooled(counts[rows], "iou")

    rows = (np.arange(len(counts)),)
    expected = stats.bootstrap(
        rows, of_rows, n_resamples=2000, rng=np.random.default_rng(0)
    ).confidence_interval
    assert interval(counts, "iou", "pooled") == pytest.approx(tuple(expected), abs=1e-9)


def test_images_of_one_patient_are_drawn_together():
    """Ten alike images of each of six patients say no more than six images do."""
    few = table(images=6)
    many = few.at(np.repeat(np.arange(6), 10))
    alone = ScoreTable(tuple(map(str, range(60))), few.classes, many.counts)
    grouped = ScoreTable(
        alone.ids, few.classes, many.counts, tuple("abcdef"[i // 10] for i in range(60))
    )
    assert grouped.grouped
    assert not alone.grouped
    for convention in ("image", "pooled"):
        assert bca(statistic([grouped], "polyp", "dice", convention)) == pytest.approx(
            bca(statistic([few], "polyp", "dice", convention))
        )
        low, high = bca(statistic([alone], "polyp", "dice", convention))
        wide_low, wide_high = bca(statistic([grouped], "polyp", "dice", convention))
        assert wide_high - wide_low > 2 * (high - low)


def test_many_images_are_resampled_in_parts_as_few_are_at_once(monkeypatch):
    from lightning_seg.evaluation import intervals

    whole = bca(statistic([table()], "polyp", "dice"), resamples=500, seed=5)
    monkeypatch.setattr(intervals, "_CHUNK", 7 * 60)
    assert bca(statistic([table()], "polyp", "dice"), resamples=500, seed=5) == pytest.approx(whole)


def test_the_score_of_several_seeds_is_their_mean_over_the_same_resamples():
    tables = [table(seed=seed) for seed in range(3)]
    for convention in ("image", "pooled", "two_class"):
        together = statistic(tables, "polyp", "dice", convention)
        alone = [statistic([each], "polyp", "dice", convention) for each in tables]
        np.testing.assert_allclose(together.seeds, [each.value for each in alone])
        assert together.value == pytest.approx(together.seeds.mean())
        np.testing.assert_allclose(
            together.resampled(50), np.mean([each.resampled(50) for each in alone], 0)
        )


def test_the_difference_of_equal_models_is_significant_about_one_time_in_twenty():
    wrong = sum(
        compare_models(
            [table(seed=2 * k)], [table(seed=2 * k + 1)], "polyp", resamples=400
        ).p_bootstrap
        < 0.05
        for k in range(200)
    )
    assert 2 <= wrong <= 22  # binomial of 200 and .05: 10 +- 3


def test_a_comparison_is_paired_and_its_p_agrees_with_its_interval():
    a, b = [table(0.91, seed=1)], [table(0.9, seed=2)]
    found = compare_models(a, b, "polyp")
    values = [per_image(each[0].of("polyp"), "dice") for each in (a, b)]
    assert found.difference == pytest.approx(values[0].mean() - values[1].mean())
    assert found.p_wilcoxon == pytest.approx(
        stats.wilcoxon(np.round(values[0] - values[1], 12)).pvalue
    )
    assert (found.images, found.groups) == (60, 60)
    alone = np.ptp(bca(statistic(a, "polyp", "dice")))
    assert (
        found.high - found.low < alone / 2
    )  # most of the spread is that of the images, which both share
    for quality in (0.9, 0.905, 0.91, 0.92, 0.95):
        each = compare_models([table(quality, seed=1)], b, "polyp")
        assert (each.p_bootstrap < 0.05) == (each.low > 0 or each.high < 0)
    reverse = compare_models(b, a, "polyp")
    assert (reverse.difference, reverse.p_bootstrap) == pytest.approx(
        (-found.difference, found.p_bootstrap)
    )


def test_a_model_equals_itself():
    found = compare_models([table()], [table()], "polyp", convention="pooled")
    assert found[:4] == (0, 0, 0, 1)
    assert np.isnan(found.p_wilcoxon)  # there are no ranks of one sum over all pixels
    assert compare_models([table()], [table()], "polyp").p_wilcoxon == 1


def test_a_difference_that_never_varies_is_certain_and_five_images_say_nothing():
    def constant(value, images):
        ids = tuple(map(str, range(images)))
        return [
            ScoreTable(
                ids,
                ("x",),
                np.ones((images, 1, 4), int),
                measures={"nsd": np.full((images, 1), value)},
            )
        ]

    found = compare_models(constant(0.9, 6), constant(0.8, 6), "x", "nsd", resamples=1000)
    assert (found.low, found.high, found.p_bootstrap) == pytest.approx((0.1, 0.1, 2 / 1001))
    assert np.isnan(compare_models(constant(0.9, 5), constant(0.8, 5), "x", "nsd").p_bootstrap)


def test_other_images_are_not_compared():
    with pytest.raises(InputError, match="other images"):
        compare_models([table(images=60)], [table(images=61)], "polyp")
    with pytest.raises(InputError, match="other images"):
        rank_intervals({"a": [table(images=60)], "b": [table(images=61)]}, "polyp")


def test_images_in_other_groups_are_not_compared():
    """As many groups, but other ones: the units of the bootstrap would not be paired."""
    one, other = table(groups=tuple("abc" * 20)), table(groups=tuple("aabbcc" * 10))
    for score in (lambda: compare_models([one], [other], "polyp"), lambda: statistic([one, other], "polyp", "dice"),
                  lambda: rank_intervals({"a": [one], "b": [other]}, "polyp")):  # fmt: skip
        with pytest.raises(InputError, match="other groups"):
            score()


def test_wilcoxon_of_volumes_is_over_their_scores():
    groups = tuple(f"scan {i // 5}" for i in range(60))
    a, b = table(0.91, seed=1, groups=groups), table(0.9, seed=2, groups=groups)
    sums = [per_image(each.of("polyp").reshape(12, 5, 4).sum(1), "dice") for each in (a, b)]
    found = compare_models([a], [b], "polyp", convention="volume")
    assert found.p_wilcoxon == pytest.approx(stats.wilcoxon(np.round(sums[0] - sums[1], 12)).pvalue)
    means = [per_image(each.of("polyp"), "dice").reshape(12, 5).mean(1) for each in (a, b)]
    found = compare_models([a], [b], "polyp")
    assert found.p_wilcoxon == pytest.approx(
        stats.wilcoxon(np.round(means[0] - means[1], 12)).pvalue
    )


def test_of_a_single_image_no_model_is_said_to_be_worse():
    found = rank_intervals({"a": [table(0.95, images=1)], "b": [table(0.5, images=1)]}, "polyp")
    assert found["b"].rank == 2
    assert found["b"].tied_with_best


def test_holm_multiplies_each_p_by_the_number_of_those_not_smaller():
    p = [0.01, 0.04, 0.03, 0.005]
    expected = {
        0.005: 0.02,
        0.01: 0.03,
        0.03: 0.06,
        0.04: 0.06,
    }  # 4 x .005, 3 x .01, 2 x .03, then not less than before
    np.testing.assert_allclose(holm(p), [expected[each] for each in p])
    assert holm([0.6, 0.7]).max() == 1
    assert len(holm([])) == 0


def test_ranks_have_intervals_and_models_near_the_leader_are_tied_with_it():
    tables = {name: [table(q, seed=10 * k + s) for s in range(2)]
              for k, (name, q) in enumerate({"best": 0.93, "near": 0.928, "far": 0.85}.items())}  # fmt: skip
    tables["copy"] = tables["best"]
    found = rank_intervals(tables, "polyp")
    assert list(found)[-1] == "far"
    assert found["far"] == found["far"]._replace(
        rank=4, rank_low=4, rank_high=4, tied_with_best=False
    )
    assert found["copy"] == found["best"]
    assert found["near"].tied_with_best
    assert found["near"].rank_low < found["near"].rank_high
    seeds = [per_image(each.of("polyp"), "dice").mean() for each in tables["near"]]
    assert found["near"].sd_over_seeds == pytest.approx(np.std(seeds, ddof=1))
    assert found["near"].value == pytest.approx(np.mean(seeds))
    assert found["near"].low < found["near"].value < found["near"].high


def test_a_score_of_which_less_is_better_ranks_the_other_way():
    def with_distance(value):
        return [
            ScoreTable(
                tuple("abcdef"),
                ("polyp",),
                np.ones((6, 1, 4), int),
                measures={"hd95": np.full((6, 1), value)},
            )
        ]

    found = rank_intervals(
        {"near": with_distance(2.0), "far": with_distance(30.0)}, "polyp", "hd95"
    )
    assert list(found) == ["near", "far"]
    assert not found["far"].tied_with_best


@pytest.mark.parametrize(("images", "tied"), [(5, True), (6, False)])
def test_of_few_images_no_model_is_behind_another(images, tied):
    rows = np.arange(images)
    good, bad = ([table(quality, 1).at(rows)] for quality in (0.95, 0.5))
    found = rank_intervals({"good": good, "bad": bad}, "polyp")
    assert found["bad"].tied_with_best is tied


def test_strata_are_thirds_by_size_and_leave_no_image_out():
    generator = np.random.default_rng(0)
    area = np.array([*generator.permutation(np.arange(10, 40)), 0, 0])
    counts = np.stack([area, 0 * area, 0 * area, 1000 - area], -1)[:, None]
    found = strata(
        ScoreTable(tuple(map(str, range(32))), ("x",), counts, components=(area % 3)[:, None]), "x"
    )
    sizes = {each.name: each.rows.sum() for each in found}
    assert (sizes["small"], sizes["medium"], sizes["large"], sizes["empty"]) == (10, 10, 10, 2)
    rows = np.stack([each.rows for each in found[:4]])
    np.testing.assert_array_equal(rows.sum(0), 1)
    assert area[found[0].rows].max() < area[found[1].rows].min() < area[found[2].rows].min()
    assert sizes["one lesion"] == (area % 3 == 1).sum()
    assert [each.name for each in strata(table(), "polyp")] == ["small", "medium", "large"]


# --- the command ---


@pytest.fixture
def runs(tmp_path):
    """Folders of three runs, as `test` leaves them."""
    for name, quality, seed in (("good", 0.95, 1), ("again", 0.95, 2), ("bad", 0.7, 3)):
        folder = tmp_path / name / "version_0" / "test-p" / "best-epoch=007-dice=0.9-256"
        scored = table(quality, seed)
        scored.write(folder / "scores.csv")
        facts = {
            "images": len(scored.ids),
            "dataset": "d",
            "protocol": "p",
            "protocol_digest": "abc",
            "split": "test",
            "size": 256,
            "synthetic": True,
        }
        (folder / "summary.json").write_text(json.dumps(facts))
    return tmp_path


def test_compare_says_in_words_who_is_better_and_who_is_tied(runs, capsys):
    main([str(runs / "good"), str(runs / "again"), str(runs / "bad")])
    lines = [line for line in capsys.readouterr().out.splitlines() if "│" in line]
    verdicts = {line.split("│")[1].strip(): line.split("│")[-2].strip() for line in lines}
    assert verdicts == {
        "good - again": "tied",
        "good - bad": "good is better",
        "again - bad": "again is better",
    }


def test_compare_takes_every_name_of_a_run(runs, capsys, monkeypatch):
    monkeypatch.chdir(runs.parent)
    home = runs.rename(runs.parent / "runs")
    checkpoint = home / "good" / "version_0" / "checkpoints" / "best.ckpt"
    checkpoint.parent.mkdir()
    checkpoint.touch()
    (home / "good" / "version_1").mkdir()  # trained on, not yet tested
    scored = next(checkpoint.parents[1].glob("test-p/*")) / "summary.json"
    facts = json.loads(scored.read_text(encoding="utf-8"))
    scored.write_text(json.dumps(facts | {"checkpoint": "checkpoints/best.ckpt"}))
    for name in ("good", "runs/good", "good/version_0", "runs/good/version_0", str(checkpoint)):
        main([name, "bad", "--score", "dice", "--resamples", "100"])
        assert "good - bad" in capsys.readouterr().out
    other = checkpoint.with_name("last.ckpt")
    other.touch()
    with pytest.raises(InputError, match=r"last\.ckpt holds no test or val scores"):
        main([str(other), "bad"])


def test_compare_names_what_was_scored_and_splits_two_runs_by_size(runs, capsys):
    main([f"ours={runs / 'good'},{runs / 'again'}", str(next(runs.glob("bad/*/*/*")) / "scores.csv"),
          "--score", "dice"])  # fmt: skip
    printed = capsys.readouterr().out
    for words in (
        "SYNTHETIC",
        "protocol p",
        "size 256",
        "ours - bad",
        "image, small",
        "pooled",
        "ours is better",
    ):
        assert words in printed


@pytest.mark.parametrize(
    ("odd", "words"),
    [
        ({"threshold": 0.3}, "threshold: 0.5 (good), 0.3 (bad)"),
        ({"inference": {"tta": "flips"}}, "test-time augmentation: none (good), flips (bad)"),
        ({"inference": {"postprocess": "keep_largest"}}, "post-processing: none (good)"),
        ({"size": 512, "scored_at": "native size"}, "size: 256 (good), 512 (bad)"),
    ],
)
def test_compare_says_what_was_used_unlike_and_joins_no_such_seeds(runs, capsys, odd, words):
    if "size" in odd:  # networks of two sizes, both scored at that of the masks
        change(runs, "good", {"scored_at": "native size"})
    change(runs, "bad", odd)
    main([str(runs / "good"), str(runs / "bad"), "--score", "dice", "--resamples", "100"])
    printed = " ".join(capsys.readouterr().out.split())
    assert f"used unlike each other: {words}" in printed
    assert ("protocol p, size 256" in printed) == ("size" not in odd)
    change(runs, "again", odd if "size" in odd else {})
    main([str(runs / "good"), str(runs / "again"), "--score", "dice", "--resamples", "100"])
    assert ("used unlike" in capsys.readouterr().out) == ("size" in odd)
    with pytest.raises(InputError, match="joins scores of unlike uses"):
        main([f"ours={runs / 'good'},{runs / 'bad'}", str(runs / "again")])
    with pytest.raises(InputError, match="names one score table twice"):
        main([f"ours={runs / 'bad'},{runs / 'bad'}", str(runs / "again")])


def change(runs, name, facts):
    file = next(runs.glob(f"{name}/*/*/*")) / "summary.json"
    file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | facts))


def test_compare_refuses_unlike_tests_with_a_sentence(runs, capsys):
    one = str(runs / "good")
    summary = next(runs.glob("bad/*/*/*")) / "summary.json"
    summary.write_text(summary.read_text(encoding="utf-8").replace("abc", "xyz"))
    table(images=9).write(runs / "few" / "scores.csv")
    (runs / "empty" / "version_0").mkdir(parents=True)
    table().write(runs / "again" / "version_0" / "test-p" / "last-256" / "scores.csv")
    for args, words in (
        ([one], "give two or more"),
        ([one, str(runs / "bad")], "differ in protocol_digest"),
        ([one, str(runs / "few")], "9 images of polyp and 60 images of polyp"),
        ([one, str(runs / "nowhere")], "there is no checkpoint or run"),
        ([one, str(runs / "empty" / "version_0")], "holds no test or val scores"),
        ([one, str(runs / "again")], "several score tables"),
        ([one, one], "two runs are called 'good'"),
        ([one, f"b={one}", "--score", "dise"], "did you mean 'dice'"),
        ([one, f"b={one}", "--resamples", "1"], "give 100 or more"),
    ):
        with pytest.raises(InputError, match=words):
            main(args)


@pytest.mark.parametrize(("images", "words"), [(5, "too few images"), (6, "good is better")])
def test_compare_gives_no_verdict_on_fewer_images_than_signed_ranks_could_tell_apart(
    runs, capsys, images, words
):
    for file in runs.glob("*/*/*/*/scores.csv"):
        ScoreTable.read(file).at(np.arange(images)).write(file)
        summary = file.with_name("summary.json")
        facts = json.loads(summary.read_text(encoding="utf-8"))
        summary.write_text(json.dumps(facts | {"images": images}))
    main([str(runs / "good"), str(runs / "bad"), "--score", "dice"])
    rows = [line for line in capsys.readouterr().out.splitlines() if " image │" in line]
    [cells] = [[cell.strip() for cell in row.split("│")] for row in rows]
    assert cells[-2] == words
    interval, *both_p = cells[-5:-2]
    assert ({interval, *both_p} == {"-"}) == (images < 6)
