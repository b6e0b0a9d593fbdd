"""Fixtures of studies that run as processes."""

import pytest
from driving import Driven, Postgres, postgres_binaries, stop


@pytest.fixture
def driven(tmp_path):
    made = Driven(tmp_path)
    yield made
    stop(made)


@pytest.fixture
def postgres(tmp_path_factory):
    if postgres_binaries() is None:
        pytest.skip("no PostgreSQL on this machine: apt-get install postgresql")
    folder = tmp_path_factory.mktemp("postgres")
    for parent in list(folder.parents)[:3]:
        if parent.name.startswith(("pytest", "popen")):
            parent.chmod(0o755)  # pytest's own folders are closed to the user postgres
    server = Postgres(folder)
    server.start()
    yield server
    server.stop()
