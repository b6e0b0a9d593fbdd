"""The training of a trial: what it reports, that it stops where it is told to, goes on where it was, and tests once."""

import json
import shlex
import socket
from dataclasses import replace

import optuna
import pytest
import torch
from driving import Driven, stop

from hpo import options, training, trial_process
from hpo.recipe import check_space, dry_run
from hpo.space import read_space
from hpo.thinning import thin_trial
from hpo.trial_messages import TrainingError, TrialJob
from hpo.trials import make_job, trial_arguments, trial_labels
from lightning_seg.errors import InputError, PortTakenError
from lightning_seg.runs import Run
from lightning_seg.runs.checkpoints import read_checkpoint
from lightning_seg.runs.trained_network import read_network
from lightning_seg.training.module import SegmentationModule

TINY = """
trainer: {accelerator: cpu, max_epochs: 4}
data: {dataset: phantom_polyp, protocol: %s, size: 32, batch_size: 4, num_workers: 0, dataset_options: {resolution: 32}}
model: {architecture: unet, options: {widths: [4, 8]}, lr: 0.01}
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    """A recipe that trains in seconds: 12 / 6 / 5 phantoms of 32 pixels."""
    folder = tmp_path_factory.mktemp("recipe")
    rows = [
        f"polyp-{i:04d},{'train' if i < 12 else 'val' if i < 18 else 'test'}" for i in range(23)
    ]
    head = "# name: tiny\n# version: 1\n# rule: the first 23\nid,split\n"
    (folder / "tiny.csv").write_text(head + "\n".join(rows) + "\n")
    (folder / "tiny.yaml").write_text(TINY % (folder / "tiny.csv"))
    return folder / "tiny.yaml"


class Listener:
    """A channel that remembers, and says stop at a step."""

    def __init__(self, stop_at=None):
        self.stop_at, self.reports, self.told = stop_at, [], {}

    def report(self, step, value):
        self.reports.append((step, value))
        return step == self.stop_at

    def facts(self, **facts):
        self.told |= facts


def job(recipe, folder, *args, **settings):
    path = folder / "trial_0000"
    own = ["-c", str(recipe), *args, "--runs", str(folder), "--name", path.name]
    return TrialJob(
        **{
            "folder": str(path),
            "args": own,
            "params": {},
            "objective": "val/dice",
            "maximize": True,
            **settings,
        }
    )


def test_a_trial_is_an_ordinary_run_judged_by_its_best_epoch(recipe, tmp_path):
    listener = Listener()
    result = training.train(job(recipe, tmp_path), listener)
    assert result.state == "complete"
    assert [step for step, _ in listener.reports] == [0, 1, 2, 3]
    assert result.values == [max(value for _, value in listener.reports)]
    assert result.facts["epochs"] == 4
    best = next((tmp_path / "trial_0000" / "version_0").glob("checkpoints/best*.ckpt"))
    assert f"{result.values[0]:.4f}" in best.name
    assert read_checkpoint(best)["hyper_parameters"]["lr"] == 0.01
    assert not list(tmp_path.glob("**/test-*"))
    only_the_best_weights_are_kept(recipe, tmp_path, best)


def only_the_best_weights_are_kept(recipe, folder, best):
    """What is left of the trial once it has ended, and of a pruned one."""
    before = read_checkpoint(best)
    of_a_sweep = job(recipe, folder, test=True)
    for other, state in ((of_a_sweep, "complete"), (of_a_sweep, "pruned"), (None, "failed")):
        thin_trial(other or job(recipe, folder), state)
        assert len(list(best.parent.iterdir())) == 2, state
    thin_trial(job(recipe, folder), "complete")
    assert list(best.parent.iterdir()) == [best]
    after = read_checkpoint(best)
    assert set(before) - set(after) == {"optimizer_states", "lr_schedulers"}
    for name, weights in before["state_dict"].items():
        assert torch.equal(weights, after["state_dict"][name])
    assert Run.open(best.parent.parent).best.path == best
    read_network(best)
    thin_trial(job(recipe, folder), "pruned")
    assert not list(best.parent.iterdir())


def test_a_trial_stops_after_the_epoch_in_which_it_is_pruned(recipe, tmp_path):
    listener = Listener(stop_at=1)
    result = training.train(job(recipe, tmp_path, test=True), listener)
    assert (result.state, result.facts["epochs"]) == ("pruned", 2)
    assert not list(tmp_path.glob("**/test-*"))


def test_a_trial_that_died_goes_on_from_its_last_epoch_to_the_same_end(recipe, tmp_path):
    calm = training.train(job(recipe, tmp_path / "calm"), Listener())

    class DeathError(Exception):
        pass

    class Mortal(Listener):
        def report(self, step, value):
            if step == 2:
                raise DeathError
            return super().report(step, value)

    with pytest.raises(DeathError):
        training.train(job(recipe, tmp_path / "wild"), Mortal())
    listener = Listener()
    result = training.train(job(recipe, tmp_path / "wild"), listener)
    assert result.values == calm.values
    assert [step for step, _ in listener.reports] == [0, 1, 2, 3]
    assert [path.name for path in (tmp_path / "wild" / "trial_0000").iterdir()] == ["version_0"]


def test_a_sweep_point_is_tested_once_however_often_it_is_taken_up(recipe, tmp_path):
    for _ in range(2):
        assert training.train(job(recipe, tmp_path, test=True), Listener()).state == "complete"
    assert len(list(tmp_path.glob("trial_0000/version_0/test-*/*/scores.csv"))) == 1
    assert len((tmp_path / "ledger.csv").read_text(encoding="utf-8").splitlines()) == 1 + 1


def test_a_loss_that_is_not_a_number_fails_the_trial_with_its_epoch(recipe, tmp_path):
    with pytest.raises(TrainingError, match=r"val/loss is not a number in epoch 1"):
        training.train(
            job(recipe, tmp_path, "--model.lr", "1e30", "--model.optimizer", "sgd"), Listener()
        )


def test_a_trial_on_other_data_than_earlier_ones_is_refused(recipe, tmp_path):
    first = Listener()
    short = ("--trainer.max_epochs", "1")
    training.train(job(recipe, tmp_path / "first", *short), first)
    same = job(recipe, tmp_path / "same", *short, data={"": first.told["data"]})
    assert training.train(same, Listener()).state == "complete"
    with pytest.raises(InputError, match="not those of the study's earlier trials"):
        training.train(job(recipe, tmp_path / "other", *short, data={"": "0f-0f"}), Listener())


def test_the_data_of_a_trial_are_those_of_earlier_ones_that_read_alike(recipe, space):
    spec = replace(
        parsed(recipe, space, "--trials", "3"),
        space={"data.batch_size": {"categorical": [2, 4]}, "model.lr": {"float": [0.1, 0.2]}},
    )
    study = optuna.create_study()
    for batch in (2, 4):
        study.enqueue_trial({"data.batch_size": batch, "model.lr": 0.1}, {"slot": 0})
    assert make_job(spec, study.ask()).data == {"": ""}
    other = study.ask()
    other.study._storage.set_trial_user_attr(study.trials[0]._trial_id, "data", "aa-bb")
    assert make_job(spec, other).data == {"": ""}
    study.enqueue_trial({"data.batch_size": 2, "model.lr": 0.2}, {"slot": 0})
    assert make_job(spec, study.ask()).data == {"": "aa-bb"}


def test_an_objective_that_is_not_logged_is_named_with_those_that_are(recipe, tmp_path):
    with pytest.raises(
        InputError,
        match=r"the objective 'val/dice_tumour' is not logged in this run; there are .*val/dice",
    ):
        training.train(job(recipe, tmp_path, objective="val/dice_tumour"), Listener())


def test_replicas_are_runs_of_their_own_and_the_trial_is_their_mean(recipe, tmp_path):
    replicas = {f"seed{seed}": ["--seed_everything", str(seed)] for seed in (1, 2)}
    listener = Listener()
    result = training.train(
        job(recipe, tmp_path, "--trainer.max_epochs", "2", replicas=replicas), listener
    )
    assert [step for step, _ in listener.reports] == [0, 1]
    assert result.values == [pytest.approx(sum(value for _, value in listener.reports) / 2)]
    assert {path.name for path in tmp_path.iterdir()} == {"trial_0000-seed1", "trial_0000-seed2"}
    listener = Listener(stop_at=0)
    (tmp_path / "again").mkdir()
    assert (
        training.train(job(recipe, tmp_path / "again", replicas=replicas), listener).state
        == "pruned"
    )
    assert len(listener.reports) == 1


def test_the_cost_beside_the_score_is_that_of_the_network(recipe, tmp_path):
    result = training.train(
        job(recipe, tmp_path, "--trainer.max_epochs", "1", cost="gmacs"), Listener()
    )
    net = SegmentationModule("unet", options={"widths": [4, 8]}).net
    macs = sum(macs_of(net))
    assert result.values[1] == pytest.approx(macs / 1e9)


def macs_of(net):
    """Multiply-adds of the convolutions on 32 pixels, by hand."""
    found = []

    def hook(module, inputs, output):
        weight = module.weight
        area = inputs[0] if isinstance(module, torch.nn.ConvTranspose2d) else output
        found.append(weight.numel() * area.shape[-1] * area.shape[-2])

    for module in net.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.ConvTranspose2d):
            module.register_forward_hook(hook)
    net.eval()(torch.zeros(1, 3, 32, 32))
    return found


def parsed(recipe, space, *args):
    parser = options.run_parser()
    found, fixed = parser.parse_known_args(["--recipe", str(recipe), "--space", str(space), *args])
    options.check_overrides(fixed)
    options.check_names(found)
    return options.make_spec(found, fixed, "s", "/nowhere/s.journal")


@pytest.fixture
def space(tmp_path):
    path = tmp_path / "space.yaml"
    path.write_text(
        "model.lr: {float: [0.001, 0.1], log: true}\nmodel.options.widths: {categorical: [[4], [4, 8]]}\n"
    )
    return path


def test_a_study_starts_with_the_recipe_itself_and_its_command_can_be_pasted(recipe, space):
    spec = parsed(recipe, space, "--data.batch_size", "2", "--trials", "3")
    assert spec.start[0] == {"model.lr": 0.01, "model.options.widths": "[4, 8]"}
    args = trial_arguments(spec, 0, ["--model.lr", "0.02"])
    values = dry_run(args[1], args[2:])
    assert (values["model.lr"], values["data.batch_size"], values["name"]) == (
        0.02,
        2,
        "trial_0000",
    )


def test_the_epoch_that_is_kept_is_the_one_that_the_objective_likes_best_whatever_the_recipe_says(
    recipe, space
):
    other = recipe.with_name("by_loss.yaml")
    other.write_text(
        recipe.read_text(encoding="utf-8") + "checkpoint: {monitor: val/loss, mode: min}\n"
    )
    for objective, mode in (("val/dice", "max"), ("val/loss", "min")):
        spec = parsed(other, space, "--objective", objective)
        args = trial_arguments(spec, 0, [])
        values = dry_run(args[1], args[2:])
        assert (values["checkpoint.monitor"], values["checkpoint.mode"]) == (objective, mode)


def test_the_commands_of_replicas_are_those_of_their_runs(recipe, space):
    study = optuna.create_study()
    study.enqueue_trial({}, {"slot": 3})
    spec, trial = parsed(recipe, space, "--seeds-per-trial", "2"), study.ask()
    found = trial_labels(spec, trial, make_job(spec, trial))
    assert found["run"].split() == [
        f"{spec.runs}/trial_0003-seed{seed}/version_0" for seed in (42, 43)
    ]
    for command, seed in zip(found["command"].split(" && "), (42, 43), strict=True):
        words = shlex.split(command)
        values = dry_run(words[3], words[4:])
        assert (values["seed_everything"], values["name"]) == (seed, f"trial_0003-seed{seed}")


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["-c", "other.yaml"], "there is no option '-c'"),
        (["--objective", "test/dice"], "the objective is 'test/dice', but the test set is sealed"),
        (
            ["--objective", "val/dise"],
            "no score to monitor named 'val/dise'; did you mean 'val/dice'",
        ),
        (["--objective", "train/dice"], "give a validation score"),
        (["--sampler", "tpi"], "no sampler named 'tpi'; did you mean 'tpe'"),
        (["--pruner", "medain"], "no pruner named 'medain'; did you mean 'median'"),
        (["--pruner", "median", "--seeds-per-trial", "3"], "--pruner median does not fit"),
        (["--pruner", "median", "--and-minimize", "gmacs"], "cannot weigh two objectives"),
        (["--seeds-per-trial", "2", "--folds-per-trial", "2"], "not both"),
        (["--checkpoint.monitor", "val/loss"], "use --objective"),
        (["--model.architecture", "unett"], "no architecture named 'unett'"),
        (["--trials", "0"], "at least 1"),
        (["--trails", "9"], "there is no option '--trails'"),
    ],
)
def test_a_study_that_cannot_be_is_refused_in_a_sentence(recipe, space, args, sentence):
    with pytest.raises(InputError, match=sentence):
        parsed(recipe, space, *args)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (
            "model.lrr: {float: [0.001, 0.1]}",
            "there is no option 'model.lrr'; did you mean 'model.lr'",
        ),
        (
            "model.architecture: {categorical: [unet, resunett]}",
            "no architecture named 'resunett'; did you mean 'resunet'",
        ),
        ("model.options.width: {int: [1, 2]}", "width"),
        ("data.batch_size: {categorical: [two]}", "data.batch_size"),
        ("model.warmup: {float: [0.0, 2.0]}", "warmup is 2.0"),
    ],
)
def test_every_key_choice_and_end_of_a_space_is_tried_before_the_first_trial(
    recipe, tmp_path, line, sentence
):
    (tmp_path / "space.yaml").write_text(line)
    with pytest.raises(InputError, match=sentence) as caught:
        check_space(str(recipe), [], read_space(tmp_path / "space.yaml"))
    assert "the space does not fit" in str(caught.value)


@pytest.mark.parametrize("key", ["data.protocol", "data.root", "trainer.limit_val_batches"])
def test_a_space_does_not_vary_the_images_by_which_trials_are_ranked(recipe, tmp_path, key):
    (tmp_path / "space.yaml").write_text(f"{key}: {{categorical: [1, 2]}}")
    with pytest.raises(InputError, match=f"varies {key}, so trials would be ranked by scores"):
        check_space(str(recipe), [], read_space(tmp_path / "space.yaml"))


@pytest.mark.slow
@pytest.mark.parametrize("failing", [False, True])
def test_each_seed_of_a_trial_on_two_devices_has_a_group_of_its_own(recipe, tmp_path, failing):
    """In a process, as in a study: `train` changes that in which it runs."""
    driven = Driven(tmp_path)
    replicas = {f"seed-{seed}": ["--seed_everything", str(seed)] for seed in (1, 2)}
    args = ["--trainer.max_epochs", "1", *(["--data.batch_size", "3"] if failing else [])]
    study = {"space": {"model.lr": {"float": [1e-3, 1e-1]}}, "pruner": "none", "args": args}
    try:
        driven.finish(
            1, seconds=300, workers=1, devices=2, function=None, recipe=str(recipe),
            replicas=replicas, **study,
        )  # fmt: skip
    finally:
        stop(driven)
    (trial,) = driven.trials()
    if failing:
        assert "batch_size 3 cannot be shared by 2 devices" in trial.user_attrs["reason"]
        return
    assert trial.state.name == "COMPLETE", driven.log()
    assert trial.user_attrs["epochs"] == 2
    runs = sorted(
        path.parent.parent.name for path in tmp_path.glob("runs/s/*/version_0/checkpoints")
    )
    assert runs == ["trial_0000-seed-1", "trial_0000-seed-2"]


@pytest.mark.slow
def test_a_trial_whose_port_is_taken_meets_on_another(recipe, tmp_path):
    driven = Driven(tmp_path)
    args = ["--trainer.max_epochs", "1"]
    study = {"space": {"model.lr": {"float": [1e-3, 1e-1]}}, "pruner": "none", "args": args}
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        own = {"MASTER_PORT": str(taken.getsockname()[1])}
        try:
            driven.finish(
                1, seconds=300, workers=1, devices=2, function=None, recipe=str(recipe), own=own,
                **study,
            )  # fmt: skip
        finally:
            stop(driven)
    (trial,) = driven.trials()
    assert trial.state.name == "COMPLETE", trial.user_attrs


@pytest.mark.parametrize("error", [PortTakenError("port 1 is taken"), InputError("no such recipe")])
def test_a_trial_whose_port_was_taken_meanwhile_is_tried_again(error, monkeypatch):
    def fail(job, channel):
        raise error

    monkeypatch.setattr(trial_process, "_training", fail)
    result = trial_process._guarded(TrialJob("runs", [], {}, "val/dice", True), None)
    assert (result.state, result.again) == ("failed", isinstance(error, PortTakenError))


@pytest.mark.slow
def test_trials_of_two_devices_finish_and_are_pruned_together(recipe, tmp_path):
    driven = Driven(tmp_path)
    space = {"model.lr": {"float": [1e-8, 1e-1], "log": True}}
    start = [{"model.lr": 0.02}, {"model.lr": 1e-8}]
    study = {"space": space, "start": start, "pruner": "asha", "objective": "val/loss"}
    try:
        driven.finish(
            2, seconds=500, workers=1, devices=2, function=None, recipe=str(recipe), **study
        )
    finally:
        stop(driven)
    assert [trial.state.name for trial in driven.trials()] == ["COMPLETE", "PRUNED"], driven.log()
    epochs = [
        json.loads(p.read_text(encoding="utf-8"))["facts"]["epochs"]
        for p in sorted(tmp_path.glob("runs/s/*/result.json"))
    ]
    assert epochs == [4, 2]
