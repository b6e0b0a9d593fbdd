"""Attacks the project and prints what it survived, as the table of docs/security.md.

    python tools/attacks.py            # minutes: all kinds but the slow tests
    python tools/attacks.py --slow     # with killed studies and trainings, and the description of serve
    python tools/attacks.py --write    # the table goes to docs/security.md
    python tools/attacks.py --slow --write --only serve archives    # these rows anew, the others stay

Each row is a group of tests, so that the page cannot say what no test holds. LIGHTNING_SEG_FUZZ
says how many broken files each reader gets.
"""

import argparse
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "security.md"
BEGIN, END = "<!-- attacks -->\n", "<!-- /attacks -->\n"


@dataclass(frozen=True)
class AttackKind:
    """One row of the table.

    Attributes:
        name: what is attacked, and with what.
        seen: by the user.
        tests: files of tests, or beginnings of their names after ``::``.
    """

    name: str
    seen: str
    tests: tuple[str, ...]


KINDS = (
    AttackKind(
        "malformed checkpoints",
        "one sentence with the part that is wrong, exit code 2, nothing is built or written",
        ("tests/runs/test_malformed_checkpoints.py", "tests/runs/test_hostile_archives.py"),
    ),
    AttackKind(
        "code and places to write in recipes, runs, sweeps, studies and checkpoints of others",
        "the class and the file are named; nothing is imported without `--trust_code`",
        ("tests/files/test_trust.py", "tests/inference/test_trust_code.py"),
    ),
    AttackKind(
        "broken bytes: pictures, volumes, tables, YAML, checkpoints, journals, uploads",
        "the file is read, or refused in one sentence",
        ("tests/fuzz/test_readers.py",),
    ),
    AttackKind(
        "nonsense in YAML, JSON and tables; pipes, devices and loops in their place",
        "one sentence; nothing that they hold is run",
        ("tests/files/test_hostile_texts.py",),
    ),
    AttackKind(
        "faults in code that is named `module:Class`",
        "one sentence with file, line and cause",
        ("tests/test_plugins.py",),
    ),
    AttackKind(
        "odd inputs, names and places of `predict`: bombs, pipes, devices, loops, full disks",
        "the others are predicted; the odd one is told at the end, exit code 1",
        (
            "tests/inference/test_odd_inputs.py",
            "tests/inference/test_hostile_folders.py",
            "tests/data/reading/test_checksums.py",
        ),
    ),
    AttackKind(
        "names of classes and inputs that are paths, or meet in one file",
        "each result has a file of its own, inside the output",
        ("tests/inference/test_output_names.py",),
    ),
    AttackKind(
        "archives that lead outside, hold links or devices, or are cut off",
        "the member is named; the data set's folder does not appear",
        ("tests/data/test_download.py", "tests/data/test_odd_archives.py"),
    ),
    AttackKind(
        "requests to `serve`: halves, smuggled ones, foreign pages, no token, bombs, floods",
        "a status and one sentence; connections that only wait are closed",
        (
            "tests/serve/test_connections.py",
            "tests/serve/test_endpoint.py",
            "tests/serve/test_raw_requests.py",
            "tests/serve/test_large_pictures.py",
        ),
    ),
    AttackKind(
        "a machine that refuses: closed streams, no memory, too many open files, full disks",
        "one sentence, or the end without a word; nothing of the output goes into a file",
        (
            "tests/test_cli.py::test_what_the_machine_refuses",
            "tests/test_cli.py::test_nothing_is_printed_into_a_file",
            "tests/test_cli.py::test_a_full_disk",
        ),
    ),
    AttackKind(
        "databases that are away, passwords in lists of processes",
        "it waits and says so; a wrong password ends at once; no list shows one",
        ("tests/hpo/test_away.py",),
    ),
    AttackKind(
        "killed writers",
        "files are whole or as before; leftovers go at the next start",
        ("tests/files/test_leftovers.py",),
    ),
    AttackKind(
        "killed trials, workers, launchers and journals of studies",
        "the same command goes on; no trial is lost or done twice",
        ("tests/hpo/test_killed.py",),
    ),
)


@dataclass(eq=False)
class AttackCounts:
    """What the tests came to, by the kind of attack; a plugin of pytest."""

    tried: Counter[str] = field(default_factory=Counter)
    survived: Counter[str] = field(default_factory=Counter)

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Count a test, or the attacks that it says it made."""
        kind = next((each for each in KINDS if _is_of(report.nodeid, each)), None)
        if kind is None or report.skipped or (report.when != "call" and report.passed):
            return
        count = dict(report.user_properties).get("attacks", 1)
        self.tried[kind.name] += count
        self.survived[kind.name] += count if report.passed else 0


def _is_of(test: str, kind: AttackKind) -> bool:
    return any(test.startswith(name) for name in kind.tests)


def attack_table(counts: AttackCounts, before: str = "") -> str:
    """The table in Markdown; kinds of which nothing was tried are as in the table before."""
    lines = ["| attack | tried | survived | what a user sees |", "|---|---:|---:|---|"]
    kept = {line.split("|")[1].strip(): line for line in before.splitlines() if "|" in line}
    for kind in KINDS:
        if tried := counts.tried[kind.name]:
            survived = counts.survived[kind.name]
            lines.append(f"| {kind.name} | {tried:,} | {survived:,} | {kind.seen} |")
        elif kind.name in kept:
            lines.append(kept[kind.name])
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run the tests of all kinds; 1 where one was not survived."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slow", action="store_true", help="with the tests that take minutes")
    parser.add_argument("--write", action="store_true", help=f"put the table into {PAGE.name}")
    parser.add_argument("--only", nargs="+", help="words of the rows that are tried anew")
    options = parser.parse_args()
    words = options.only or [""]
    kinds = [kind for kind in KINDS if any(word in kind.name for word in words)]
    files = sorted({name.partition("::")[0] for kind in kinds for name in kind.tests})
    chosen = [] if options.slow else ["-m", "not slow"]
    counts = AttackCounts()
    arguments = ["-q", "--no-header", "--durations=0", "--rootdir", str(ROOT), *chosen, *files]
    code = pytest.main(arguments, plugins=[counts])
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    shown, _, after = rest.partition(END)
    table = attack_table(counts, shown if options.only else "")
    print(f"\n{table}")
    if options.write:
        PAGE.write_text(f"{before}{BEGIN}{table}{END}{after}", encoding="utf-8")
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
