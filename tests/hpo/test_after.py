"""After a study: the best trial with its interval, its recipe, its repetition beside the untuned recipe, pictures."""

import json
import re
import shutil

import numpy as np
import optuna
import pytest
import yaml
from lightning.pytorch.accelerators import CPUAccelerator
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2

from hpo import options, queue, training
from hpo.results import best, export, luck, outcome, plots, repeat
from hpo.results.tuned_recipe import tuned_content
from hpo.spec import StudySpec
from hpo.study import open_study
from hpo.trials import make_job, make_pruner, trial_labels
from hpo.worker import load_spec
from lightning_seg.cli import CLI, run
from lightning_seg.errors import InputError
from lightning_seg.evaluation import ScoreTable

TINY = """# A tiny recipe.
seed_everything: 42
trainer:
  max_epochs: 5
data:
  dataset: phantom_polyp
  protocol: %s
  size: 32
  batch_size: 4
  augment: unet_a
  dataset_options: {resolution: 32}
model:
  architecture: unet
  options: {widths: [4, 8]}
  loss: {bce: 0.5, dice: 0.5}
  lr: 0.01
"""
SPACE = """
model.lr: {float: [1.0e-3, 1.0e-1], log: true}
model.loss.dice: {float: [0.1, 1.0], step: 0.1}
model.options.widths: {categorical: [[4, 8], [4, 8, 8]]}
"""


class Listener:
    """A channel that says stop after its first epoch in the trials that are to be pruned; None asks
    the study's pruner."""

    def __init__(self, study, trial, pruned):
        self.study, self.trial, self.pruned = study, trial, pruned

    def report(self, step, value):
        self.trial.report(value, step)
        return self.trial.should_prune() if self.pruned is None else self.pruned

    def facts(self, **facts):
        for key, value in facts.items():
            self.trial.set_user_attr(key, value)


def work(study, pruned=(), judged=False):
    """Run what is queued, here: as a worker does, without its processes."""
    spec = load_spec(study)
    queue.tend(study, spec, queue.SilenceWatch(spec.grace))
    while (trial := queue.claim(study, set(range(spec.trials)))) is not None:
        job = make_job(spec, trial)
        for key, value in trial_labels(spec, trial, job).items():
            trial.set_user_attr(key, value)
        stop = None if judged else trial.number in pruned
        queue.finish(study, trial, training.train(job, Listener(study, trial, stop)))
    return study


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A study "tiny" of four trials of two epochs, the last of which is pruned."""
    folder = tmp_path_factory.mktemp("tuned")
    rows = [
        f"polyp-{i:04d},{'train' if i < 12 else 'val' if i < 18 else 'test'}" for i in range(24)
    ]
    head = "# name: tiny\n# version: 1\n# rule: the first 24\nid,split\n"
    (folder / "tiny.csv").write_text(head + "\n".join(rows) + "\n")
    (folder / "tiny.yaml").write_text(TINY % (folder / "tiny.csv"))
    (folder / "space.yaml").write_text(SPACE)
    study = begin(folder, "tiny", "--trials", "4")
    study.sampler = optuna.samplers.RandomSampler(seed=0)
    work(study, pruned=[3])
    return folder


def begin(folder, name, *args):
    given = [
        "--recipe",
        str(folder / "tiny.yaml"),
        "--space",
        str(folder / "space.yaml"),
        "--runs",
        str(folder / "runs"),
    ]
    given += [
        "--trainer.max_epochs",
        "2",
        "--data.num_workers",
        "0",
        "--trainer.accelerator",
        "cpu",
        *args,
    ]
    parsed, fixed = options.run_parser().parse_known_args(given)
    options.check_names(parsed)
    storage = str(folder / "runs" / name / "study.journal")
    return open_study(options.make_spec(parsed, fixed, name, storage), storage, name)


def opened(folder, study="tiny"):
    return outcome.open_outcome(best_options("--runs", str(folder / "runs"), "--study", study))


def best_options(*args):
    import argparse

    parser = argparse.ArgumentParser()
    outcome.add_outcome_options(parser)
    return parser.parse_args(args)


def pooled_dice(file):
    table = ScoreTable.read(file)
    tp, fp, fn, _ = table.counts[:, 0].sum(0)
    return 2 * tp / (2 * tp + fp + fn)


def test_best_scores_its_trial_on_one_device_of_several(folder, monkeypatch):
    monkeypatch.setattr(CPUAccelerator, "auto_device_count", lambda: 8)
    taken = []

    def look(self):
        taken.append(self.trainer.num_devices)
        raise InputError("seen")  # on eight devices it would start this command seven times more

    monkeypatch.setattr(CLI, "before_validate", look)
    for table in (folder / "runs" / "tiny").glob("trial_*/version_0/val-*"):
        shutil.rmtree(table)
    with pytest.raises(InputError, match="seen"):
        best.main(["--runs", str(folder / "runs")])
    assert taken == [1]


def test_best_tells_the_trial_its_interval_its_parameters_beside_the_recipe_and_its_command(
    folder, capsys
):
    best.main(["--runs", str(folder / "runs")])
    text = capsys.readouterr().out
    found = opened(folder)
    trial = max(
        (t for t in found.trials.values() if t.state.name == "COMPLETE"), key=lambda t: t.value
    )
    assert "4 of 4 trials: 3 complete, 1 pruned, 0 failed" in text
    assert f"best: {outcome.name_of(trial)}, val/dice {trial.value:.4f} (95 %" in text
    assert "6 validation images" in text
    assert re.search(rf"model.lr .*{trial.params['model.lr']:.4g} .*0\.01", text)
    assert trial.user_attrs["command"] in text
    assert "optimistic" in text
    assert "The recipe itself (trial_0000)" in text


def test_a_study_that_was_moved_is_told_by_its_own_runs(folder, tmp_path):
    """Another study of that name may lie where it was."""
    shutil.copytree(folder / "runs" / "tiny", tmp_path / "runs" / "tiny")
    found = opened(tmp_path)
    trial = found.choose()
    (moved,) = found.folders(trial)
    assert moved.is_relative_to(tmp_path)
    (moved / "trial.json").write_text(json.dumps(["--model.lr", "7"]))
    (there,) = found.folders(trial)
    assert there.is_relative_to(folder)
    shutil.rmtree(tmp_path / "runs" / "tiny")
    assert found.folders(trial) == [there]


def test_a_score_that_is_no_longer_found_is_told(folder, tmp_path, capsys):
    shutil.copytree(folder / "runs" / "tiny", tmp_path / "runs" / "tiny")
    found = opened(tmp_path)
    trial = found.choose()
    assert " NOT " not in best.scores(found, trial)
    trial.values = [0.99]
    assert "NOT the 0.9900 by which it was chosen" in best.scores(found, trial)


def test_a_trial_that_is_the_recipe_is_not_called_tuned_nor_repeated(folder, capsys):
    best.main(["--runs", str(folder / "runs"), "--trial", "0"])
    text = capsys.readouterr().out
    assert "is the recipe itself" in text
    assert "optimistic" not in text
    with pytest.raises(InputError, match="is the recipe itself, so there is nothing to compare"):
        repeat.main(
            ["--runs", str(folder / "runs"), "--study", "tiny", "--seeds", "2", "--trial", "0"]
        )


def test_the_interval_is_over_the_images_of_validation_and_the_test_set_stays_sealed(folder):
    found = opened(folder)
    trial = found.choose()
    score = outcome.validation(found.folders(trial), "val/dice")
    file = outcome.validated(found.folders(trial)[0])
    assert score.value == pytest.approx(trial.value) == pytest.approx(pooled_dice(file))
    assert score.low < score.value < score.high
    assert not list((folder / "runs" / "tiny").glob("**/test-*"))
    assert not list((folder / "runs").glob("**/ledger.csv"))
    image = outcome.validation(found.folders(trial), "val/dice_image").value
    tp, fp, fn, _ = np.moveaxis(ScoreTable.read(file).counts[:, 0], -1, 0)
    assert image == pytest.approx((2 * tp / (2 * tp + fp + fn)).mean())


def test_an_objective_over_several_classes_is_their_mean():
    counts = np.random.default_rng(0).integers(1, 50, (7, 2, 4))
    table = ScoreTable(tuple("abcdefg"), ("liver", "tumour"), counts)
    tp, fp, fn, _ = np.moveaxis(counts.sum(0), -1, 0)
    dice = 2 * tp / (2 * tp + fp + fn)
    assert outcome.objective_statistic("val/dice", [table]).value == pytest.approx(dice.mean())
    assert outcome.objective_statistic("val/dice_tumour", [table]).value == pytest.approx(dice[1])
    assert outcome.convention_of("val/iou_image_liver", table.classes) == (
        "iou",
        "image",
        ["liver"],
    )
    assert outcome.convention_of("val/loss", table.classes)[0] == "dice"


def test_the_exported_recipe_reruns_the_best_trial(folder, tmp_path):
    path = tmp_path / "tiny_tuned.yaml"
    found = opened(folder)
    trial = found.choose(1)
    export.main(["--runs", str(folder / "runs"), "--trial", "1", "--output", str(path)])
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert content["trainer"]["max_epochs"] == 2
    assert content["model"]["lr"] == pytest.approx(trial.params["model.lr"])
    assert content["model"]["loss"] == {
        "bce": 0.5,
        "dice": pytest.approx(trial.params["model.loss.dice"]),
    }
    assert content["model"]["options"]["widths"] == json.loads(trial.params["model.options.widths"])
    assert "num_workers" not in content["data"]
    assert "accelerator" not in content["trainer"]
    assert "checkpoint" not in content  # which is left to the default
    head = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    for word in (
        "trial_0001 of study tiny",
        f"lightning-seg fit -c {path}",
        "95 %",
        "4 trials (1 pruned, 0 failed",
        "Cost",
    ):
        assert any(word in line for line in head), word
    again = ["--trainer.accelerator", "cpu", "--runs", str(tmp_path), "--data.num_workers", "0"]
    checkpoint = run(["fit", "-c", str(path), *again]).trainer.checkpoint_callback
    assert float(checkpoint.best_model_score) == trial.value


def test_a_recipe_is_written_as_recipes_are(folder, tmp_path):
    path = tmp_path / "tuned.yaml"
    for _ in range(2):  # the same recipe twice is no clash
        export.main(["--runs", str(folder / "runs"), "--output", str(path)])
    lines = [
        line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#")
    ]
    assert [line for line in lines if not line.startswith(" ")] == [
        "seed_everything: 42",
        "trainer:",
        "data:",
        "model:",
    ]
    assert any(re.fullmatch(r"  loss: \{bce: 0\.5, dice: [\d.]+\}", line) for line in lines)
    found = opened(folder)
    other = str(min(slot for slot in range(3) if slot != found.choose().user_attrs["slot"]))
    with pytest.raises(
        InputError, match="holds another recipe; give another --output, or --replace"
    ):
        export.main(["--runs", str(folder / "runs"), "--trial", other, "--output", str(path)])


def test_a_recipe_that_has_changed_since_the_study_is_refused(folder, tmp_path):
    found = opened(folder)
    other = tmp_path / "tiny.yaml"
    other.write_text("model: {}")
    spec = StudySpec(**found.spec.__dict__ | {"recipe": str(other)})
    with pytest.raises(InputError, match="is not there or has changed since"):
        tuned_content(spec, found.choose())


def test_repeat_trains_both_recipes_under_the_same_new_seeds_and_tests_each_once(
    folder, monkeypatch, capsys
):
    launched = []

    def launch(spec, storage, name, *_):
        launched.append(spec)
        return work(open_study(spec, storage, name))

    monkeypatch.setattr(repeat, "launch", launch)
    for _ in range(2):
        repeat.main(
            ["--runs", str(folder / "runs"), "--study", "tiny", "--seeds", "2", "--trial", "1"]
        )
    text = capsys.readouterr().out
    spec = launched[0]
    assert [(point.name, point.seed) for point in spec.points] == [
        (name, seed) for seed in (43, 44) for name in ("untuned", "tuned")
    ]
    runs = folder / "runs" / "tiny_repeat_0001"
    assert len((runs / "ledger.csv").read_text(encoding="utf-8").splitlines()) == 1 + 4
    dice = [
        pooled_dice(next(runs.glob(f"trial_{slot:04d}/version_0/test-*/*/scores.csv")))
        for slot in range(4)
    ]
    for ours in (dice[1::2], dice[::2]):
        assert f"{np.mean(ours):.4f} ± {np.std(ours, ddof=1):.4f}" in text
    assert f"test dice (pooled) {np.mean(dice[1::2]) - np.mean(dice[::2]):+.4f}, 95 %" in text
    assert re.search(r"Tuning (helped|did harm|made no sure difference)", text)


def tables(*shifts):
    """Two seeds of 40 images; ``shifts`` more true positives than there would be."""
    drawn = np.random.default_rng(1).integers(100, 200, (2, 40, 1, 4))
    for counts, shift in zip(drawn, shifts, strict=True):
        counts[..., 0] += shift
    return [ScoreTable(tuple(map(str, range(40))), ("polyp",), counts) for counts in drawn]


@pytest.mark.parametrize(
    ("shifts", "words"),
    [
        ((60, 40), "Tuning helped: test dice (pooled) +0"),
        ((-60, -40), "Tuning did harm: test dice (pooled) -0"),
        ((60, -5), "Tuning made no sure difference: test dice (pooled) +0"),  # not under every seed
        ((0, 0), "Tuning made no sure difference"),
    ],
)
def test_whether_tuning_helped_is_said_in_words(shifts, words):
    rows = repeat.differences({"tuned": tables(*shifts), "untuned": tables(0, 0)})
    row = next(row for row in rows if row.is_objective("val/dice"))
    assert words in repeat.verdict(row, 40)
    assert (
        f"by seed {row.tuned[0] - row.untuned[0]:+.4f}, {row.tuned[1] - row.untuned[1]:+.4f}"
        in repeat.verdict(row, 40)
    )


def test_pictures_are_drawn_and_the_page_needs_no_network(folder, tmp_path):
    plots.main(["--runs", str(folder / "runs"), "--study", "tiny", "--output", str(tmp_path)])
    pictures = sorted(path.stem for path in tmp_path.glob("*.png"))
    assert pictures == ["curves", "history", "importances", "parallel", "slices"]
    page = (tmp_path / "study.html").read_text(encoding="utf-8")
    assert page.count("Plotly.newPlot(") >= len(pictures)
    assert not re.search(r"<(script|link)[^>]*(src|href)=", page)


def made(folder, name, values, **settings):
    """A study of finished trials without runs."""
    spec = StudySpec(
        "none.yaml",
        "0",
        [],
        str(folder / name),
        len(values),
        space={"x": {"float": [0.0, 1.0]}},
        **settings,
    )
    study = open_study(spec, str(folder / name / "study.journal"), name)
    for slot, value in enumerate(values):
        trial = optuna.trial.create_trial(
            values=value,
            params={"x": slot / 10},
            distributions={"x": optuna.distributions.FloatDistribution(0, 1)},
            user_attrs={"slot": slot, "attempt": 0, "deaths": 0},
        )
        study.add_trial(trial)
    return outcome.open_outcome(best_options("--runs", str(folder), "--study", name))


def test_of_two_objectives_the_front_is_told_best_first_and_drawn(tmp_path):
    found = made(
        tmp_path, "two", [(0.7, 5.0), (0.9, 9.0), (0.8, 9.5), (0.8, 4.0)], minimize="gmacs"
    )
    assert [outcome.name_of(trial) for trial in found.front] == ["trial_0001", "trial_0003"]
    written = {path.name for path in plots.draw(found, tmp_path)}
    assert {"pareto.png", "importances_dice.png", "slices_gmacs.png", "study.html"} <= written


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["--study", "tinny"], "no study below .* named 'tinny'; did you mean 'tiny'"),
        (["--study", "empty"], r"no trial of study 'empty' is complete yet \(none has begun\)"),
        (["--study", "grid"], "'grid' is a sweep, which has no search space"),
        (
            ["--study", "tiny", "--trial", "3"],
            "trial 3 of study 'tiny' is not complete; those are 0, 1, 2",
        ),
        ([], r"there are \d studies below .*; give --study, one of empty, grid, tiny"),
        (["--storage", "nowhere.journal"], "there is no study at .*nowhere.journal"),
    ],
)
def test_what_cannot_be_told_is_refused_in_a_sentence(folder, args, sentence):
    for name, settings in {"empty": {}, "grid": {"points": [], "space": None}}.items():
        spec = StudySpec("none.yaml", "0", [], str(folder / "runs" / name), 1)
        if settings:
            spec = StudySpec.load(
                json.dumps(
                    json.loads(spec.dump()) | {"points": [{"name": "a", "seed": 1, "args": []}]}
                )
            )
        open_study(spec, str(folder / "runs" / name / "study.journal"), name)
    for command in (best, export, plots, repeat):
        with pytest.raises(InputError, match=sentence):
            command.main(["--runs", str(folder / "runs"), *args])


def test_no_study_at_all_and_a_single_seed_are_refused(tmp_path):
    with pytest.raises(InputError, match="there is no study below"):
        best.main(["--runs", str(tmp_path)])
    with pytest.raises(InputError, match="--seeds is 1; give at least 2"):
        repeat.main(["--runs", str(tmp_path), "--seeds", "1"])


def test_tensorboard_shows_the_hyperparameters_of_every_trial_with_its_best_score(folder):
    for slot, trial in opened(folder).trials.items():
        events = EventAccumulator(str(folder / "runs" / "tiny" / f"trial_{slot:04d}" / "version_0"))
        events.Reload()
        start = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
        parameters = plugin_data_pb2.HParamsPluginData.FromString(start).session_start_info.hparams
        assert parameters["lr"].number_value == pytest.approx(trial.params["model.lr"])
        assert events.Scalars("best/val/dice")[0].value == pytest.approx(
            max(trial.intermediate_values.values())
        )


def searched(folder, name, curves, pruned=(), labels=None, **settings):
    """A study whose trials reported these values, epoch by epoch, and bear these labels."""
    found = made(folder, name, [], **{"sampler": "random", "pruner": "none"} | settings)
    for slot, values in enumerate(curves):
        trial = optuna.trial.create_trial(
            value=max(values),
            state=getattr(optuna.trial.TrialState, "PRUNED" if slot in pruned else "COMPLETE"),
            params={"x": slot / 100},
            distributions={"x": optuna.distributions.FloatDistribution(0, 1)},
            intermediate_values=dict(enumerate(values)),
            user_attrs={"slot": slot, "attempt": 0, "deaths": 0} | (labels or {}),
        )
        found.study.add_trial(trial)
    return outcome.open_outcome(best_options("--runs", str(folder), "--study", name))


def test_the_best_so_far_of_a_random_search_is_that_of_trials_in_any_order(tmp_path):
    values = np.random.default_rng(0).random(12)
    course = luck.course_of(searched(tmp_path, "random", [[v / 2, v] for v in values]))
    assert (course.epochs, course.learns) == (24, False)
    drawn = course.resampled(24, 4000)
    assert (np.diff(drawn, axis=1) >= 0).all()
    # after k trials: the expected maximum of k drawn with replacement, in closed form
    ordered, shares = np.sort(values), np.arange(13) / 12
    for k in (1, 4, 12):
        expected = (ordered * np.diff(shares**k)).sum()
        assert drawn[:, 2 * k - 1].mean() == pytest.approx(expected, abs=0.01)
    assert course.found(24)[-1] <= values.max()


def test_a_search_that_learns_keeps_its_order_and_given_trials_come_first(tmp_path):
    curves = [[0.3, 0.2], [0.1], [0.4, 0.6], [0.5]]
    settings = {"sampler": "tpe", "start": [{"x": 0.0}]}
    course = luck.course_of(searched(tmp_path, "tpe", curves, pruned=[1, 3], **settings))
    assert course.learns
    assert course.found(8).tolist() == [0.3, 0.3, 0.3, 0.4, 0.6, 0.6, 0.6, 0.6]
    assert (course.resampled(8)[:, 0] == 0.3).all()
    minimized = searched(tmp_path, "loss", [[0.9, 0.5], [0.7]], objective="val/loss")
    assert luck.course_of(minimized).resampled(2)[:, -1].max() <= 0.9


def test_what_tuning_is_worth_beside_controls_is_said_and_drawn(tmp_path, capsys):
    random = np.random.default_rng(1)
    low = [[v / 2, v] for v in 0.5 + 0.02 * random.random(20)]
    high = [[v / 2, v] for v in 0.8 + 0.02 * random.random(20)]
    searched(tmp_path, "tuned", high, sampler="tpe")
    searched(tmp_path, "chance", low)
    searched(tmp_path, "again", low[::-1])
    at = ["--runs", str(tmp_path), "--output", str(tmp_path)]
    plots.main([*at, "--study", "tuned", "--against", "chance", "again"])
    said = capsys.readouterr().out
    assert re.search(r"tuned against chance after 40 epochs: \+0\.3\d+ .*: better", said)
    assert "how another such search would go is not known" in " ".join(said.split())
    assert (tmp_path / "luck.png").is_file()
    page = (tmp_path / "study.html").read_text(encoding="utf-8")
    assert "Best so far at equal epochs: tuned 0.8" in page
    plots.main([*at, "--study", "chance", "--against", "again"])
    assert "no surer than luck" in capsys.readouterr().out


def test_other_searches_are_no_controls(tmp_path):
    searched(tmp_path, "one", [[0.1, 0.2]])
    searched(tmp_path, "other", [[0.1, 0.2]], objective="val/iou")
    searched(tmp_path, "seeds", [[0.1, 0.2]], replicas={"seed42": [], "seed43": []})
    at = ["--runs", str(tmp_path), "--study", "one", "--against"]
    with pytest.raises(
        InputError, match="'other' is no control of 'one': it has another objective"
    ):
        plots.main([*at, "other"])
    with pytest.raises(InputError, match="'seeds' has two objectives, or several trainings"):
        plots.main([*at, "seeds"])
    with pytest.raises(InputError, match="names 'one', which is there already"):
        plots.main([*at, "one"])
    searched(tmp_path, "here", [[0.1, 0.2]], labels={"data": "aa-bb"})
    searched(tmp_path, "elsewhere", [[0.1, 0.2]], labels={"data": "aa-cc"})
    at = ["--runs", str(tmp_path), "--study", "here", "--against"]
    with pytest.raises(InputError, match="its trials had other data"):
        plots.main([*at, "elsewhere"])


def test_tuning_and_its_controls_on_a_phantom(folder, tmp_path, capsys):
    controls = {
        "chance": ["--sampler", "random", "--pruner", "none"],
        "halving": ["--sampler", "random", "--pruner", "first-epoch", "--keep", "1"],
    }
    for name, args in controls.items():
        study = begin(folder, name, "--trials", "4", *args)
        study.sampler = optuna.samplers.RandomSampler(seed=1)
        study.pruner = make_pruner(load_spec(study))
        work(study, judged=True)
    at = ["--runs", str(folder / "runs"), "--output", str(tmp_path)]
    plots.main([*at, "--study", "tiny", "--against", *controls])
    said = capsys.readouterr().out
    for name in controls:
        assert f"tiny against {name} after" in said
    states = [trial.state.name for trial in opened(folder, "halving").trials.values()]
    assert states[0] == "COMPLETE"
    assert "PRUNED" in states
    assert [t.state.name for t in opened(folder, "chance").trials.values()] == ["COMPLETE"] * 4
