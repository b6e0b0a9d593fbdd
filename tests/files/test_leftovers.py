"""What a process that was killed left under temporary names is removed by the next one that writes there."""

import os
import subprocess
import sys
import time

import pytest

from lightning_seg.files import leftovers, whole
from lightning_seg.files.leftovers import part_folder, part_name

WRITER = """
import os, sys
from pathlib import Path
from lightning_seg.files.leftovers import part_folder, part_name
target = Path(sys.argv[1])
with part_folder(target / "made") as folder:
    (folder / "a.txt").write_text("half")
    part_name(target / "b.csv").write_text("half")
    print("written", flush=True)
    sys.stdin.read()
    os._exit(9)
"""


@pytest.fixture
def tidy(monkeypatch):
    """As if this process had not looked anywhere yet; the function makes it so once more."""

    def anew():
        monkeypatch.setattr(leftovers, "_tidied", set())

    anew()
    return anew


def start_writer(folder):
    command = [sys.executable, "-c", WRITER, str(folder)]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
    assert process.stdout.readline() == "written\n"
    return process


def test_a_dead_writer_s_files_are_removed_and_a_living_one_s_stay(tmp_path, tidy):
    (tmp_path / ".hidden").write_text("mine")
    (tmp_path / "data.part").write_text("an interrupted download")
    writer = start_writer(tmp_path)
    assert len(list(tmp_path.glob("*.part"))) == 3
    with whole(tmp_path / "c.txt") as part:
        part.write_text("whole")
    assert len(list(tmp_path.glob("*.part"))) == 3
    writer.communicate()
    assert writer.returncode == 9
    tidy()
    with whole(tmp_path / "c.txt") as part:
        part.write_text("whole")
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {".hidden", "data.part", "c.txt"}


def test_the_number_of_a_dead_process_that_another_one_has_does_not_protect(tmp_path, tidy):
    name = part_name(tmp_path / "a").name
    host, number, start = name.split("-")[1:4]
    (tmp_path / f".a-{host}-{number}-{int(start) - 1}-0000.part").write_text("of before")
    (tmp_path / f".a-{'0' * 6}-{number}-{start}-0000.part").write_text("of another machine")
    tidy()
    part_name(tmp_path / "a")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["of another machine"]


def test_what_says_nothing_of_its_writer_goes_when_it_is_old(tmp_path, tidy):
    for name, days in (("new", 1), ("old", 30)):
        file = tmp_path / f".{name}-0123abcd.part"
        file.write_text("")
        os.utime(file, (time.time() - days * 86_400,) * 2)
    part_name(tmp_path / "a")
    assert [path.name for path in tmp_path.iterdir()] == [".new-0123abcd.part"]


def test_long_names_and_names_that_are_no_utf8_have_parts(tmp_path, tidy):
    for name in ("ß" * 120, os.fsdecode(b"\xff\xfe" * 60), "a" * 250):
        part_name(tmp_path / name).write_text("")
    with part_folder(tmp_path / ("b" * 200)) as folder:
        (folder / "x").write_text("")
    assert not folder.exists()
