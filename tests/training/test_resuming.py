"""A run that is ended at any batch and resumed equals one that is not, under Lightning's options and each schedule."""

import itertools
import signal

import lightning as L
import pytest
import torch

from lightning_seg import cli
from lightning_seg.data.dataset import EpochSampler
from lightning_seg.errors import InputError
from lightning_seg.runs import Run

TINY = """
trainer: {accelerator: cpu, precision: 32-true, enable_progress_bar: false, logger: false, num_sanity_val_steps: 0}
data: {dataset: phantom_polyp, protocol: %s, size: 16, batch_size: 4, dataset_options: {resolution: 16}}
model: {architecture: unet, options: {widths: [4, 8]}, lr: 0.01}
"""
RHYTHMS = {
    "each second epoch": ["--trainer.check_val_every_n_epoch", "2"],
    "twice an epoch": ["--trainer.val_check_interval", "0.5"],
    "each 5 steps": [
        *("--trainer.val_check_interval", "5"),
        *("--trainer.check_val_every_n_epoch", "null"),
    ],
    "20 steps": ["--trainer.max_steps", "20"],
    "4 batches": ["--trainer.limit_train_batches", "4"],
    "steps of 2": ["--trainer.accumulate_grad_batches", "2"],
    "steps of 3, twice": [
        *("--trainer.accumulate_grad_batches", "3"),
        *("--trainer.val_check_interval", "3"),
    ],
}
SCHEDULES = {
    "cosine": [],
    "constant": ["--model.schedule", "constant"],
    "plateau": [
        *("--model.schedule", "plateau"),
        *("--model.schedule_options", "{patience: 0, factor: 0.5}"),
    ],
    "multistep": [
        *("--model.schedule", "multistep"),
        *("--model.schedule_options", "{milestones: [1, 3], gamma: 0.3}"),
    ],
}
DROPS = [
    *("--data.size", "32", "--model.options", "{}", "--model.encoder", "test_efficientnet"),
    *("--model.encoder_options", "{drop_path_rate: 0.3}"),
]
QUICK = [("twice an epoch", "plateau"), ("20 steps", "cosine")]


class EndAt(L.Callback):
    """Ctrl-C before the batch that follows a number of steps."""

    def __init__(self, step):
        self.step = step

    def on_train_batch_start(self, trainer, *_):
        if trainer.global_step >= self.step:
            raise KeyboardInterrupt


@pytest.fixture
def fit(tmp_path):
    rows = [
        f"polyp-{i:04d},{'train' if i < 24 else 'val' if i < 28 else 'test'}" for i in range(30)
    ]
    head = "# name: tiny\n# version: 1\n# rule: the first 30\nid,split\n"
    (tmp_path / "tiny.csv").write_text(head + "\n".join(rows) + "\n")
    (tmp_path / "tiny.yaml").write_text(TINY % (tmp_path / "tiny.csv"))

    def run(name, options, *more, end_at=None):
        place = ["-c", str(tmp_path / "tiny.yaml"), "--runs", str(tmp_path), "--name", name]
        ends = [EndAt(end_at)] if end_at else []
        try:
            cli.run(["fit", *place, *options, *more], ends)
        except SystemExit:
            assert end_at
        return Run.open(tmp_path / name)

    return run


def weights(run):
    return torch.load(run.last.path, weights_only=True)["state_dict"]


def assert_resumed_equals_whole(fit, options, share):
    whole = fit("whole", options)
    ended = fit("ended", options, end_at=int(whole.last.step * share))
    assert ended.ending.status == "interrupted"
    resumed = fit("ended", options, "--ckpt_path", "last")
    ours, theirs = weights(resumed), weights(whole)
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    assert (resumed.best.epoch, resumed.best.value) == (whole.best.epoch, whole.best.value)
    names = [path.name for path in whole.checkpoint_folder.iterdir()]
    assert sorted(path.name for path in resumed.checkpoint_folder.iterdir()) == sorted(names)
    assert resumed.ending == whole.ending


def options_of(rhythm, schedule):
    length = [] if rhythm == "20 steps" else ["--trainer.max_epochs", "5"]
    return [*RHYTHMS[rhythm], *SCHEDULES[schedule], *length]


@pytest.mark.parametrize(("rhythm", "schedule"), QUICK)
def test_a_resumed_run_equals_a_whole_one(fit, rhythm, schedule):
    assert_resumed_equals_whole(fit, options_of(rhythm, schedule), 0.75)


@pytest.mark.slow
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(("rhythm", "share"), zip(RHYTHMS, itertools.cycle([0.45, 0.75])))
def test_so_does_one_with_drop_path_under_each_schedule(fit, rhythm, schedule, share):
    assert_resumed_equals_whole(fit, [*options_of(rhythm, schedule), *DROPS], share)


def test_ctrl_c_is_heard_again_after_a_training_that_it_ended(fit):
    before = signal.getsignal(signal.SIGINT)
    assert before is signal.default_int_handler
    fit("ended", options_of("4 batches", "constant"), end_at=3)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_validation_between_the_halves_of_a_step_is_refused(fit):
    options = ["--trainer.accumulate_grad_batches", "4", "--trainer.val_check_interval", "2"]
    with pytest.raises(InputError, match=r"after batch 2 of 6, in the midst of a step"):
        fit("torn", options)


def test_an_epoch_is_not_resumed_with_other_batches(fit):
    options = options_of("twice an epoch", "constant")
    fit("ended", options, end_at=10)  # after the validation at batch 3 of epoch 2
    with pytest.raises(InputError, match=r"within an epoch of batches of 4"):
        fit("ended", options, "--ckpt_path", "last", "--data.batch_size", "8")


def test_the_rest_of_an_epoch_is_what_was_not_seen_of_it():
    def keys(start=(0, 0), epoch=3):
        sampler = EpochSampler(range(10), 2, 1, seed=1, drop_last=True, start=start)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert keys((3, 2)) == keys()[2:]
    assert keys((2, 2)) == keys()
    assert len(keys()) == 5
