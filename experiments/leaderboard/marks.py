"""Marks of a line that are seen at once: a short name, and the words that must be known before its
number is used."""

from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from experiments.facts import RunFacts, words
from experiments.leaderboard.boards import Board, BoardLine, Key
from lightning_seg.data.splits import leak_of
from lightning_seg.runs.cautions import is_synthetic


class Flag(NamedTuple):
    """A word in capitals, and the sentence behind it."""

    word: str
    meaning: str


def board_flags(key: Key, facts: list[RunFacts]) -> list[Flag]:
    """Flags that hold for all lines over one set of images."""
    found = []
    if is_synthetic(key.dataset) or any(each.synthetic for each in facts):
        found.append(Flag("SYNTHETIC", "says nothing about clinical performance"))
    if leak := leak_of(key.digest):
        found.append(Flag("LEAKS", leak))
    elif any(each.leaks for each in facts):
        found.append(Flag("LEAKS", "one patient or sequence stands in several splits"))
    return found


def line_flags(line: BoardLine) -> list[Flag]:
    """Flags that hold for one model, each word once."""
    found = {}
    for facts in line.facts:
        if facts.ending:
            found["PARTIAL TRAINING"] = facts.ending
        if facts.doubts:
            found["DOUBTS"] = facts.doubts
        if facts.inference:
            found[facts.inference.upper()] = "more than one pass of the network alone"
    if len(line.facts) == 1 and not line.first.folds:
        found["ONE SEED"] = "one training is one draw"
    return [Flag(word, meaning) for word, meaning in found.items()]


def short_names(board: Board) -> list[str]:
    """The shortest names that tell the lines of a board apart, in their order."""
    makers: list[Callable[[RunFacts], str]] = [
        _network,
        _with_options,
        _with_precision,
        _with_changes,
        _with_commit,
    ]
    names = [""] * len(board.lines)
    for make in makers:
        shared = Counter(names)
        for place, line in enumerate(board.lines):
            if shared[names[place]] > 1 or not names[place]:
                names[place] = make(line.first)
    return names


def _network(facts: RunFacts) -> str:
    encoder = facts.encoder.partition(".")[0]
    return f"{facts.architecture} x {encoder}" if encoder else facts.architecture


def _with_options(facts: RunFacts) -> str:
    return facts.model.replace(facts.encoder, facts.encoder.partition(".")[0] or facts.encoder)


def _with_precision(facts: RunFacts) -> str:
    return f"{_with_options(facts)}, {facts.precision}"


def _with_changes(facts: RunFacts) -> str:
    changes = [f"{key.rpartition('.')[2]}={words(value)}" for key, value in facts.changes.items()]
    return ", ".join([_with_options(facts), facts.recipe or "no recipe", *changes])


def _with_commit(facts: RunFacts) -> str:
    return f"{_with_changes(facts)}, commit {facts.commit or 'unknown'}"
