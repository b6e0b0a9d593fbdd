"""Helper processes: what they return and raise, and that none outlives its parent."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lightning_seg.data.side_processes import SideProcesses
from lightning_seg.errors import InputError


def make_adder(first):
    if first is None:
        raise InputError("nothing to add to; give a number.")

    def work(piece):
        print("not an answer")
        if piece == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if piece == "exit":
            os._exit(3)
        if piece == "wait":
            time.sleep(60)
        if piece == "odd":
            raise OddError("one", "two")
        return first + piece, os.getpid()

    return work


class OddError(Exception):
    """An error that pickle cannot make anew."""

    def __init__(self, first, second):
        super().__init__(f"{first} and {second}")


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] != "Z"
    except OSError:
        return False


def ends(pid, seconds=20.0):
    limit = time.monotonic() + seconds
    while is_alive(pid) and time.monotonic() < limit:
        time.sleep(0.05)
    return not is_alive(pid)


def test_pieces_are_done_in_other_processes_whose_errors_are_raised_here():
    with SideProcesses(make_adder, [(10,), (10,)]) as helpers:
        with ThreadPoolExecutor(2) as pool:
            found = list(pool.map(helpers, range(6)))
        assert [value for value, _ in found] == list(range(10, 16))
        pids = {pid for _, pid in found}
        assert os.getpid() not in pids
        with pytest.raises(TypeError, match="unsupported operand") as caught:
            helpers("text")
        assert "in work" in caught.value.__notes__[0]
        with pytest.raises(RuntimeError, match="one and two"):
            helpers("odd")
        assert helpers(1)[0] == 11
    assert all(map(ends, pids))


def test_a_helper_that_cannot_be_made_says_why_at_each_piece():
    with SideProcesses(make_adder, [(None,)]) as helpers:
        for _ in range(2):
            with pytest.raises(InputError, match="give a number"):
                helpers(1)


@pytest.mark.parametrize(
    ("piece", "words"), [("die", "ended by SIGKILL, perhaps for want"), ("exit", "exit code 3")]
)
def test_a_helper_that_ends_before_its_time_is_told_of(piece, words):
    with SideProcesses(make_adder, [(0,)]) as helpers:
        for _ in range(2):
            with pytest.raises(InputError, match=words):
                helpers(piece)


def test_work_under_way_is_given_up_where_the_context_is_left():
    start = time.monotonic()
    with ThreadPoolExecutor(1) as pool, SideProcesses(make_adder, [(0,)]) as helpers:
        _, pid = helpers(1)
        waiting = pool.submit(helpers, "wait")
        time.sleep(0.2)
    assert isinstance(waiting.exception(), InputError)
    assert time.monotonic() - start < 30
    assert ends(pid)


PARENT = """
import signal, sys, threading, time
# a shell's background job ignores Ctrl-C, and so would its children
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.path.insert(0, {folder!r})
from test_side_processes import make_adder
from lightning_seg.data.side_processes import SideProcesses

helpers = SideProcesses(make_adder, [(0,)])
print(helpers(1)[1], flush=True)
threading.Thread(target=helpers, args=["wait"], daemon=True).start()
time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_helper_outlives_its_parent(number):
    script = PARENT.format(folder=str(Path(__file__).parent))
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as parent:
        pid = int(parent.stdout.readline())
        time.sleep(0.3)
        os.killpg(parent.pid, number)  # as a terminal does
        parent.wait(120)
    assert ends(pid)
