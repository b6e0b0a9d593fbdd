"""A database that is away at the start, its password, and the resumption of a large study."""

import os
import sys

import optuna
import pytest

from hpo import launcher, storage
from hpo.options import add_engine_options
from hpo.progress import Progress
from hpo.results.outcome import add_outcome_options
from hpo.slots import WorkerSlot
from hpo.spec import StudySpec, SweepPoint
from hpo.storage import hide_password, open_storage
from lightning_seg.errors import InputError
from lightning_seg.options import OptionParser

SECRET = "postgresql://me:secret@127.0.0.1:5432/x"


def opened_after(failures, monkeypatch, error):
    """Let storages open at the attempt after so many failures; how often it was tried."""
    tries = []

    def attempt(name, create):
        tries.append(name)
        if len(tries) <= failures:
            raise error
        return optuna.storages.InMemoryStorage()

    monkeypatch.setattr(storage, "_open", attempt)
    monkeypatch.setattr(storage.time, "sleep", lambda seconds: None)
    return tries


def test_a_launcher_that_starts_while_its_database_is_away_waits(monkeypatch):
    tries = opened_after(3, monkeypatch, OSError("connection refused"))
    assert open_storage(SECRET, wait=True).get_all_studies() == []
    assert len(tries) == 4
    tries = opened_after(3, monkeypatch, OSError("connection refused"))
    with pytest.raises(InputError, match="cannot be reached"):
        open_storage(SECRET)
    assert len(tries) == 1


def test_a_wrong_password_is_not_waited_for(monkeypatch):
    error = OSError('password authentication failed for user "me"')
    tries = opened_after(3, monkeypatch, error)
    with pytest.raises(InputError, match="cannot be reached") as caught:
        open_storage(SECRET, wait=True)
    assert len(tries) == 1
    assert "secret" not in str(caught.value)


def test_who_is_told_to_end_does_not_wait(monkeypatch):
    opened_after(3, monkeypatch, OSError("connection refused"))
    with pytest.raises(InputError, match="the same command goes on"):
        open_storage(SECRET, stop=lambda: True, wait=True)


def test_no_list_of_processes_shows_the_password(monkeypatch):
    seen = []
    monkeypatch.setattr(
        launcher.subprocess, "Popen", lambda *args, **kwargs: seen.append((args, kwargs))
    )
    launcher.Launcher(SECRET, "study", [])._start(WorkerSlot(0, {}))
    [((command,), options)] = seen
    assert "secret" not in str(command)
    assert options["env"]["LIGHTNING_SEG_STORAGE"] == SECRET
    for given in (["--storage", SECRET], [f"--storage={SECRET}"]):
        started = []
        monkeypatch.setattr(
            sys, "orig_argv", ["python", "-m", "hpo", "run", *given, "--trials", "3"]
        )
        monkeypatch.setattr(os, "execve", lambda *args, to=started: to.append(args))
        hide_password()
        [(_, args, environment)] = started
        assert args == ["python", "-m", "hpo", "run", "--trials", "3"]
        assert environment["LIGHTNING_SEG_STORAGE"] == SECRET
    for given in ("study.journal", "postgresql://me@host/x", "sqlite:///x.db"):
        started = []
        monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "hpo", "run", "--storage", given])
        hide_password()
        assert started == []


def test_commands_take_their_storage_from_the_environment(monkeypatch):
    monkeypatch.setenv("LIGHTNING_SEG_STORAGE", SECRET)
    assert _given(add_outcome_options).storage == SECRET
    assert _given(add_engine_options, "--storage", "a.journal").storage == "a.journal"
    monkeypatch.delenv("LIGHTNING_SEG_STORAGE")
    assert _given(add_engine_options).storage is None


def _given(add_options, *args):
    parser = OptionParser()
    add_options(parser)
    return parser.parse_args(args)


def test_a_large_study_is_resumed_with_one_line(capsys, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: False)
    points = [SweepPoint(f"net{number}", 42, []) for number in range(300)]
    spec = StudySpec("r.yaml", "", [], "runs", 300, points=points)
    study = optuna.create_study(direction="maximize")
    attributes = [{"slot": number, "attempt": 0, "seconds": 1.0} for number in range(300)]
    ended = [optuna.trial.create_trial(value=0.5, user_attrs=each) for each in attributes[:299]]
    study.add_trials(ended)
    progress = Progress(study)
    progress.show(spec, 2)
    assert capsys.readouterr().out.splitlines() == ["299 trials had ended before: 299 complete"]
    study.add_trial(optuna.trial.create_trial(value=0.7, user_attrs=attributes[299]))
    progress.show(spec, 2)
    [line] = capsys.readouterr().out.splitlines()
    assert line.startswith("trial_0299")
