"""Whether one result stands under the names of two: a run and its copy are no two seeds."""

from collections.abc import Iterable
from pathlib import Path

from experiments.facts import RecordedResult
from lightning_seg.errors import InputError
from lightning_seg.evaluation.scored_table import tells_networks_apart


class KnownTables:
    """The tables of results, by content and the images that they are of."""

    def __init__(self, results: Iterable[RecordedResult] = ()) -> None:
        self._known: dict[tuple[Path, bytes], RecordedResult] = {}
        for result in results:
            self.add(result)

    def add(self, result: RecordedResult) -> None:
        """Add one; InputError where its table is that of another training or seed."""
        if not tells_networks_apart(result.table):
            return
        first = self._known.setdefault((result.facts.place.parent, _content(result)), result)
        if _training(first) != _training(result):
            raise InputError(
                f"{result.file} is the table of {first.file}, which is of another training or "
                f"seed ({first.facts.seed}): a run and its copy are one result; leave one out."
            )


def _content(result: RecordedResult) -> bytes:
    return result.file.read_bytes()


def _training(result: RecordedResult) -> tuple[str, int]:
    return result.facts.training, result.facts.seed
