"""Boards as Markdown and CSV."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan
from typing import Any

from experiments.fits import RATE
from experiments.leaderboard.boards import Board, Key
from experiments.leaderboard.columns import CONVENTIONS, Column, columns, latency
from experiments.leaderboard.elsewhere import NAMES, Beside
from lightning_seg.data.splits import leak_of
from lightning_seg.runs.cautions import is_synthetic
from lightning_seg.tables import Table, count_text

INTRODUCTION = (
    "Every table holds one set of test images, one class, one size and one convention; nothing in it is to be compared "
    "with another table. Dice is the mean over all seeds that were run, of which none is picked; the epoch was chosen on "
    "validation data. Intervals are of 95 %, by bootstrap over the images, or over patients, sequences or duplicates where "
    "any are known; models are ranked by a paired bootstrap, and a model is tied with the leader unless the interval of "
    "their difference, after Holm's correction, leaves out 0. The range of ranks is not corrected and compares a model with "
    "all others, so a model that is behind the leader may still rank first in some resamples. Intervals show the choice of "
    "test images; the SD over seeds "
    "shows that of training. Where seeds overlap, one of a model behind the leader is as good as one of the leader's."
)
ELSEWHERE = (
    "As published, by the convention that the figures were found to follow. Ours is the same network by the recipe of the same "
    "source under the nearest protocol; where the test images are others, a difference does not say that a result was "
    "or was not reproduced. Systems without a result of ours are listed with what one would take: data, encoder weights, and "
    f"hours a seed at {RATE / 1e9:.0f} billion multiply-adds a second, about what the runs recorded here reached on two "
    "processor cores (37 to 68)."
)
PUBLISHED_HEAD = (
    "model",
    "published",
    "convention",
    "data",
    "protocol",
    "test images",
    "ours",
    "difference",
    "how ours was made, or what it would take",
    "source",
)


@dataclass(frozen=True)
class LeaderboardContent:
    """All that a leaderboard shows."""

    boards: Sequence[Board]
    beside: Sequence[Beside]

    @property
    def by_images(self) -> dict[Key, list[Board]]:
        """The boards over the same images, class and size: one per convention."""
        found: dict[Key, list[Board]] = {}
        for board in self.boards:
            found.setdefault(board.key.images, []).append(board)
        return found

    @property
    def scored(self) -> list[Beside]:
        """The published results, first those that have ours beside them."""
        return sorted(self.beside, key=lambda row: not row.ours)


def markdown(content: LeaderboardContent) -> str:
    parts = [
        "# Leaderboard",
        "Written by `python -m experiments leaderboard`; do not edit.",
        INTRODUCTION,
    ]
    for key, boards in content.by_images.items():
        parts += [f"## {board_title(key)}", facts_of(boards[0])]
        for board in boards:
            shown = columns(board)
            parts += [f"### {CONVENTIONS[board.key.convention].capitalize()}", _board(board, shown)]
    if content.scored:
        parts += ["## Published results", ELSEWHERE, _elsewhere(content.scored)]
    return "\n\n".join(parts) + "\n"


def board_title(key: Key, marked: bool = True) -> str:
    """Data set, protocol, class and size; ``marked``: with what must be known of the images."""
    size = f"{key.size} px" if isinstance(key.size, int) else f"{key.size} size"
    native = (
        ", scored at native size"
        if key.scored_at.startswith("native") and isinstance(key.size, int)
        else ""
    )
    leaks = " (LEAKS)" if marked and leak_of(key.digest) else ""
    made = " (SYNTHETIC)" if marked and is_synthetic(key.dataset) else ""
    return f"{key.dataset}{made}, protocol {key.protocol}{leaks}: {key.class_name}, {size}{native}"


def facts_of(board: Board) -> str:
    """The facts that the boards over one set of images have in common, as a sentence."""
    key, first = board.key, board.lines[0].first
    known = [f for f in board.facts if f.parameters is not None]  # recorded with all their facts
    thresholds = sorted({f.threshold for f in board.facts})
    cut = " or ".join(f"{threshold:g}" for threshold in thresholds)
    sentences = [
        f"Protocol {key.protocol} (digest `{key.digest}`), split {key.split}, {count_text(first.images, 'image')}, scored at "
        f"{key.scored_at if isinstance(key.size, int) else 'the size of the images'}, threshold {cut}."
    ]
    if any(f.synthetic for f in known):
        sentences.append("SYNTHETIC data: says nothing about clinical performance.")
    if leak := leak_of(key.digest):
        sentences.append(f"This protocol LEAKS: {leak}.")
    elif any(f.leaks for f in known):
        sentences.append(
            "This protocol LEAKS: images of one patient or sequence stand in several of its splits."
        )
    if known and not any(f.grouped or f.synthetic for f in known):
        sentences.append("No patients or sequences are known: each image counts for itself.")
    looks = (
        f"had been looked at {count_text(board.looks, 'time')}"
        if board.looks
        else "was looked at an unknown number of times"
    )
    return " ".join([*sentences, f"The test split {looks} when the last of these was scored."])


def _board(board: Board, shown: list[Column]) -> str:
    rows = [[_cell(column, line) for column in shown] for line in board.lines]
    return Table([column.title for column in shown], rows).markdown()


def _cell(column: Column, line: Any) -> str:
    small = column.small(line)
    return f"{column.text(line)} ({small})" if small else column.text(line)


def _elsewhere(beside: Sequence[Beside]) -> str:
    return Table(PUBLISHED_HEAD, [published_cells(row) for row in beside]).markdown()


def published_cells(row: Beside) -> list[str]:
    """A published result as the texts of one row."""
    e = row.evaluation
    differences = [f"{NAMES.get(k, k)} {value:+.4f}" for k, value in row.differences.items()]
    return [
        e.name,
        row.published,
        e.convention,
        e.dataset,
        e.published_protocol,
        row.images,
        row.scores,
        ", ".join(differences) or "-",
        row.settings or row.needed or "-",
        e.source,
    ]


def board_csv(content: LeaderboardContent) -> str:
    """Every line of every board as a row of CSV."""
    rows = [_row(board.key, line) for board in content.boards for line in board.lines]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _row(key: Key, line: Any) -> dict[str, Any]:
    shown = {column.title: column.text(line) for column in columns(Board(key, (line,)))}
    ranking = line.ranking
    said = [text for facts in line.facts for text in (facts.ending, facts.doubts)]
    return {
        **key._asdict(),
        "model": line.first.model,
        "settings": line.first.settings,
        "dice": f"{ranking.value:.4f}",
        "low": "" if isnan(ranking.low) else f"{ranking.low:.4f}",
        "high": "" if isnan(ranking.high) else f"{ranking.high:.4f}",
        "sd_over_seeds": "" if isnan(ranking.sd_over_seeds) else f"{ranking.sd_over_seeds:.4f}",
        "seeds": " ".join(str(facts.seed) for facts in line.facts),
        "rank": ranking.rank or "",
        "rank_low": ranking.rank_low or "",
        "rank_high": ranking.rank_high or "",
        "standing": line.standing,
        "iou": f"{line.beside['iou']:.4f}" if "iou" in line.beside else "",
        "published": shown.get("published", ""),
        "difference": shown.get("difference", ""),
        "parameters": line.first.parameters or "",
        "gmacs": line.first.gmacs or "",
        "latency_ms": latency(line) or "",
        "minutes": shown["training"],
        "looks": shown["looks"],
        "commit": shown["commit"],
        "hardware": "; ".join(dict.fromkeys(facts.hardware for facts in line.facts)),
        "leaks": leak_of(key.digest),
        "synthetic": "SYNTHETIC" if any(facts.synthetic for facts in line.facts) else "",
        "ending": "; ".join(dict.fromkeys(filter(None, said))),
    }
