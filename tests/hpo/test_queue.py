"""The queue of a study: what it lacks, who takes what, when a worker counts as dead."""

import dataclasses
import json
from concurrent.futures import ThreadPoolExecutor

import optuna
import pytest
from drive import make_spec
from optuna.trial import TrialState

from hpo import queue
from hpo.conditions import check_weights, code_warning
from hpo.recipe import named_files
from hpo.spec import StudySpec, SweepPoint
from hpo.storage import open_storage
from hpo.study import open_study
from hpo.trial_messages import TrialResult, claim_folder, holds_trial
from hpo.trials import PRUNERS, SAMPLERS, judge_memory, make_pruner, make_sampler, trial_folder
from lightning_seg.errors import InputError
from lightning_seg.models.frame.weights import describe_weights


@pytest.fixture
def spec(tmp_path):
    return make_spec(str(tmp_path / "runs"), 4, grace=90.0)


@pytest.fixture
def study(spec, tmp_path):
    return open_study(spec, str(tmp_path / "s.journal"), "s")


def fill(study, spec):
    queue.tend(study, spec, queue.SilenceWatch(spec.grace))


def take(study, spec):
    return queue.claim(study, spec.wanted())


def test_the_queue_is_filled_once_and_each_trial_taken_once(study, spec):
    fill(study, spec)
    fill(study, spec)
    taken = [take(study, spec) for _ in range(5)]
    assert [trial.number for trial in taken[:4]] == [0, 1, 2, 3]
    assert taken[4] is None


def waiting(study):
    states = (TrialState.WAITING,)
    return [trial.user_attrs["slot"] for trial in study.get_trials(deepcopy=False, states=states)]


def test_a_long_search_queues_some_trials_ahead_and_goes_on_in_order(tmp_path):
    spec = make_spec(str(tmp_path / "runs"), queue.AHEAD + 36)
    study = open_study(spec, str(tmp_path / "s.journal"), "s")
    fill(study, spec)
    assert waiting(study) == [*range(queue.AHEAD)]
    for _ in range(10):
        queue.finish(study, take(study, spec), TrialResult("complete", [0.5]))
    queue.finish(study, take(study, spec), TrialResult("failed", reason="died"), "died")
    fill(study, spec)
    # the one that died is queued beside them
    assert sorted(waiting(study)) == [10, *range(11, 11 + queue.AHEAD)]
    while (trial := take(study, spec)) is not None:
        queue.finish(study, trial, TrialResult("complete", [0.5]))
        fill(study, spec)
    assert queue.done(spec, study.trials)
    assert sum(trial.state == TrialState.COMPLETE for trial in study.trials) == spec.trials


def test_all_of_a_sweep_is_queued_for_several_launchers_may_want_parts_of_it(tmp_path):
    points = [dataclasses.asdict(SweepPoint(f"p{i}", 42, [])) for i in range(queue.AHEAD + 36)]
    spec = make_spec(str(tmp_path / "runs"), len(points), points=points)
    study = open_study(spec, str(tmp_path / "s.journal"), "s")
    fill(study, spec)
    assert len(waiting(study)) == len(points)


def test_a_trial_is_done_when_it_is_complete_pruned_or_failed_for_good(study, spec):
    fill(study, spec)
    ends = [
        (TrialResult("complete", [0.5]), None),
        (TrialResult("pruned"), None),
        (TrialResult("failed", reason="out of memory"), None),
        (TrialResult("failed", reason="its worker died"), "died"),
    ]
    for result, again in ends:
        assert not queue.done(spec, study.trials)
        assert queue.finish(study, take(study, spec), result, again)
    assert not queue.done(spec, study.trials)
    fill(study, spec)
    retry = take(study, spec)
    assert (retry.user_attrs["slot"], retry.user_attrs["attempt"], retry.user_attrs["deaths"]) == (
        3,
        1,
        1,
    )
    queue.finish(study, retry, TrialResult("failed", reason="its worker died"), "died")
    assert queue.done(spec, study.trials)
    fill(study, spec)
    assert take(study, spec) is None


def test_an_interrupted_trial_goes_back_as_often_as_it_is_interrupted(study, spec):
    fill(study, spec)
    for attempt in range(4):
        trial = next(t for t in iter(lambda: take(study, spec), None) if t.user_attrs["slot"] == 3)
        assert trial.user_attrs["attempt"] == attempt
        queue.finish(study, trial, TrialResult("failed", reason="interrupted"), "interrupted")
        fill(study, spec)


def test_a_trial_that_was_queued_twice_is_run_once(study, spec):
    queue.enqueue(study, [queue.QueueItem(0), queue.QueueItem(0), queue.QueueItem(1)])
    taken = [take(study, spec), take(study, spec)]
    assert [trial.user_attrs["slot"] for trial in taken] == [0, 1]
    assert study.trials[1].user_attrs["reason"] == "queued twice, see trial 0"
    assert not queue.done(spec, study.trials)


def test_many_takers_never_share_a_trial(study, spec, tmp_path):
    spec = dataclasses.replace(spec, trials=24)
    queue.enqueue(study, map(queue.QueueItem, range(24)))

    def work(_):
        own = optuna.load_study(study_name="s", storage=open_storage(str(tmp_path / "s.journal")))
        return [trial.number for trial in iter(lambda: take(own, spec), None)]

    with ThreadPoolExecutor(6) as pool:
        taken = [number for numbers in pool.map(work, range(6)) for number in numbers]
    assert sorted(taken) == list(range(24))


def test_a_worker_of_another_machine_counts_as_dead_after_its_silence_and_not_before(
    study, spec, monkeypatch
):
    now = 1000.0
    monkeypatch.setattr(queue.time, "monotonic", lambda: now)
    watch = queue.SilenceWatch(90)
    fill(study, spec)
    trial = take(study, spec)
    trial.set_user_attr("worker", "elsewhere 1 2")
    for beat in range(8):
        trial.set_user_attr("beat", beat)
        now += 20
        queue.tend(study, spec, watch)
    assert study.trials[0].state == TrialState.RUNNING
    for _ in range(5):
        now += 20
        queue.tend(study, spec, watch)
    assert study.trials[0].state == TrialState.FAIL


def test_a_pause_of_the_looker_is_no_silence_of_the_worker(study, spec, monkeypatch):
    now = 1000.0
    monkeypatch.setattr(queue.time, "monotonic", lambda: now)
    watch = queue.SilenceWatch(90)
    fill(study, spec)
    take(study, spec).set_user_attr("worker", "elsewhere 1 2")
    for _ in range(3):
        queue.tend(study, spec, watch)
        now += 600
    assert study.trials[0].state == TrialState.RUNNING


def test_a_worker_of_this_machine_is_alive_only_if_its_process_is(study, spec):
    fill(study, spec)
    take(study, spec)
    fill(study, spec)
    assert study.trials[0].state == TrialState.RUNNING
    host, pid, started = queue.identity().split(" ")
    take(study, spec).set_user_attr(
        "worker", f"{host} {pid} {int(started) - 1}"
    )  # the id of a process of before
    fill(study, spec)
    assert study.trials[1].state == TrialState.FAIL


def test_a_worker_that_died_with_its_result_on_disk_costs_the_trial_no_retry(study, spec):
    watch = queue.SilenceWatch(spec.grace)
    queue.tend(study, spec, watch)
    for result in (None, TrialResult("complete", [0.5])):
        trial = take(study, spec)
        trial.set_user_attr("worker", queue.identity().rpartition(" ")[0] + " 1")
        if result:
            place = trial_folder(spec, trial.user_attrs["slot"])
            place.mkdir(parents=True)
            result.write(place)
        queue.tend(study, spec, watch)
    assert [trial.user_attrs["again"] for trial in study.trials[:2]] == ["died", "interrupted"]


def test_a_glob_chooses_the_points_of_a_sweep_by_their_whole_name(spec):
    names = ("unet", "attention_unet", "unet fold 1")
    sweep = dataclasses.replace(
        spec, space=None, points=[SweepPoint(name, 42, []) for name in names], trials=3
    )
    assert sweep.wanted("unet seed 42") == {0}
    assert sweep.wanted("unet*") == {0, 2}
    assert sweep.wanted("*unet seed*") == {0, 1}
    assert sweep.wanted() == {0, 1, 2}


def test_a_study_stalls_after_so_many_trials_without_a_better_one(study, spec):
    spec = dataclasses.replace(spec, patience=2)
    fill(study, spec)
    for value, stalled in [(0.5, False), (0.6, False), (0.6, False), (0.1, True)]:
        queue.finish(study, take(study, spec), TrialResult("complete", [value]))
        assert queue.stalled(spec, study) == stalled


def test_a_study_is_taken_up_only_as_it_was(study, spec, tmp_path):
    def again(**changes):
        return open_study(dataclasses.replace(spec, **changes), str(tmp_path / "s.journal"), "s")

    for changes, word in [
        ({"space": {"x": {"float": [0.0, 2.0]}}}, "space"),
        ({"objective": "val/loss"}, "objective"),
        ({"minimize": "gmacs"}, "minimize"),
        ({"args": ["--model.lr", "1"]}, "args"),
        ({"digest": "1"}, "the recipe of study 's' has changed"),
    ]:
        with pytest.raises(InputError, match=word):
            again(**changes)
    assert again(trials=9).user_attrs["filler"] == queue.identity()
    assert StudySpec.load(again(trials=2).user_attrs["spec"]).trials == 9


def test_a_study_is_not_taken_up_with_another_augmentation_in_the_same_file(spec, tmp_path):
    file = tmp_path / "augment.yaml"
    file.write_text("- {name: HorizontalFlip}")
    values = {"data.augment": str(file), "model.options": {"deep": ["none.yaml", 3]}}
    before = dataclasses.replace(spec, files=named_files(values))
    assert list(before.files) == [str(file)]
    assert before.resumed(dataclasses.replace(spec, files=named_files([values])), "s") == before
    file.write_text("- {name: VerticalFlip}")
    now = dataclasses.replace(spec, files=named_files(values))
    with pytest.raises(InputError, match=r"augment.yaml, which study 's' names, has changed"):
        before.resumed(now, "s")
    # a study of an older version kept nothing of it
    assert spec.resumed(now, "s").files == now.files


def test_a_study_of_another_version_can_be_read(spec):
    content = json.loads(spec.dump())
    del content["maximum"]
    assert StudySpec.load(json.dumps(content | {"of_later": 1})) == spec


def test_a_sweep_grows_by_points_and_keeps_the_numbers_of_those_it_has(spec):
    def points(*names):
        return [SweepPoint(name, 1, ["--model.architecture", name]) for name in names]

    old = dataclasses.replace(spec, space=None, points=points("unet", "resunet"), trials=2)
    new = old.resumed(dataclasses.replace(old, points=points("vnet", "resunet"), trials=2), "s")
    assert [point.name for point in new.points] == ["unet", "resunet", "vnet"]
    assert new.trials == 3
    with pytest.raises(InputError, match="exists with another unet seed 1"):
        old.resumed(dataclasses.replace(old, points=[SweepPoint("unet", 1, [])]), "s")


def test_runs_of_a_study_that_the_storage_does_not_know_are_not_touched(spec, tmp_path):
    (tmp_path / "runs" / "trial_0000").mkdir(parents=True)
    for _ in range(2):
        with pytest.raises(
            InputError, match="holds the runs of an earlier study, such as trial_0000"
        ):
            open_study(spec, str(tmp_path / "new.journal"), "s")


def test_a_study_of_someone_else_is_refused(spec, tmp_path):
    storage = str(tmp_path / "other.journal")
    made = optuna.create_study(study_name="s", storage=open_storage(storage, create=True))
    made.ask()
    with pytest.raises(InputError, match=r"was not made by `python -m hpo run`"):
        open_study(spec, storage, "s")


def test_a_trial_above_the_memory_limit_is_infeasible(spec):
    spec = dataclasses.replace(spec, maximum=2.0)
    study = optuna.create_study(direction="maximize")
    for memory, value in [(1.5, 0.5), (2.5, 0.9)]:
        trial = study.ask()
        result = judge_memory(
            spec, trial, TrialResult("complete", [value], facts={"memory": memory})
        )
        study.tell(trial, result.values)
    assert study.best_trial.number == 0


def test_workers_draw_differently(spec, tmp_path):
    drawn = set()
    for seed in range(8):
        study = optuna.create_study(
            sampler=make_sampler(dataclasses.replace(spec, sampler="tpe"), seed)
        )
        drawn.add(study.ask({"x": optuna.distributions.FloatDistribution(0, 1)}).params["x"])
    assert len(drawn) == 8


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_finds_the_better_half(spec, name):
    chosen = make_sampler(dataclasses.replace(spec, sampler=name), 0)
    study = optuna.create_study(sampler=chosen, direction="maximize")
    study.optimize(lambda trial: -((trial.suggest_float("x", 0, 1) - 0.3) ** 2), 14)
    assert abs(study.best_params["x"] - 0.3) < 0.25


@pytest.mark.parametrize("name", [name for name in PRUNERS if name not in ("none", "wilcoxon")])
def test_every_pruner_stops_what_is_worse(spec, name):
    budget = {"trainer.max_epochs": 27}
    spec = dataclasses.replace(spec, pruner=name, base=budget, trials=30, keep=5)
    study = optuna.create_study(pruner=make_pruner(spec), direction="maximize", study_name="s")
    stopped = []
    for number in range(30):
        trial, quality = study.ask(), (number * 7 % 30) / 30
        for epoch in range(27):
            trial.report(quality, epoch)
            if trial.should_prune():
                stopped.append(quality)
                break
        study.tell(trial, quality, state=None) if epoch == 26 else study.tell(
            trial, state=TrialState.PRUNED
        )
    assert len(stopped) > 8
    assert max(stopped) < 29 / 30
    assert sum(stopped) / len(stopped) < 0.5


def test_only_deaths_under_a_launcher_that_lived_on_count_against_a_trial(study, spec):
    def die():
        trial = take(study, spec)
        trial.set_user_attr("worker", queue.identity().rpartition(" ")[0] + " 1")
        return trial

    fill(study, spec)
    watch = queue.SilenceWatch(spec.grace)
    die()
    queue.tend(study, spec, watch)
    die()
    queue.tend(study, spec, watch)
    failed = [trial for trial in study.trials if trial.state == TrialState.FAIL]
    assert [trial.user_attrs["again"] for trial in failed] == ["interrupted", "died"]
    assert [t.user_attrs["deaths"] for t in study.trials[4:]] == [0, 1]


def test_a_folder_of_another_trial_is_not_taken_for_a_trial_s_own(tmp_path):
    folder = tmp_path / "trial_0000"
    assert claim_folder(folder, ["--model.lr", "0.1"]) == ""
    assert claim_folder(folder, ["--model.lr", "0.1"]) == ""
    assert "a trial of other values" in claim_folder(folder, ["--model.lr", "0.2"])
    assert holds_trial(tmp_path, ["--model.lr", "0.2"])  # of an older version, without a mark


def labelled(study, **labels):
    trial = study.ask()
    for key, value in labels.items():
        trial.set_user_attr(key.replace("_", " "), value)
    return trial


def test_other_encoder_weights_than_those_of_earlier_trials_are_refused(
    study, monkeypatch, tmp_path
):
    name, file = "mobilenetv2", tmp_path / "mobilenetv2.safetensors"
    monkeypatch.setenv("LIGHTNING_SEG_WEIGHTS", str(tmp_path))
    file.write_bytes(b"first")
    labelled(study, weights_mobilenetv2=describe_weights(file)["sha256"])
    check_weights(study)
    file.write_bytes(b"other")
    with pytest.raises(InputError, match=f"the encoder {name} starts, is another file than"):
        check_weights(study)


def test_trials_of_unlike_code_are_told(study, monkeypatch):
    assert code_warning(study.trials, ahead=True) == ""
    labelled(study, code="commit a")
    assert code_warning(study.trials) == ""
    monkeypatch.setattr("hpo.conditions.code_text", lambda: "commit b")
    assert "1 trial by commit a; those to come by commit b" in code_warning(
        study.trials, ahead=True
    )
    labelled(study, code="commit b")
    assert "1 trial by commit a; 1 trial by commit b" in code_warning(study.trials)
