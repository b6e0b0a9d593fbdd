"""A step of a longer command ends in order with the process that started it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lightning_seg.files.steps import run_step

ROOT = Path(__file__).parents[2]
STARTER = (
    "import sys; from lightning_seg.files.steps import run_step; run_step(sys.argv[1:], 'napping')"
)
NAPPING = """
import signal, sys, time
from pathlib import Path
from lightning_seg.files.steps import begin_step, is_step

def end(number, frame):
    Path(sys.argv[1], "ended").write_text(f"{signal.Signals(number).name} {is_step()}")
    raise SystemExit(143)

signal.signal(signal.SIGTERM, end)
begin_step()
Path(sys.argv[1], "began").touch()
time.sleep(60)
"""


def wait_for(file):
    deadline = time.monotonic() + 30
    while not file.is_file() or (not file.stat().st_size and file.name == "ended"):
        assert time.monotonic() < deadline, f"{file.name} is not there"
        time.sleep(0.02)


@pytest.fixture
def napping(tmp_path, monkeypatch):
    """The folder of a step that naps, and tells when it begins and what ends it."""
    (tmp_path / "napping.py").write_text(NAPPING)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(ROOT)]))
    return tmp_path


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_whatever_ends_the_starter_ends_its_step_as_sigterm_does(napping, number):
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTER, str(napping)], stderr=subprocess.DEVNULL
    )
    wait_for(napping / "began")
    starter.send_signal(number)
    assert starter.wait(30) != 0
    wait_for(napping / "ended")
    assert (napping / "ended").read_text() == "SIGTERM True"


def test_a_step_whose_time_is_over_is_ended(napping):
    assert run_step([str(napping)], "napping", seconds=1) in (143, -signal.SIGTERM)


def test_a_step_is_a_command_of_the_front_door():
    assert run_step(["--version"]) == 0
    assert run_step(["no-such-command"]) == 2
