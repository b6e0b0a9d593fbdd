"""``python tools/leak_page.py``: write into ``docs/kvasir-leaks.md`` how far scores move between
``kvasir-880-120``, which leaks, and its clean twin, from the recorded tables of both.

The trainings are ``experiments/campaigns/kvasir_leaks.yaml``.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from lightning_seg.evaluation.compare import compare_data_sets, compare_models  # noqa: E402
from lightning_seg.evaluation.intervals import bca, statistic  # noqa: E402
from lightning_seg.evaluation.table import ScoreTable  # noqa: E402

PAGE = ROOT / "docs" / "kvasir-leaks.md"
SCORES = ROOT / "experiments" / "results" / "scores"
BEGIN, END = "<!-- written by tools/leak_page.py -->\n", "<!-- end -->"
_CLASS = "polyp"
Tables = Sequence[ScoreTable]


def read_tables(protocol: str) -> list[ScoreTable]:
    """The recorded tables of a protocol, one for each seed."""
    folders = [
        folder
        for folder in SCORES.glob(f"{protocol}-*-test-160-network")
        if folder.name.removeprefix(f"{protocol}-")[:12].isalnum()
    ]
    return [
        ScoreTable.read(file) for folder in folders for file in sorted(folder.glob("unet-*.csv"))
    ]


def part_of(tables: Tables, chosen: Callable[[str], bool]) -> list[ScoreTable]:
    """The rows whose id is chosen."""
    places = [np.flatnonzero([chosen(id) for id in table.ids]) for table in tables]
    return [table.at(rows) for table, rows in zip(tables, places, strict=True)]


def measured() -> str:
    """The table of the page, and what it says."""
    leaking, clean = read_tables("kvasir-880-120"), read_tables("kvasir-880-120-clean")
    shared = set(leaking[0].ids) & set(clean[0].ids)
    twins = part_of(leaking, lambda id: id not in shared)
    ours, theirs = (part_of(tables, shared.__contains__) for tables in (leaking, clean))
    rows = [
        ("`kvasir-880-120`, all", leaking),
        ("of these the frames with a twin that trains or validates", twins),
        ("of these the others", ours),
        ("`kvasir-880-120-clean`, all", clean),
        ("of these the frames that `kvasir-880-120` tests too", theirs),
    ]
    lines = ["| test frames | number | Dice, mean over images (95 %) |", "|---|---|---|"]
    for name, tables in rows:
        found = statistic(tables, _CLASS, "dice", "image")
        low, high = bca(found)
        lines.append(
            f"| {name} | {len(tables[0].ids)} | {found.value:.4f} ({low:.3f} - {high:.3f}) |"
        )
    whole = compare_data_sets(leaking, clean, _CLASS)
    within = compare_data_sets(twins, ours, _CLASS)
    paired = compare_models(ours, theirs, _CLASS)
    seeds = [
        f"{np.std([statistic([table], _CLASS, 'dice', 'image').value for table in tables], ddof=1):.3f}"
        for tables in (leaking, clean)
    ]
    lines += [
        "",
        f"Three seeds each; their SD is {seeds[0]} and {seeds[1]}. The differences, with intervals over images:",
        "",
        f"* the leaking split minus the clean one, unpaired: **{_signed(whole)}**;",
        f"* frames with a twin minus the others of the same test: {_signed(within)};",
        f"* the {len(shared)} frames that both test, paired, leaking training minus clean training: {_signed(paired)}.",
    ]
    return "\n".join(lines) + "\n"


def _signed(found: object) -> str:
    difference, low, high = (getattr(found, name) for name in ("difference", "low", "high"))
    return f"{difference:+.4f} ({low:+.3f} to {high:+.3f})"


def main() -> None:
    """Write the part of the page between its marks."""
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    PAGE.write_text(before + BEGIN + measured() + END + rest.split(END)[1], encoding="utf-8")


if __name__ == "__main__":
    main()
