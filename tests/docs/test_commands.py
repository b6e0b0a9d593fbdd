"""Commands of the documentation: blocks ``bash`` and cells of tutorials run as they stand, blocks
``console`` say what they need, and all of them name commands and options that there are."""

import os
import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tools"))

import reference_pages  # noqa: E402

PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "hpo/README.md")]
PAGES += [
    page
    for page in sorted((ROOT / "docs").rglob("*.md"))
    if not {"generated", "_build", "jupyter_execute"} & set(page.parts)
]
FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# what a line of a shell begins with
COMMAND = re.compile(
    r"(?m)^ *(?:[$!] *)?(?:lightning-seg |python -m |make |pip |bash |sbatch |torchrun |\./)"
)
SHELL = ("bash", "console")
NO_SHELL = ("python", "yaml", "text", "bibtex")
PROGRAMS = {
    "lightning-seg": (),
    "python -m hpo": ("hpo",),
    "python -m experiments": (),
    "python -m lightning_seg": (),
}
TRAINER = re.compile(r"--(?:trainer|model|data|checkpoint)\.")


def blocks(text: str, language: str) -> list[str]:
    return [content for kind, content in FENCE.findall(text) if kind == language]


def sections(page: Path) -> list[str]:
    """The parts of a page between headings, each after what stands above the first one."""
    top, *others = re.split(r"(?m)^## ", page.read_text("utf-8"))
    return [top, *(f"{top}\n## {other}" for other in others)]


RUN = [
    page
    for page in PAGES
    if blocks(page.read_text("utf-8"), "bash") and page.name not in ("README.md",)
]


def page_name(page: Path) -> str:
    return str(page.relative_to(ROOT).with_suffix(""))


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_every_command_stands_in_a_block_that_says_whether_it_is_run(page):
    text = page.read_text("utf-8")
    for language, content in FENCE.findall(text):
        if language.startswith("{"):  # a cell or a directive of the site
            continue
        assert language in (*SHELL, *NO_SHELL), f"a block of no language: {content[:60]}"
        if language not in SHELL:
            assert not COMMAND.search(content), content
    bare = FENCE.sub("", text)
    assert not re.search(r"(?m)^ {4,}(?:\$ )?(?:lightning-seg|python -m) ", bare)


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_a_command_that_is_not_run_says_what_it_needs(page):
    for text in sections(page):
        if blocks(text, "console"):
            assert re.search(r"\bneeds?\b", text, re.IGNORECASE), (
                f"say what it needs: {text[-300:]}"
            )


def commands(page: Path) -> list[list[str]]:
    """The words of every command of the project on a page, without what comes after a pipe."""
    text = page.read_text("utf-8")
    cells = [content for kind, content in FENCE.findall(text) if kind == "{code-cell}"]
    shell = [content for kind, content in FENCE.findall(text) if kind in SHELL]
    lines = "\n".join([*shell, *cells]).replace("\\\n", " ").splitlines()
    found = []
    for line in lines:
        line = re.sub(r"^[$!] ?", "", line.strip()).partition(" | ")[0]
        if any(line.startswith(f"{program} ") for program in PROGRAMS):
            found.append(shlex.split(line, comments=True))
    return found


@cache
def legal_options(command: tuple[str, ...]) -> str:
    return reference_pages.help_text(command)


@cache
def recipe_keys() -> frozenset[str]:
    return frozenset(re.findall(r"`((?:model|data)\.\w+)`", reference_pages.recipe_page()))


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=page_name)
def test_commands_and_their_options_are_there(page):
    from experiments.__main__ import HOMES
    from lightning_seg.__main__ import RUNS, VERBS

    for words in commands(page):
        program = " ".join(words[:3]) if words[0] == "python" else words[0]
        rest = words[3:] if words[0] == "python" else words[1:]
        verb = (*PROGRAMS[program], *rest)[0]
        if program == "python -m experiments":
            assert verb in ("demo", *HOMES), words
            continue
        assert verb in RUNS | VERBS, words
        options = [word.partition("=")[0] for word in rest if re.match(r"--?[a-zA-Z]", word)]
        if verb in RUNS or verb == "cv":
            keys = [option[2:] for option in options if TRAINER.match(option)]
            lost = [
                key
                for key in keys
                if key.startswith(("model.", "data."))
                and ".".join(key.split(".")[:2]) not in recipe_keys()
            ]
            assert not lost, words
            options = [option for option in options if not TRAINER.match(option)]
            if verb in RUNS:
                continue
        place = (*PROGRAMS[program], *rest)[: 2 if verb in reference_pages.PARTS else 1]
        text = legal_options(place)
        named = [option.replace("-", "_") for option in options if not TRAINER.match(option)]
        assert [name for name in named if name not in text.replace("-", "_")] == [], words


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN, ids=page_name)
def test_commands_of_a_page_run(page, tmp_path):
    (tmp_path / "experiments").symlink_to(ROOT / "experiments")
    program = tmp_path / "bin" / "lightning-seg"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m lightning_seg "$@"\n')
    program.chmod(0o755)
    paths = os.pathsep.join([str(program.parent), os.environ["PATH"]])
    env = os.environ | {"PATH": paths, "PYTHONPATH": str(ROOT)}
    for block in blocks(page.read_text("utf-8"), "bash"):
        done = subprocess.run(
            ["bash", "-euc", block], cwd=tmp_path, env=env, capture_output=True, text=True
        )
        # `doctor` tells by its exit code what it found of this machine
        assert done.returncode == 0 or "lightning-seg doctor" in block, done.stderr
        assert "Traceback" not in done.stderr
