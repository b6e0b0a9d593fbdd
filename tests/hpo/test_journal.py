"""When a journal waits for its disk, and what others see of it meanwhile."""

import os

import optuna
import pytest
from optuna.trial import TrialState

from hpo.storage import open_storage


@pytest.fixture
def place(tmp_path):
    return str(tmp_path / "study.journal")


@pytest.fixture
def waits(monkeypatch):
    """The sizes that the journal had whenever it waited for the disk."""
    found, real = [], os.fsync

    def fsync(number):
        found.append(os.fstat(number).st_size)
        real(number)

    monkeypatch.setattr(os, "fsync", fsync)
    return found


def test_the_disk_is_waited_for_when_a_trial_begins_and_ends(place, waits):
    study = optuna.create_study(study_name="s", storage=open_storage(place, create=True))
    waits.clear()
    trial = study.ask()
    assert len(waits) == 1
    trial.suggest_float("x", 0, 1)
    trial.set_user_attr("host", "here")
    for step in range(5):
        trial.report(step / 10, step)
    assert len(waits) == 1
    study.tell(trial, 0.5)
    assert len(waits) == 2
    assert waits[-1] == os.path.getsize(place)


def test_what_a_running_trial_told_is_read_by_others_at_once(place):
    study = optuna.create_study(study_name="s", storage=open_storage(place, create=True))
    trial = study.ask()
    trial.set_user_attr("host", "here")
    trial.report(0.25, 3)
    other = optuna.load_study(study_name="s", storage=open_storage(place))
    [seen] = other.get_trials()
    assert seen.state == TrialState.RUNNING
    assert seen.user_attrs == {"host": "here"}
    assert seen.intermediate_values == {3: 0.25}


def test_its_lines_are_those_that_optuna_reads(place):
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    study = optuna.create_study(study_name="s", storage=open_storage(place, create=True))
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=3)
    plain = optuna.load_study(study_name="s", storage=JournalStorage(JournalFileBackend(place)))
    assert [trial.params for trial in plain.trials] == [trial.params for trial in study.trials]
    plain.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    assert len(study.get_trials()) == 4
