"""What is told of a study while it runs."""

import datetime

import optuna
import pytest
from drive import make_spec
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState, create_trial

from hpo.progress import Progress, describe, duration


def made(slot, state, value=None, steps=(), **attributes):
    now = datetime.datetime.now()
    trial = create_trial(
        state=state,
        value=value,
        params={"x": 0.123456},
        distributions={"x": FloatDistribution(0, 1)},
        intermediate_values=dict(enumerate(steps)),
        user_attrs={"slot": slot, "attempt": 0, "deaths": 0, **attributes},
    )
    trial.datetime_start = now - datetime.timedelta(seconds=30)
    return trial


@pytest.mark.parametrize(
    ("trial", "line"),
    [
        (
            made(0, TrialState.COMPLETE, 0.9, seconds=75.2),
            "trial_0000  x=0.123  val/dice 0.9000  1 min 15 s",
        ),
        (
            made(7, TrialState.RUNNING, None, (0.1, 0.2), max_epochs=40),
            "trial_0007  x=0.123  running, epoch 2 of 40, val/dice 0.2000",
        ),
        (
            made(1, TrialState.FAIL, reason="out of memory"),
            "trial_0001  x=0.123  failed: out of memory",
        ),
        (
            made(2, TrialState.PRUNED, 0.3, (0.3,), max_epochs=9),
            "trial_0002  x=0.123  pruned, epoch 1 of 9, val/dice 0.3000",
        ),
    ],
)
def test_a_trial_is_one_line(trial, line, tmp_path):
    assert describe(trial, make_spec(str(tmp_path), 9)) == line


def test_each_change_is_told_once_with_the_time_that_is_left(tmp_path, capsys):
    study = optuna.create_study(direction="maximize")
    study.add_trials([made(0, TrialState.COMPLETE, 0.9, seconds=60), made(1, TrialState.RUNNING)])
    with Progress(study) as progress:
        for _ in range(3):
            progress.show(make_spec(str(tmp_path), 5), workers=2)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert (
        "1 of 5 done, 1 running, 2 workers, about 1 min" in lines[0]
    )  # (4 trials of 60 s - 30 s of the running one) / 2


def test_durations_are_told_in_two_units():
    assert [duration(s) for s in (0.4, 59, 61, 3600, 3 * 3600 + 125)] == [
        "0 s",
        "59 s",
        "1 min 01 s",
        "1 h 00 min",
        "3 h 02 min",
    ]
