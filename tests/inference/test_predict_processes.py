"""One process for each device: the same files as of one, and nothing left behind."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lightning_seg.errors import InputError
from lightning_seg.inference.__main__ import main
from lightning_seg.inference.device_work import (
    PORTION,
    device_places,
    picture_portions,
    scan_portions,
)
from tests.inference.conftest import write_checkpoint
from tests.inference.test_predict_volumes import body, save

ROOT = Path(__file__).parent.parent.parent
TWO = ["--devices", "cpu,cpu"]


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """More pictures than one process takes at a time."""
    folder = tmp_path_factory.mktemp("many")
    noise = np.random.default_rng(1).integers(0, 256, (PORTION + 20, 12, 16, 3), np.uint8)
    for number, image in enumerate(noise):
        Image.fromarray(image).save(folder / f"{number:04d}.png")
    return folder


def arguments(checkpoint, source, output, *options):
    place = ["--ckpt_path", str(checkpoint), "--input", str(source), "--output", str(output)]
    return [*place, "--batch_size", "5", *options]


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_two_processes_write_what_one_writes_and_go_on_where_they_were_left(
    checkpoint, many, tmp_path, capfd
):
    found = {}
    many = shutil.copytree(many, tmp_path / "in")
    (many / "0007.png").write_bytes(b"no picture")
    for name, devices in (("one", ["--devices", "cpu"]), ("two", TWO)):
        options = [*devices, "--probabilities", "--coco"]
        with pytest.raises(SystemExit):
            main(arguments(checkpoint, many, tmp_path / name, *options))
        assert "0007.png (10 bytes) is no readable" in capfd.readouterr().err
        found[name] = contents(tmp_path / name)
    assert len(found["one"]) > 2 * PORTION
    assert found["one"] == found["two"]
    (tmp_path / "two" / "masks" / "0003.png").unlink()
    with pytest.raises(SystemExit):
        main(arguments(checkpoint, many, tmp_path / "two", *options))
    assert f"{PORTION + 18} of {PORTION + 20} pictures are done already" in capfd.readouterr().out
    assert contents(tmp_path / "two").keys() == found["one"].keys()


@pytest.mark.slow
def test_volumes_are_shared_by_processes(tmp_path, capfd):
    options = {"spacing": None, "pad": None}
    file = write_checkpoint(
        tmp_path / "ct.ckpt", dataset="lits", in_channels=1, dataset_options=options
    )
    folder = tmp_path / "scans"
    folder.mkdir()
    for number in range(3):
        save(folder / f"scan{number}.nii", body((32, 32, 4 + number)))
    (folder / "scan3.nii").write_bytes(b"no volume")
    for name, devices in (("one", ["--devices", "cpu"]), ("two", TWO)):
        with pytest.raises(SystemExit):
            main(arguments(file, folder, tmp_path / name, *devices))
        assert "scan3.nii" in capfd.readouterr().err
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert len(contents(tmp_path / "two")) == 3 + 3


@pytest.mark.slow
def test_a_process_that_cannot_begin_gives_its_sentence(checkpoint, many, tmp_path, monkeypatch):
    copy = tmp_path / "copy.ckpt"
    copy.write_bytes(checkpoint.read_bytes())
    from lightning_seg.inference import command

    class Late(command.DeviceProcesses):
        def do(self, pieces):
            copy.write_bytes(b"damaged since")
            yield from super().do(pieces)

    monkeypatch.setattr(command, "DeviceProcesses", Late)
    with pytest.raises(InputError, match=r"copy\.ckpt"):
        main(arguments(copy, many, tmp_path / "out", *TWO))


@pytest.mark.parametrize(
    ("number", "victim"),
    [(signal.SIGINT, "parent"), (signal.SIGTERM, "parent"), (signal.SIGKILL, "child")],
)
@pytest.mark.slow
def test_a_signal_ends_all_processes(number, victim, checkpoint, many, tmp_path):
    command = [sys.executable, "-m", "lightning_seg", "predict"]
    command += arguments(checkpoint, many, tmp_path / "out", *TWO)
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        env=env,
        text=True,
        start_new_session=True,
    ) as run:
        children = wait_for(lambda: two_children(run.pid))
        if victim == "child":
            os.kill(children[0], number)
        else:
            os.killpg(run.pid, number)
        _, errors = run.communicate(timeout=300)
    assert run.returncode != 0
    assert victim == "parent" or "ended by SIGKILL" in errors
    wait_for(lambda: not any(map(is_running, children)))
    main(arguments(checkpoint, many, tmp_path / "out", *TWO))
    main(arguments(checkpoint, many, tmp_path / "fresh", "--devices", "cpu"))
    ours, theirs = contents(tmp_path / "out"), contents(tmp_path / "fresh")
    assert ours == theirs


def wait_for(condition, seconds=240):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, condition
        time.sleep(0.05)
    return found


def two_children(pid):
    listing = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(one) for one in listing] if len(listing) == 2 else []


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] != "Z"
    except OSError:
        return False


def test_devices_are_one_process_each_and_the_threads_of_the_processor_are_of_one():
    assert device_places("auto") == device_places("cpu") == ["cpu"]
    assert device_places("cpu,cpu") == ["cpu", "cpu"]
    with pytest.raises(InputError, match="there is no device"):
        device_places("cpu,gpu7")


@pytest.mark.parametrize("size", [None, 1, 5, 300])
def test_portions_hold_whole_batches_and_whole_scans(size):
    portions = picture_portions(range(1000), size)
    assert [one for portion in portions for one in portion] == list(range(1000))
    assert all(len(portion) % (size or 1) == 0 for portion in portions[:-1])
    scans = [[f"{scan}-{place}" for place in range(100)] for scan in range(7)]
    found = scan_portions(scans)
    assert [len(portion) for portion in found] == [300, 300, 100]
    assert [id for portion in found for id in portion] == [id for scan in scans for id in scan]
    assert scan_portions([]) == []
