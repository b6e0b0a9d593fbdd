"""Boards: one table for each set of images, class and convention, so that no column holds what
cannot be compared."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import nan
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from experiments.facts import RecordedResult, RunFacts
from experiments.published import Evaluation
from lightning_seg.evaluation import ScoreTable, per_image, strata
from lightning_seg.evaluation.intervals import bca, statistic
from lightning_seg.evaluation.measures import MEASURES
from lightning_seg.evaluation.ranking import Ranking, rank_intervals
from lightning_seg.evaluation.summary import Estimate

SCORE = "dice"  # what models are ranked by
# convention -> what else is shown
BESIDE = {
    "image": ("iou", *(measure.name for measure in MEASURES if measure.heading)),
    "pooled": ("iou",),
}
VOLUMES = ("lits", "phantom_ct", "synapse")  # data sets whose groups are scans


class Key(NamedTuple):
    """The facts that all lines of a board share."""

    dataset: str
    protocol: str
    digest: str
    split: str
    size: int | str
    scored_at: str
    class_name: str
    convention: str

    @property
    def images(self) -> "Key":
        """The same for all conventions of one class."""
        return self._replace(convention="")


@dataclass(frozen=True)
class BoardLine:
    """A model with one training, over all its seeds."""

    facts: tuple[RunFacts, ...]  # by seed
    ranking: Ranking  # rank 0 where there is no per-image table
    seeds: NDArray[np.float64]  # the score of each
    beside: dict[str, float]
    images: NDArray[
        np.float64
    ]  # the score of each image, mean over the seeds; empty without a table
    published: tuple[
        Evaluation, ...
    ]  # of the same network, on the same images, under the same convention
    parts: dict[str, Estimate] = field(default_factory=dict)  # by value of the table's columns

    @property
    def first(self) -> RunFacts:
        return self.facts[0]

    @property
    def standing(self) -> str:
        """The standing of the line beside the best one, in words."""
        if self.ranking.rank == 0:
            return "not ranked: no per-image table"
        if self.ranking.rank == 1:
            return "leader"
        return "tied with the leader" if self.ranking.tied_with_best else "behind the leader"


@dataclass(frozen=True)
class Board:
    """The lines that can be compared, best first."""

    key: Key
    lines: tuple[BoardLine, ...]

    @property
    def leader(self) -> BoardLine:
        return min(self.lines, key=lambda line: line.ranking.rank or len(self.lines) + 1)

    def seeds_overlap(self, line: BoardLine) -> bool:
        """Tell whether a seed of a line that is behind is as good as one of the leader's: then
        training is a matter of luck."""
        return line.standing == "behind the leader" and bool(
            line.seeds.max() >= self.leader.seeds.min()
        )

    @property
    def facts(self) -> list[RunFacts]:
        return [facts for line in self.lines for facts in line.facts]

    @property
    def looks(self) -> int:
        """The most looks at the test split that any of its runs had counted."""
        return max((facts.looks or 0 for facts in self.facts), default=0)


def make_boards(
    results: Iterable[RecordedResult],
    rows: Iterable[dict[str, str]] = (),
    evaluations: Sequence[Evaluation] = (),
) -> list[Board]:
    """Boards of recorded results and of ``rows`` of reproduced.csv that have no table, in the order
    of their keys.

    Args:
        evaluations: published ones, which stand in a line where network, images and convention are
            the same.
    """
    models: dict[Key, dict[str, list[RecordedResult]]] = {}
    for result in results:
        for key in _keys(result):
            models.setdefault(key, {}).setdefault(
                f"{result.facts.model} {result.facts.training}", []
            ).append(result)
    lines = {key: _ranked(key, by_model, evaluations) for key, by_model in models.items()}
    for row in rows:
        if not row["table"] and row["score"] == SCORE:
            lines.setdefault(_row_key(row), []).append(_unranked(row))
    by_value = {
        key: sorted(found, key=lambda line: (line.ranking.rank == 0, -line.ranking.value))
        for key, found in lines.items()
    }
    return [
        Board(key, tuple(by_value[key]))
        for key in sorted(by_value, key=lambda key: tuple(map(str, key)))
    ]


def _keys(result: RecordedResult) -> list[Key]:
    facts, table = result.facts, result.table
    conventions = ["image", "pooled"]
    conventions += ["image_fov", "pooled_fov"] if table.fov_counts is not None else []
    conventions += ["volume"] if facts.dataset in VOLUMES else []
    place = (
        facts.dataset,
        facts.protocol,
        facts.protocol_digest,
        facts.split,
        facts.size,
        facts.scored_at,
    )
    return [Key(*place, name, convention) for name in table.classes for convention in conventions]


def _ranked(
    key: Key, models: dict[str, list[RecordedResult]], evaluations: Sequence[Evaluation]
) -> list[BoardLine]:
    tables = {name: [result.table for result in results] for name, results in models.items()}
    ranking = rank_intervals(tables, key.class_name, SCORE, key.convention)
    lines = []
    for name, results in models.items():
        facts = tuple(sorted((result.facts for result in results), key=lambda facts: facts.seed))
        seeds = statistic(tables[name], key.class_name, SCORE, key.convention).seeds
        images = np.mean([per_image(table.of(key.class_name), SCORE) for table in tables[name]], 0)
        beside = {
            score: statistic(tables[name], key.class_name, score, key.convention).value
            for score in BESIDE.get(key.convention, ("iou",))
            if score == "iou" or all(score in table.measures for table in tables[name])
        }
        published = tuple(
            e
            for e in evaluations
            if e.same_images and e.convention == key.convention and e.reproduced_by(facts[0])
        )
        parts = _parts(tables[name], key) if key.convention == "image" else {}
        lines.append(BoardLine(facts, ranking[name], seeds, beside, images, published, parts))
    return lines


def _parts(tables: Sequence[ScoreTable], key: Key) -> dict[str, Estimate]:
    """``centre: A`` -> the score of these images, mean over the seeds."""
    found = {}
    for part in (each for each in strata(tables[0], key.class_name) if each.column):
        rows = np.flatnonzero(part.rows)
        mean = statistic([table.at(rows) for table in tables], key.class_name, SCORE)
        found[part.name] = Estimate(mean.value, bca(mean))
    return found


def _row_key(row: dict[str, str]) -> Key:
    size = int(row["size"]) if row["size"].isdigit() else row["size"]
    place = (
        row["dataset"],
        row["protocol"],
        row["protocol_digest"],
        row["split"],
        size,
        row["scored_at"],
    )
    return Key(*place, row["class"], row["convention"])


def _unranked(row: dict[str, str]) -> BoardLine:
    value, low, high = (float(row[name] or "nan") for name in ("value", "low", "high"))
    key = _row_key(row)
    facts = RunFacts(
        recipe=row["recipe"],
        architecture=row["architecture"],
        encoder=row["encoder"],
        pretrained=bool(row["encoder_weights_sha256"]),
        encoder_weights={"sha256": row["encoder_weights_sha256"]},
        dataset=key.dataset,
        protocol=key.protocol,
        protocol_digest=key.digest,
        split=key.split,
        images=int(row["images"]),
        size=key.size,
        scored_at=key.scored_at,
        looks=int(row["looks"]) if row["looks"] else None,
        seed=int(row["seed"]),
        epochs=int(row["epochs"]),
        precision=row["precision"],
        commit=row["commit"],
        hardware=row["hardware"],
        minutes=float(row["minutes"]) if row["minutes"] else None,
    )
    return BoardLine(
        (facts,),
        Ranking(value, low, high, nan, 0, 0, 0, False),
        np.array([value]),
        {},
        np.array([]),
        (),
    )
