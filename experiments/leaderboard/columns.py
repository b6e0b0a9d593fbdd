"""The columns of a board, once for Markdown, CSV and HTML."""

from collections.abc import Callable
from dataclasses import dataclass
from math import isnan
from statistics import mean, stdev
from typing import Any

from experiments.leaderboard.boards import Board, BoardLine
from experiments.published import published_score
from lightning_seg.evaluation.measures import MEASURES
from lightning_seg.tables import count_text, interval_text

SHOWN = {measure.name: measure for measure in MEASURES if measure.heading}
SCORE_NAMES = {"dice": "Dice", "iou": "IoU"} | {
    name: shown.heading for name, shown in SHOWN.items()
}
CONVENTIONS = {
    "image": "mean over images",
    "pooled": "pooled over pixels",
    "image_fov": "mean over images, inside the field of view",
    "pooled_fov": "pooled over pixels, inside the field of view",
    "volume": "mean over scans",
}
OPTIONAL = ("folds", "published", "difference", "ms")


@dataclass(frozen=True)
class Column:
    """A column: what stands in it, a second line in small print, and by what it sorts."""

    title: str
    text: Callable[[BoardLine], str]
    small: Callable[[BoardLine], str] = lambda line: ""
    sort: Callable[[BoardLine], Any] = lambda line: None  # a number; None: by the text
    explained: str = ""


def columns(board: Board) -> list[Column]:
    """The columns of a board; of ``OPTIONAL`` those that say something of any line."""
    beside = dict.fromkeys(score for line in board.lines for score in line.beside)
    parts = dict.fromkeys(name for line in board.lines for name in line.parts)
    found = [
        Column(
            "rank",
            _rank,
            _ranks,
            lambda line: line.ranking.rank or 999,
            "below it the ranks in 95 % of the resamples; which a model may have, and "
            "whether it is tied with the leader, are two questions",
        ),
        Column("model", lambda line: _model(line, board), lambda line: line.first.settings),
        Column(
            "Dice",
            lambda line: _score(line.ranking.value),
            _interval,
            lambda line: line.ranking.value,
            "with its 95 % interval",
        ),
        Column(
            "standing",
            lambda line: line.standing,
            lambda line: "seeds overlap" if board.seeds_overlap(line) else "",
            sort=lambda line: line.ranking.rank or 999,
        ),
        Column(
            "seeds",
            lambda line: str(len(line.facts)),
            _spread,
            lambda line: len(line.facts),
            "SD over them below",
        ),
        Column(
            "folds",
            _fold_count,
            lambda line: _fold_spread(line, board),
            _fold_number,
            "of a cross-validation, whose scores are pooled; mean and SD over them below",
        ),
        *(_beside(score) for score in beside),
        *(_part(name) for name in parts),
        Column(
            "published",
            _published,
            _source,
            _published_value,
            "same network, recipe, test images and convention",
        ),
        Column("difference", _difference, sort=_difference_value, explained="ours less published"),
        Column("parameters", _parameters, sort=lambda line: line.first.parameters),
        Column(
            "GMACs",
            lambda line: _number(line.first.gmacs, ".2f"),
            sort=lambda line: line.first.gmacs,
            explained="of one image",
        ),
        Column(
            "ms",
            lambda line: _number(latency(line), ".1f"),
            _latency_on,
            latency,
            "latency of one image",
        ),
        Column(
            "training",
            _minutes,
            _how_long,
            _mean_minutes,
            "mean over seeds",
        ),
        Column(
            "looks",
            _looks,
            sort=_most_looks,
            explained="at this test split, as its ledger counted when it was scored",
        ),
        Column("commit", lambda line: _all(f.commit or "unknown" for f in line.facts), _hardware),
    ]
    return [
        c
        for c in found
        if c.title not in OPTIONAL or any(c.sort(line) is not None for line in board.lines)
    ]


def _model(line: BoardLine, board: Board) -> str:
    """The network, with its precision where a line of the same recipe has another one."""
    same = [other.first for other in board.lines if _recipe(other) == _recipe(line)]
    differs = len({facts.precision for facts in same}) > 1
    return f"{line.first.model}, {line.first.precision}" if differs else line.first.model


def _recipe(line: BoardLine) -> tuple[str, str]:
    return line.first.model, line.first.settings


def latency(line: BoardLine) -> float | None:
    measured = [facts.latency_ms for facts in line.facts if facts.latency_ms is not None]
    return measured[0] if measured else None


def _rank(line: BoardLine) -> str:
    return str(line.ranking.rank or "-")


def _ranks(line: BoardLine) -> str:
    low, high = line.ranking.rank_low, line.ranking.rank_high
    return f"{low} to {high}" if high > low else ""


def _interval(line: BoardLine) -> str:
    return interval_text((line.ranking.low, line.ranking.high), word="to")


def _spread(line: BoardLine) -> str:
    return "" if isnan(line.ranking.sd_over_seeds) else f"SD {line.ranking.sd_over_seeds:.4f}"


def _fold_number(line: BoardLine) -> int | None:
    return max((len(each) for each in line.first.folds.values()), default=None)


def _fold_count(line: BoardLine) -> str:
    return str(_fold_number(line) or "-")


def _fold_spread(line: BoardLine, board: Board) -> str:
    """``mean 0.8512, SD 0.0123``, over the folds of each seed, under the convention that has it."""
    dice = [facts.folds.get(board.key.class_name) for facts in line.facts]
    known = [each for each in dice if each and len(each) > 1]
    if not known or board.key.convention != "image":
        return ""
    return f"mean {mean(map(mean, known)):.4f}, SD {mean(map(stdev, known)):.4f}"


def _beside(score: str) -> Column:
    digits = f".{SHOWN[score].digits}f" if score in SHOWN else ".4f"
    value = lambda line: line.beside.get(score)  # noqa: E731
    return Column(SCORE_NAMES[score], lambda line: _number(value(line), digits), sort=value)


def _part(name: str) -> Column:
    """Dice of the images that share a value of a column of the data set's table."""

    def value(line: BoardLine) -> float | None:
        part = line.parts.get(name)
        return None if part is None or isnan(part.value) else part.value

    def small(line: BoardLine) -> str:
        return interval_text(line.parts[name].interval, word="to") if name in line.parts else ""

    return Column(name, lambda line: _number(value(line), ".4f"), small, value, "Dice of these")


def _score(value: float) -> str:
    return f"{value:.4f}"


def _number(value: float | None, digits: str) -> str:
    return "-" if value is None else f"{value:{digits}}"


def _published_value(line: BoardLine) -> float | None:
    return next((v for v in map(published_score, line.published) if v is not None), None)


def _published(line: BoardLine) -> str:
    return _number(_published_value(line), ".4f")


def _source(line: BoardLine) -> str:
    return next((e.source for e in line.published if published_score(e) is not None), "")


def _difference_value(line: BoardLine) -> float | None:
    value = _published_value(line)
    return None if value is None else line.ranking.value - value


def _difference(line: BoardLine) -> str:
    return _number(_difference_value(line), "+.4f")


def _parameters(line: BoardLine) -> str:
    count = line.first.parameters
    return "-" if count is None else f"{count / 1e6:.2f} M"


def _latency_on(line: BoardLine) -> str:
    return next((facts.latency_on for facts in line.facts if facts.latency_ms is not None), "")


def _mean_minutes(line: BoardLine) -> float | None:
    known = [facts.minutes for facts in line.facts if facts.minutes is not None]
    return mean(known) if known else None


def _minutes(line: BoardLine) -> str:
    value = _mean_minutes(line)
    return "-" if value is None else f"{value:.1f} min"


def _how_long(line: BoardLine) -> str:
    """``60 epochs, 32-true, 2 threads, load 1.9``."""
    first = line.first
    threads = next((f.threads for f in line.facts if f.threads is not None), None)
    loads = [facts.load for facts in line.facts if facts.load is not None]
    parts = [
        count_text(first.epochs, "epoch"),
        first.precision,
        count_text(threads, "thread") if threads else "",
        f"load {mean(loads):.1f}" if loads else "",
        *dict.fromkeys(facts.ending for facts in line.facts if facts.ending),
        *dict.fromkeys(facts.doubts for facts in line.facts if facts.doubts),
    ]
    return ", ".join(filter(None, parts))


def _most_looks(line: BoardLine) -> int | None:
    return max((facts.looks for facts in line.facts if facts.looks is not None), default=None)


def _looks(line: BoardLine) -> str:
    return str(_most_looks(line) or "-")


def _hardware(line: BoardLine) -> str:
    return _all(facts.hardware or "hardware unknown" for facts in line.facts)


def _all(values: Any) -> str:
    return "; ".join(dict.fromkeys(values))
