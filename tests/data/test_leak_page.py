"""The page on what stands twice in Kvasir-SEG says what the protocols and the table of pairs say."""

import re
from pathlib import Path

from lightning_seg.data.sources.kvasir_seg import known_pairs
from lightning_seg.data.splits import load_protocol

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
