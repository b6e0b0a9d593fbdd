"""The ledger of looks at test splits: a split that is looked at again and again is no test any
more."""

import csv
import datetime
from collections.abc import Mapping
from pathlib import Path

from lightning_seg.files import whole

LEDGER = "ledger.csv"  # in the folder of all runs
LOOK_COLUMNS = ("time", "protocol", "protocol_digest", "dataset", "checkpoint", "content")


def enter_look(root: Path, facts: Mapping[str, str]) -> int:
    """Enter a test; how often its split has been scored by the runs of ``root``, this time
    included.

    Args:
        root: the folder of all runs.
        facts: the columns but ``time``; ``content`` is the digest of the split's images and masks.
            Looks are counted by it where both have one, else by the protocol's digest.
    """
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    own = {"time": now} | {key: str(facts.get(key) or "") for key in LOOK_COLUMNS[1:]}
    file = root / LEDGER
    before = read_looks(file)
    if before and "content" not in before[0]:
        _write_looks(file, before)
    new = not file.exists()
    root.mkdir(parents=True, exist_ok=True)
    # one short line in append mode: several processes may test at once
    with file.open("a", newline="", encoding="utf-8") as opened:
        writer = csv.DictWriter(opened, LOOK_COLUMNS)
        if new:
            writer.writeheader()
        writer.writerow(own)
    return sum(_same_split(own, row) for row in read_looks(file))


def read_looks(file: Path) -> list[dict[str, str]]:
    """The rows of a ledger; a ledger of version 0.1 has no ``content``."""
    if not file.is_file():
        return []
    with file.open(newline="", encoding="utf-8") as opened:
        return list(csv.DictReader(opened))


def _write_looks(file: Path, rows: list[dict[str, str]]) -> None:
    with whole(file) as part, part.open("w", newline="", encoding="utf-8") as opened:
        writer = csv.DictWriter(opened, LOOK_COLUMNS, restval="")
        writer.writeheader()
        writer.writerows(rows)


def _same_split(one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    key = "content" if one["content"] and other.get("content") else "protocol_digest"
    return one[key] == other[key]
