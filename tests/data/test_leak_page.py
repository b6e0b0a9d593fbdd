"""The page on what stands twice in Kvasir-SEG says what the protocols and the table of pairs say."""

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))
import leak_page
import numpy as np
from numpy.typing import NDArray

from lightning_seg.data.sources.kvasir_seg import known_pairs
from lightning_seg.data.splits import load_protocol
from lightning_seg.evaluation.table import ScoreTable

PAGE = (Path(__file__).parents[2] / "docs/kvasir-leaks.md").read_text(encoding="utf-8")


def test_the_page_lists_each_known_pair() -> None:
    rows = re.findall(r"^\| (c\w+) \| (c\w+) \| ([\w ]+) \|", PAGE, re.MULTILINE)
    assert rows == [tuple(pair) for pair in known_pairs()]


def test_the_page_counts_what_each_protocol_declares() -> None:
    rows = re.findall(
        r"^\| `(kvasir[\w-]+)` \| `(\w{12})` \| ([\d/]+) \| (\d+) \| (\d+) \|", PAGE, re.MULTILINE
    )
    assert len(rows) == 10
    for name, digest, sizes, pairs, touching in rows:
        split = load_protocol(name)
        test = set(split.ids["test"])
        assert (digest, int(pairs)) == (split.digest, len(split.pairs))
        assert sizes == "/".join(str(len(ids)) for ids in split.ids.values())
        assert int(touching) == sum(bool(test & {one.first, one.second}) for one in split.pairs)


def test_the_measured_scores_are_those_of_the_recorded_tables() -> None:
    """By numpy alone: the mean over frames of the mean over seeds, of all and of the twins."""
    tables = leak_page.read_tables("kvasir-880-120")
    assert len(tables) == 3
    assert leak_page.measured() in PAGE
    assert all(table.ids == tables[0].ids for table in tables)
    tp, fp, fn = (sum_of(tables, place) for place in range(3))
    dice = (2 * tp / (2 * tp + fp + fn)).mean(0)
    clean = set(load_protocol("kvasir-880-120-clean").ids["test"])
    twins = np.array([id not in clean for id in tables[0].ids])
    assert twins.sum() == 16
    for name, value in (
        ("`kvasir-880-120`, all", dice),
        ("of these the frames with a twin", dice[twins]),
    ):
        [row] = [line for line in PAGE.splitlines() if line.startswith(f"| {name}")]
        assert f"| {value.mean():.4f} (" in row


def sum_of(tables: list[ScoreTable], place: int) -> NDArray[np.float64]:
    return np.stack([table.of("polyp")[:, place] for table in tables]).astype(np.float64)
