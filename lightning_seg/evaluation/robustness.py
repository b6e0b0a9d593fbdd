"""The scores of corrupted images beside those of the same images as they are."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from lightning_seg.data.augment.corruptions import Corruption
from lightning_seg.errors import InputError
from lightning_seg.evaluation.intervals import bca, statistic
from lightning_seg.evaluation.table import ScoreTable
from lightning_seg.files import write_whole

FILE = "corruptions.json"
SCORES = ("dice", "iou")


@dataclass(frozen=True)
class CorruptedScore:
    """The mean over images of a score under one corruption, with 95 % intervals.

    Attributes:
        name: of the class.
        difference: minus that of the images as they are, paired.
    """

    kind: str
    severity: int
    name: str
    score: str
    value: float
    interval: tuple[float, float]
    difference: float
    difference_interval: tuple[float, float]


@dataclass(frozen=True)
class Robustness:
    """The scores of a test split under corruptions, and of what they are.

    Attributes:
        seed: of the corruptions.
        clean: class -> score -> value and interval of the images as they are.
        looks: how often the test split had been scored by then, these together counted once.
        cautions: what must stand above the scores, in words.
    """

    checkpoint: str
    dataset: str
    protocol: str
    protocol_digest: str
    size: int | str
    seed: int
    images: int
    resampled: str
    clean: dict[str, dict[str, tuple[float, float, float]]]
    rows: list[CorruptedScore] = field(default_factory=list)
    looks: int | None = None
    cautions: list[str] = field(default_factory=list)

    @property
    def kinds(self) -> list[str]:
        return list(dict.fromkeys(row.kind for row in self.rows))

    def of(self, name: str, score: str = "dice") -> list[CorruptedScore]:
        """The rows of a class."""
        return [row for row in self.rows if (row.name, row.score) == (name, score)]

    def with_table(
        self, corruption: Corruption, clean: ScoreTable, table: ScoreTable
    ) -> "Robustness":
        """These and the scores of one more corruption."""
        return replace(self, rows=[*self.rows, *_corrupted_scores(corruption, clean, table)])

    def write(self, folder: Path) -> Path:
        """Write ``corruptions.json`` into the folder, whole or not at all."""
        file = folder / FILE
        write_whole(file, (json.dumps(asdict(self), indent=1) + "\n").encode())
        return file

    @classmethod
    def read(cls, file: Path) -> "Robustness":
        """What `write` wrote.

        Raises:
            InputError: the file is damaged.
        """
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            rows = [_row(each) for each in content.pop("rows")]
            return cls(**content, rows=rows)
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(
                f"{file} is damaged ({error}); remove it, and give test --corrupt again."
            ) from error


def _row(found: dict[str, Any]) -> CorruptedScore:
    pairs = ("interval", "difference_interval")
    return CorruptedScore(**found | {key: tuple(found[key]) for key in pairs})


def clean_scores(table: ScoreTable) -> dict[str, dict[str, tuple[float, float, float]]]:
    """class -> score -> the mean over images as they are, with its interval."""
    found = {
        name: {each: statistic([table], name, each) for each in SCORES} for name in table.classes
    }
    return {
        name: {score: (one.value, *bca(one)) for score, one in by_score.items()}
        for name, by_score in found.items()
    }


def _corrupted_scores(
    corruption: Corruption, clean: ScoreTable, table: ScoreTable
) -> Iterator[CorruptedScore]:
    for name in table.classes:
        for score in SCORES:
            ours, theirs = (statistic([one], name, score) for one in (table, clean))
            change = ours.minus(theirs)
            facts = corruption.kind, corruption.severity, name, score
            yield CorruptedScore(*facts, ours.value, bca(ours), change.value, bca(change))
