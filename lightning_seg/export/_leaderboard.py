"""The rows of the project's leaderboard that a score table stands behind, where it was recorded
there."""

import csv
import json
from pathlib import Path
from typing import Any

from lightning_seg.files.shipped import HOME

RESULTS = HOME / "experiments" / "results"


def leaderboard_rows(
    table: Path,
    results: Path = RESULTS,
) -> list[dict[str, str]]:
    """Rows of ``leaderboard.csv`` by the names of its columns; none where the table was not
    recorded or ranked."""
    board, kept = results / "leaderboard.csv", _recorded(table, results / "scores")
    if kept is None or not board.is_file():
        return []
    facts = json.loads(kept.with_suffix(".json").read_text(encoding="utf-8"))
    with board.open(newline="", encoding="utf-8") as content:
        return [row for row in csv.DictReader(content) if _about(row, facts, kept)]


def _recorded(table: Path, scores: Path) -> Path | None:
    """The file that is the same, byte for byte."""
    content = table.read_bytes()
    alike = (file for file in scores.glob("*/*.csv") if file.stat().st_size == len(content))
    return next(
        (
            file
            for file in alike
            if file.read_bytes() == content and file.with_suffix(".json").is_file()
        ),
        None,
    )


def _about(
    row: dict[str, str],
    facts: dict[str, Any],
    kept: Path,
) -> bool:
    """Tell whether a row is about this training, on these images, with this seed among its own."""
    shared = {
        "dataset": "dataset",
        "digest": "protocol_digest",
        "split": "split",
        "size": "size",
        "scored_at": "scored_at",
    }
    changes = ", ".join(
        f"{key}={json.dumps(value)}" for key, value in facts["changes"].items()
    ).replace('"', "")
    training = f"{facts['recipe'] or 'no recipe'}{f' with {changes}' if changes else ''}"
    return (
        all(row[column] == str(facts[key]) for column, key in shared.items())
        and str(facts["seed"]) in row["seeds"].split()
        and row["settings"].partition(";")[0] == training
        and row["parameters"] == str(facts["parameters"])
        and row["model"].partition(",")[0].partition(" x ")[0] == facts["architecture"]
    )
