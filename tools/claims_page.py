"""``docs/published-claims.md``: which published comparisons their own figures support.

    python tools/claims_page.py

Of every table that a source published, its best Dice is held against its second best, by
`lightning_seg.evaluation.claims`; the figures are those of ``experiments/results/reported.csv``.
"""

import csv
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from lightning_seg.data.splits import load_protocol
from lightning_seg.errors import InputError
from lightning_seg.evaluation.audit import PrintedFigure
from lightning_seg.evaluation.claims import CORRELATIONS, FALSE, SPREAD, Claim
from lightning_seg.tables import Table

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "published-claims.md"
REPORTED = ROOT / "experiments" / "results" / "reported.csv"
# Dice of vessels varies far less from image to image than that of lesions
VESSELS = ("drive", "stare", "chase_db1")
HEAD = f"""# What published figures support

Made by `python tools/claims_page.py` from `experiments/results/reported.csv`. Each line is one published table: its best Dice
against its second best, and the probability that the first method is *not* better on images like these (Christodoulou et al. 2025,
arXiv 2505.04720), if both are means over images of the same test set. A claim with a probability above {FALSE} is not supported.

Assumed, since no table prints it: the standard deviation over images is {SPREAD} sqrt(m (1 - m)), and the two methods
correlate by {CORRELATIONS[0]} to {CORRELATIONS[2]} over images; both were measured on the per-image tables of polyps in
`experiments/results/scores`. Pooled figures are treated as means over images. Chance of the seed, and a choice on the
test set, come on top, so these are lower bounds. Tables of vessels, and those whose number of test images is not known,
are left out.
"""


class Comparison(NamedTuple):
    """The best and the second best Dice of one published table."""

    source: str
    dataset: str
    best: str
    second: str
    claim: Claim


def comparisons(file: Path) -> Iterator[Comparison]:
    """One for each published table that can be judged."""
    with file.open(newline="", encoding="utf-8") as content:
        rows = [row for row in csv.DictReader(content) if row["score"] == "dice"]
    tables = defaultdict(list)
    for row in rows:
        if row["dataset"] not in VESSELS:
            tables[row["source"], row["dataset"], row["nearest"]].append(row)
    for (source, dataset, nearest), of_table in tables.items():
        images = _test_images(nearest)
        ranked = sorted(of_table, key=_dice, reverse=True)
        if images and len(ranked) > 1:
            first, second = ranked[:2]
            claim = Claim.of_means(_dice(first), _dice(second), images)
            yield Comparison(source, dataset, _name(first), _name(second), claim)


def _test_images(protocol: str) -> int:
    """The test images of a protocol of this package; 0 where it has none of that name."""
    try:
        return len(load_protocol(protocol).ids["test"]) if protocol else 0
    except InputError:
        return 0


def _dice(row: dict[str, str]) -> float:
    return PrintedFigure.parse("dice", row["value"]).value


def _name(row: dict[str, str]) -> str:
    return " ".join(filter(None, (row["model"], row["options"])))


def page(file: Path = REPORTED) -> str:
    """The page as Markdown."""
    found = list(comparisons(file))
    low, _, high = CORRELATIONS
    rows = []
    supported = 0
    for each in found:
        ends = [each.claim.probability_false(correlation) for correlation in (low, high)]
        holds = max(ends) <= FALSE
        supported += holds
        needed = each.claim.needed_images(CORRELATIONS[1])
        verdict = "yes" if holds else "no" if min(ends) > FALSE else "only if they correlate highly"
        rows.append(
            (
                each.source,
                each.dataset,
                f"{each.best}: {each.claim.better:.4f}",
                f"{each.second}: {each.claim.worse:.4f}",
                each.claim.images,
                f"{min(ends):.3f} to {max(ends):.3f}",
                verdict,
                needed or "-",
            )
        )
    header = (
        "source",
        "data set",
        "best",
        "second",
        "test images or scans",
        "probability that the claim is false",
        "supported",
        "number that would do",
    )
    summary = f"{supported} of {len(found)} tables support that their best method is better than their second.\n"
    return f"{HEAD}\n{summary}\n{Table(header, rows).markdown()}\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE.relative_to(ROOT))
