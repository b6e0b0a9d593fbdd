"""`predict --profile` names what a faster prediction would have to make faster."""

import re
import threading
import time

import pytest

from lightning_seg.errors import InputError
from lightning_seg.inference import images, pipeline
from lightning_seg.inference.__main__ import main
from lightning_seg.inference.stage_clock import StageClock


def test_a_stage_is_busy_for_the_share_of_its_threads_at_work():
    clock, moment = StageClock(), threading.Event()
    slow = clock.timed("slow", 1, lambda seconds: moment.wait(seconds))
    fast = clock.timed("fast", 2, lambda seconds: moment.wait(seconds))
    clock.timed("idle", 1, lambda _: None)
    begin = time.perf_counter()
    for _ in range(3):
        slow(0.1)
        fast(0.02)
    elapsed = time.perf_counter() - begin
    assert set(clock.busy) == {"slow", "fast"}
    assert 0.3 / elapsed <= clock.busy["slow"] <= 1
    assert clock.busy["fast"] == pytest.approx((1 - clock.busy["slow"]) / 2, abs=0.02)
    assert list(clock.lines())[-1].endswith("the slowest is slow")


def test_what_fails_counts_too():
    clock = StageClock()
    with pytest.raises(ZeroDivisionError):
        clock.timed("broken", 1, lambda _: 1 / 0)(None)
    assert set(clock.busy) == {"broken"}
    assert not list(StageClock().lines())


@pytest.mark.parametrize(
    ("place", "name", "stage"),
    [
        (images, "_load_picture", "reading"),
        (pipeline, "_forward", "network"),
        (images, "_finish", "writing"),
    ],
)
def test_the_stage_that_takes_longest_is_named(
    checkpoint, pictures, tmp_path, capsys, monkeypatch, place, name, stage
):
    work = getattr(place, name)

    def slow(*args):
        threading.Event().wait(0.3)
        return work(*args)

    monkeypatch.setattr(place, name, slow)
    command = ["--ckpt_path", str(checkpoint), "--input", str(pictures), "--devices", "cpu"]
    main([*command, "--output", str(tmp_path / "out"), "--batch_size", "1", "--profile"])
    lines = re.findall(r"^profile:  (.*)$", capsys.readouterr().out, re.MULTILINE)
    assert [line.split(":")[0] for line in lines[:3]] == ["reading", "network", "writing"]
    assert lines[3].endswith(f"the slowest is {stage}")


def test_it_is_of_pictures_that_input_names(checkpoint):
    with pytest.raises(InputError, match="--profile is for pictures that --input names"):
        main(["--ckpt_path", str(checkpoint), "--profile"])
