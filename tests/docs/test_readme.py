"""The README: short, its links lead somewhere, its commands and its Python run."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from lightning_seg.data.sources.phantom import render_phantom

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text("utf-8")
WRITTEN = [page for page in sorted((ROOT / "docs").rglob("*.md")) if "generated" not in page.parts]
TINY = "--trainer.max_epochs 1 --data.size 32"


def section(title: str) -> str:
    return TEXT.split(f"\n## {title}\n")[1].split("\n## ")[0]


def blocks(text: str, language: str = "") -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def test_it_is_short():
    assert len(TEXT.splitlines()) <= 120


@pytest.mark.parametrize(
    "page",
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *WRITTEN],
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_links_lead_to_files(page):
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text("utf-8"))
    lost = [
        link
        for link in links
        if "://" not in link and "generated" not in link and not (page.parent / link).exists()
    ]
    assert not lost


@pytest.mark.slow
def test_the_commands_and_the_python_run(tmp_path):
    (tmp_path / "experiments").symlink_to(ROOT / "experiments")
    for folder in ("images", "my_folder/images", "my_folder/masks"):
        (tmp_path / folder).mkdir(parents=True)
    for number in range(12):
        image, mask = render_phantom("polyp", 3, number, 64)
        Image.fromarray(image).save(tmp_path / "my_folder" / "images" / f"{number:02d}.png")
        Image.fromarray(255 * mask[..., 0]).save(
            tmp_path / "my_folder" / "masks" / f"{number:02d}.png"
        )
    Image.fromarray(image).save(tmp_path / "images" / "one.jpg")
    Image.fromarray(image).save(tmp_path / "image.jpg")
    program = tmp_path / "lightning-seg"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m lightning_seg "$@"\n')
    program.chmod(0o755)
    paths = os.pathsep.join([str(tmp_path), os.environ["PATH"]])
    env = os.environ | {"PATH": paths, "PYTHONPATH": str(ROOT)}

    def run(*command: str) -> None:
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr

    [commands] = blocks(section("Five commands"), "bash")
    for line in commands.splitlines():
        command = line.split("#")[0].strip()
        run(
            "bash",
            "-c",
            f"{command} {TINY}" if command.startswith("lightning-seg fit") else command,
        )
    assert len(list((tmp_path / "masks").rglob("one*.png"))) == 1
    for block in blocks(section("Ten lines of Python"), "python"):
        run(sys.executable, "-c", block)
