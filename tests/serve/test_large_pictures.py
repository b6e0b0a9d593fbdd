"""A server as a process of its own takes five pictures of 49 megapixels at once, and its memory returns."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.inference.conftest import write_checkpoint

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="reads the memory of a process in /proc"),
]
ROOT = Path(__file__).parent.parent.parent
SIDE = 7000
RETURNED = 200  # MB that the server may hold beyond what a small picture left


@pytest.fixture
def server(tmp_path):
    """The process and its address; what it has to say stands in said.txt."""
    checkpoint = write_checkpoint(tmp_path / "polyp.ckpt")
    command = [sys.executable, "-m", "lightning_seg", "serve", "--ckpt_path", str(checkpoint)]
    process = subprocess.Popen(
        [*command, "--port", "0", "--device", "cpu"],
        stdout=subprocess.PIPE,
        stderr=(tmp_path / "said.txt").open("w"),
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    lines = iter(process.stdout.readline, "")
    address = next(found[1] for line in lines if (found := re.search(r"(http://\S+:\d+)", line)))
    yield process, address
    process.terminate()
    process.wait(60)


def photograph(side):
    """A JPEG of coarse noise, as large as one of a slide may be."""
    coarse = np.random.default_rng(0).integers(0, 255, (side // 50, side // 50, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(coarse).resize((side, side), Image.Resampling.BILINEAR).save(file, "jpeg")
    return file.getvalue()


def sent(address, content):
    request = urllib.request.Request(f"{address}/api/predict", content, method="POST")
    with urllib.request.urlopen(request, timeout=900) as answer:
        return json.load(answer)


def megabytes(process, name="VmRSS"):
    status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
    return int(re.search(rf"{name}:\s+(\d+) kB", status)[1]) / 1024


def test_five_pictures_of_49_megapixels_queue_and_their_memory_returns(server):
    process, address = server
    sent(address, photograph(500))
    before = megabytes(process)
    content = photograph(SIDE)
    with ThreadPoolExecutor(5) as senders:
        answers = list(senders.map(lambda _: sent(address, content), range(5)))
    assert sorted(answer.get("ahead", 0) for answer in answers) == [0, 1, 2, 3, 4]
    assert all(answer["waited"] > 0 for answer in answers if "ahead" in answer)
    assert {(answer["width"], answer["height"]) for answer in answers} == {(SIDE, SIDE)}
    assert len({answer["classes"][0]["mask"] for answer in answers}) == 1
    end = time.monotonic() + 60
    while megabytes(process) > before + RETURNED and time.monotonic() < end:
        time.sleep(0.1)
    after, most = megabytes(process), megabytes(process, "VmHWM")
    print(f"{before:.0f} MB before, {most:.0f} at most, {after:.0f} after")
    assert after <= before + RETURNED
    assert most <= before + 3000  # one picture at a time is decoded


def test_a_server_that_ends_sends_those_away_who_wait(server, tmp_path):
    process, address = server
    content, before = photograph(SIDE), megabytes(process)
    with ThreadPoolExecutor(3) as senders:
        waiting = [senders.submit(sent, address, content) for _ in range(3)]
        while megabytes(process) < before + 100:  # it holds a picture
            time.sleep(0.1)
        process.terminate()
        for each in waiting:
            error = each.exception(300)
            assert error is None or isinstance(error, OSError)
    assert process.wait(300) in (0, -signal.SIGTERM, 128 + signal.SIGTERM)
    assert "Traceback" not in (tmp_path / "said.txt").read_text(encoding="utf-8")
