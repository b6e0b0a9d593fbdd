"""Studies on a real PostgreSQL server, and through Optuna's gRPC proxy."""

import os
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from driving import Driven, stop

from hpo.storage import open_storage, resolve
from lightning_seg.errors import InputError

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parent.parent.parent


def url(postgres):
    return resolve(postgres.url, Path("runs"), "s")


def assert_whole(driven, trials):
    found = driven.trials("COMPLETE")
    assert Counter(trial.user_attrs["slot"] for trial in found) == Counter(range(trials)), (
        driven.log()
    )
    assert [trial.number for trial in driven.trials()] == list(range(len(driven.trials())))
    assert Counter(driven.ends()) == Counter(repr(trial.params) for trial in found)


@pytest.fixture
def on_postgres(tmp_path, postgres):
    made = Driven(tmp_path, storage=url(postgres))
    yield made
    stop(made)


def test_sixteen_workers_lose_and_double_no_trial(on_postgres):
    on_postgres.finish(48, seconds=300, nap=0.2, workers=16)
    assert_whole(on_postgres, 48)
    assert not on_postgres.trials("FAIL", "RUNNING", "WAITING")
    assert len({trial.user_attrs["worker"] for trial in on_postgres.trials()}) > 8


def test_a_killed_server_holds_the_study_up_until_it_is_back(on_postgres, postgres):
    launcher = on_postgres.start(8, nap=0.5)
    on_postgres.wait_for(lambda: len(on_postgres.trials("COMPLETE")) >= 2)
    postgres.kill()
    assert launcher.poll() is None
    postgres.start()
    assert launcher.wait(180) == 0, on_postgres.log()
    assert_whole(on_postgres, 8)
    assert not on_postgres.trials("FAIL")


def test_two_machines_start_the_same_command_at_once(on_postgres):
    launchers = [on_postgres.start(8, nap=0.3), on_postgres.start(8, nap=0.3)]
    assert [launcher.wait(180) for launcher in launchers] == [0, 0], on_postgres.log()
    assert_whole(on_postgres, 8)


def test_workers_share_a_storage_through_the_proxy(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    journal = str(tmp_path / "study.journal")
    command = [
        sys.executable,
        "-m",
        "hpo",
        "serve",
        "--storage",
        journal,
        "--port",
        str(port),
    ]
    server = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
    driven = Driven(tmp_path, storage=f"grpc://localhost:{port}")
    try:
        driven.finish(6, workers=3)
        assert_whole(driven, 6)
    finally:
        stop(driven)
        server.terminate()
        server.wait(10)


def test_a_storage_that_cannot_be_reached_is_named_in_one_sentence():
    with pytest.raises(
        InputError, match=r"storage 'postgresql://u:\*\*\*@127.0.0.1:9/x' cannot be reached"
    ) as caught:
        open_storage(resolve("postgresql://u:secret@127.0.0.1:9/x", Path("runs"), "s"))
    assert "secret" not in str(caught.value)
    with pytest.raises(InputError, match="there is no study at"):
        open_storage("/nowhere/study.journal")
