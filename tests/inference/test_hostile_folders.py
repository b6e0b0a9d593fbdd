"""Pipes, devices, loops and odd names in folders, and places that take no results: the rest is predicted, or told in a sentence."""

import csv
import os
import socket
import struct
import subprocess
import time
import zlib

import numpy as np
import pytest
from PIL import Image

from lightning_seg.__main__ import main
from tests.inference.conftest import write_checkpoint


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("hostile") / "polyp.ckpt")


def put(path, shape=(20, 24, 3)):
    content = np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)
    Image.fromarray(content).save(path, "png")


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "in"
    place.mkdir()
    put(place / "good.png")
    return place


def predicted(checkpoint, given, output):
    """The exit code of `predict`."""
    args = ["--ckpt_path", checkpoint, "--devices", "cpu", "--input", given, "--output", output]
    try:
        main(["predict", *map(str, args)])
    except SystemExit as end:
        return end.code
    return 0


def chunk(kind, content):
    part = kind + content
    return struct.pack(">I", len(content)) + part + struct.pack(">I", zlib.crc32(part))


def png(width, height, content, *more):
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n" + head + b"".join(more) + chunk(b"IDAT", content) + chunk(b"IEND", b"")
    )


def bind(path):
    here = os.getcwd()
    os.chdir(path.parent)  # such names are short
    try:
        socket.socket(socket.AF_UNIX).bind(path.name)
    finally:
        os.chdir(here)


BOMB = zlib.compress(bytes(10**8))
PASSED_OVER = {
    "a pipe": os.mkfifo,
    "a socket": bind,
    "a folder": lambda path: path.mkdir(),
    "a link to a device": lambda path: path.symlink_to("/dev/zero"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a link to nothing": lambda path: path.symlink_to("nowhere"),
    "a link to its folder": lambda path: path.symlink_to("."),
    "a link to the folder above": lambda path: path.symlink_to(".."),
}
FAILED = {
    "nothing": b"",
    "a bomb of pixels": png(50_000, 50_000, BOMB),
    "a bomb in its text": png(4, 4, b"", chunk(b"zTXt", b"a\0\0" + BOMB)),
    "a bomb in its profile": png(4, 4, b"", chunk(b"iCCP", b"a\0\0" + BOMB)),
    "no pixels": png(0, 4, zlib.compress(b"")),
    "SVG": b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>',
    "HTML": b"<html><script>alert(1)</script></html>",
    "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(%pipe%id) (r) file",
    "an archive": b"PK\3\4" + bytes(400),
    "a circle of pages": b"II*\0\x08\0\0\0\1\0\0\1\4\0\1\0\0\0\x09\0\0\0\x08\0\0\0",
}


@pytest.mark.parametrize("name", PASSED_OVER)
def test_what_is_no_file_is_left_aside(checkpoint, folder, tmp_path, name):
    PASSED_OVER[name](folder / "a.png")
    assert predicted(checkpoint, folder, tmp_path / "out") == 0
    assert [file.name for file in (tmp_path / "out/masks").iterdir()] == ["good.png"]


@pytest.mark.parametrize("name", FAILED)
def test_what_is_no_picture_fails_alone(checkpoint, folder, tmp_path, capsys, name):
    (folder / "a.png").write_bytes(FAILED[name])
    assert predicted(checkpoint, folder, tmp_path / "out") == 1
    assert (tmp_path / "out/masks/good.png").is_file()
    lines = capsys.readouterr().err.splitlines()
    assert len([line for line in lines if line.startswith("error: ")]) == 1


ODD = [
    "a\nb",
    "a\rb",
    "a\tb",
    "\x1b[31mred",
    "=cmd|calc",
    "-rf",
    'a,b"c',
    " ",
    "\u202egnp",
    "%s",
    "$(id)",
]
ODD += ["x" * 251, "CON", "a:b", "a*b", "<script>", "e\u0301", "\u00e9", "\u2028", "\U0001f600"]


@pytest.mark.parametrize("name", ODD)
def test_an_odd_name_has_a_row_of_its_own_and_a_line_of_its_own(
    checkpoint, folder, tmp_path, capsys, name
):
    put(folder / f"{name}.png")
    for _ in range(2):  # what is done is known again
        assert predicted(checkpoint, folder, tmp_path / "out") == 0
    said = capsys.readouterr()
    assert "2 of 2 pictures are done already" in said.out
    assert "\x1b" not in said.out + said.err
    with (tmp_path / "out/predictions.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2
    assert all(row["expected_dice"] for row in rows)
    assert len(list((tmp_path / "out/masks").iterdir())) == 2


def test_names_that_differ_in_case_or_in_how_accents_are_written_are_apart(
    checkpoint, folder, tmp_path
):
    names = ["A.png", "a.png", "a.PNG", "caf\u00e9.png", "cafe\u0301.png"]
    for name in names:
        put(folder / name)
    assert predicted(checkpoint, folder, tmp_path / "out") == 0
    assert len(list((tmp_path / "out/masks").iterdir())) == 1 + len(names)


@pytest.mark.parametrize(
    "given", ["/dev/zero", "/dev/null", "/proc/self/mem", "~nobody/a", "x" * 5000]
)
def test_an_input_that_is_no_file_is_a_sentence(checkpoint, tmp_path, capsys, given):
    assert predicted(checkpoint, given, tmp_path / "out") == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def _on_file(output):
    output.write_text("mine")


def _mask_is_a_folder(output):
    (output / "masks" / "good.png").mkdir(parents=True)


def _masks_are_a_file(output):
    output.mkdir()
    (output / "masks").write_text("mine")


PLACES = {
    "a file": _on_file,
    "a link to itself": lambda output: output.symlink_to(output.name),
    "a device": lambda output: output.symlink_to("/dev/full"),
    "below /proc": lambda output: output.symlink_to("/proc/self/there"),
    "a folder in place of a mask": _mask_is_a_folder,
    "a file in place of the masks": _masks_are_a_file,
}


@pytest.mark.parametrize("name", PLACES)
def test_a_place_that_takes_no_results_is_a_sentence(checkpoint, folder, tmp_path, capsys, name):
    output = tmp_path / "out"
    PLACES[name](output)
    assert predicted(checkpoint, folder, output) == 2
    [sentence] = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert sentence.startswith("error: ")
    assert not output.is_file() or output.read_text() == "mine"


@pytest.mark.parametrize("option", ["ro", "size=8k"])
def test_a_disk_that_is_full_or_read_only_is_a_sentence(
    checkpoint, folder, tmp_path, capsys, option
):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", option, "tmpfs", str(disk)]
    if os.getuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount a small file system")
    try:
        assert predicted(checkpoint, folder, disk / "out") == 2
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
    assert capsys.readouterr().err.count("error: ") == 1


def test_a_link_in_place_of_a_mask_is_replaced_and_not_followed(checkpoint, folder, tmp_path):
    (tmp_path / "out/masks").mkdir(parents=True)
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "out/masks/good.png").symlink_to(tmp_path / "mine")
    assert predicted(checkpoint, folder, tmp_path / "out") == 0
    assert (tmp_path / "mine").read_text() == "mine"
    assert not (tmp_path / "out/masks/good.png").is_symlink()


@pytest.mark.parametrize("when", [-(10**9), 2**33, 253_402_300_800])
def test_files_of_any_time_are_predicted_once(checkpoint, folder, tmp_path, capsys, when):
    os.utime(folder / "good.png", (when, when))
    for _ in range(2):
        assert predicted(checkpoint, folder, tmp_path / "out") == 0
    assert "1 of 1 pictures are done already" in capsys.readouterr().out


def test_a_clock_that_goes_backwards_does_no_harm(
    checkpoint, folder, tmp_path, capsys, monkeypatch
):
    clock, shown = time.time, [0]

    def back():
        shown[0] += 1
        return clock() - 1e5 * shown[0]

    monkeypatch.setattr(time, "time", back)
    for _ in range(2):
        assert predicted(checkpoint, folder, tmp_path / "out") == 0
    assert "1 of 1 pictures are done already" in capsys.readouterr().out
