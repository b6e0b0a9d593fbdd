"""What a study survives: real processes, killed."""

import os
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest
from driving import Driven, is_alive, stop

from hpo.queue import attempts

FINISHED = ("COMPLETE", "PRUNED")


def assert_whole(driven, trials):
    """The study has its trials: each slot one result, no training that ended ran twice."""
    finished = driven.trials(*FINISHED)
    assert Counter(trial.user_attrs["slot"] for trial in finished) == Counter(range(trials)), (
        driven.log()
    )
    assert not driven.trials("RUNNING", "WAITING")
    assert sorted(trial.number for trial in driven.trials()) == list(range(len(driven.trials())))
    ends = Counter(driven.ends())
    assert set(ends.values()) == {1}
    assert ends == Counter(repr(trial.params) for trial in finished)


def running(driven, number=1):
    return lambda: len([t for t in driven.trials("RUNNING") if t.user_attrs.get("run")]) >= number


def test_a_study_ends_with_exactly_its_trials_and_each_is_described(driven):
    driven.finish(6, workers=3)
    assert_whole(driven, 6)
    for trial in driven.trials():
        assert {"slot", "command", "run", "worker", "host", "seconds"} <= set(trial.user_attrs)
        assert len(trial.intermediate_values) == 5


@pytest.mark.slow
def test_two_objectives_end_in_a_pareto_front(driven):
    driven.finish(6, function="objectives:pair", minimize="gmacs")
    assert len(driven.trials("COMPLETE")) == 6
    assert len(driven.open().best_trials) == 6  # more score costs more, by this objective
    assert driven.log().count("best: ") == 6


@pytest.mark.slow
def test_more_trials_are_added_to_a_finished_study_and_none_is_run_again(driven):
    driven.finish(3)
    driven.finish(5)
    assert_whole(driven, 5)
    assert "failed" in driven.log()


def test_a_killed_worker_costs_one_attempt(driven):
    launcher = driven.start(4, nap=1.5)
    driven.wait_for(running(driven))
    victim = driven.trials("RUNNING")[0]
    os.kill(int(victim.user_attrs["worker"].split()[1]), signal.SIGKILL)
    assert launcher.wait(180) == 0, driven.log()
    assert_whole(driven, 4)
    failed = driven.trials("FAIL")
    assert [(trial.number, trial.user_attrs["reason"]) for trial in failed] == [
        (victim.number, "its worker died")
    ]
    retried = attempts(driven.trials())[victim.user_attrs["slot"]]
    assert retried.user_attrs["attempt"] == 1
    assert retried.params == victim.params


def test_a_killed_launcher_takes_its_workers_along_and_the_same_command_goes_on(driven):
    launcher = driven.start(4, nap=2.0)
    driven.wait_for(running(driven, 2))
    workers = [int(trial.user_attrs["worker"].split()[1]) for trial in driven.trials("RUNNING")]
    launcher.kill()
    driven.wait_for(lambda: not any(map(is_alive, [*workers, *driven.alive()])), 60)
    driven.finish(4)
    assert_whole(driven, 4)


@pytest.mark.slow
def test_everything_killed_at_once_is_noticed_at_the_next_start(driven):
    launcher = driven.start(4, nap=2.0)
    driven.wait_for(running(driven, 2))
    workers = [int(trial.user_attrs["worker"].split()[1]) for trial in driven.trials("RUNNING")]
    for pid in [launcher.pid, *workers]:
        os.kill(pid, signal.SIGKILL)
    launcher.wait()
    assert len(driven.trials("RUNNING")) == 2
    driven.finish(4)
    assert_whole(driven, 4)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_puts_running_trials_back_into_the_queue(driven, number):
    launcher = driven.start(4, nap=2.0)
    driven.wait_for(running(driven, 2))
    launcher.send_signal(number)
    assert launcher.wait(60) == 128 + number
    assert not driven.trials("RUNNING")
    assert {trial.user_attrs["reason"] for trial in driven.trials("FAIL")} == {"interrupted"}
    assert not driven.alive()
    driven.finish(4)
    assert_whole(driven, 4)


def test_a_trial_whose_process_crashes_is_retried_once_and_the_rest_goes_on(driven):
    driven.finish(2, function="objectives:crash")
    assert Counter(trial.user_attrs["slot"] for trial in driven.trials("FAIL")) == {0: 2, 1: 2}
    assert all("SIGSEGV" in trial.user_attrs["reason"] for trial in driven.trials())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("function", "reason"), [("out_of_memory", "out of memory"), ("nan", "not a number")]
)
def test_a_failure_that_would_repeat_is_recorded_with_its_reason_and_not_retried(
    driven, function, reason
):
    driven.finish(2, function=f"objectives:{function}")
    assert [reason in trial.user_attrs["reason"] for trial in driven.trials("FAIL")] == [True, True]


@pytest.mark.slow
def test_failed_trials_are_run_again_where_one_asks_for_it(driven):
    driven.finish(2, function="objectives:broken")
    assert len(driven.trials("FAIL")) == 2
    driven.finish(2, function="objectives:broken")
    assert len(driven.trials()) == 2
    (driven.folder / "mended").touch()
    driven.finish(2, function="objectives:broken", again=True)
    assert {trial.user_attrs["slot"] for trial in driven.trials("COMPLETE")} == {0, 1}


@pytest.mark.slow
def test_two_launchers_share_one_study(driven):
    launchers = [driven.start(6, nap=0.5), driven.start(6, nap=0.5)]
    assert [launcher.wait(180) for launcher in launchers] == [0, 0], driven.log()
    assert_whole(driven, 6)
    assert not driven.trials("FAIL")


@pytest.mark.slow
def test_a_time_limit_stops_the_start_of_trials_and_nothing_else(driven):
    driven.finish(200, nap=0.3, minutes=15 / 60)
    finished = len(driven.trials("COMPLETE"))
    assert 0 < finished < 200
    assert "out of time" in driven.log()
    assert len(driven.ends()) == finished


@pytest.mark.slow
def test_a_study_stops_when_it_no_longer_improves(driven):
    driven.finish(60, nap=0.05, patience=4, workers=1)
    values = [trial.value for trial in driven.trials("COMPLETE")]
    assert values.index(max(values)) == len(values) - 5
    assert "no improvement" in driven.log()


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 2 MiB."""
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)]
    if os.getuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount a small file system")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.slow
def test_a_full_disk_under_the_journal_holds_the_study_up_and_loses_nothing(tmp_path, small_disk):
    driven = Driven(tmp_path, storage=str(small_disk / "study.journal"))
    launcher = driven.start(8, nap=0.4)
    driven.wait_for(lambda: len(driven.trials("COMPLETE")) >= 2)
    fill(small_disk / "ballast")
    time.sleep(2.5)
    before = len(driven.trials("COMPLETE"))
    assert launcher.poll() is None
    assert before < 8
    (small_disk / "ballast").unlink()
    assert launcher.wait(180) == 0, driven.log()
    assert_whole(driven, 8)
    stop(driven)


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"0" * 512)
        except OSError:
            pass


@pytest.mark.slow
def test_a_half_written_line_at_the_end_of_the_journal_is_dropped(driven):
    driven.finish(2)
    with Path(driven.storage).open("a") as file:
        file.write('{"op_code":4,"worker_id":"x","stu')
    driven.finish(4)
    assert_whole(driven, 4)
