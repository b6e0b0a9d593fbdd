"""The tables of ``experiments/results/trust``, and the test split that they are measured on."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning_seg.inference.split import DataSplit, count_look, open_split

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "experiments" / "results" / "trust"
FIGURES, CUTS, ROBUSTNESS = "figures.csv", "cuts.csv", "corruptions.csv"
Row = dict[str, Any]


def opened(checkpoint: Path) -> DataSplit:
    """The test split of a checkpoint; the ledger of its run counts the look."""
    home = open_split(checkpoint, "test", {})
    looks = count_look(home, checkpoint)
    print(f"looks at the {home.describe()}, this one included: {looks}")
    return home


def with_other_datasets(name: str, rows: Sequence[Row]) -> list[Row]:
    """The rows, behind those of a table that are of other data sets."""
    own = {row["dataset"] for row in rows}
    kept = read_table(name) if (FOLDER / name).is_file() else []
    return [*(row for row in kept if row["dataset"] not in own), *rows]


def write_table(name: str, rows: Sequence[Row]) -> None:
    """A table of ``experiments/results/trust``."""
    FOLDER.mkdir(exist_ok=True)
    with (FOLDER / name).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    print(f"{len(rows)} rows:  {FOLDER / name}")


def read_table(name: str) -> list[dict[str, str]]:
    with (FOLDER / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
