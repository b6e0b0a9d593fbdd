"""Published results beside ours. Their test images are mostly others, so they stand apart from the boards."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from experiments.facts import Facts, Result
from experiments.leaderboard.boards import SCORE, published_score
from experiments.published import Evaluation
from lightning_seg.evaluation.intervals import bca, statistic

COMPUTED = re.compile(
    r"(image|pooled)(_fov)?|two_class|batch\d+"
)  # the conventions that a per-image table can give


@dataclass(frozen=True)
class Ours:
    """A score of ours under one convention, mean over the seeds, with its interval."""

    convention: str
    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4f} ({self.low:.3f} to {self.high:.3f}) {self.convention}"


@dataclass(frozen=True)
class Beside:
    """A published evaluation, and ours by the same recipe where there is one."""

    evaluation: Evaluation
    facts: tuple[Facts, ...] = ()  # of our seeds
    ours: tuple[
        Ours, ...
    ] = ()  # under the published convention, or where that is unclear under both usual ones

    @property
    def images(self) -> str:
        """Whether the test images are those of a protocol of ours, in words."""
        if self.evaluation.same_images:
            return f"the same as in {self.evaluation.protocol}"
        return (
            f"others; nearest is {self.evaluation.nearest}"
            if self.evaluation.nearest
            else "others; none of ours is near"
        )

    @property
    def difference(self) -> float | None:
        """Ours less published, where the convention is the same."""
        value = published_score(self.evaluation)
        same = [ours for ours in self.ours if ours.convention == self.evaluation.convention]
        return same[0].value - value if same and value is not None else None

    @property
    def settings(self) -> str:
        """How ours was made."""
        if not self.facts:
            return ""
        seeds = f"{len(self.facts)} seed{'s' if len(self.facts) > 1 else ''}"
        size = self.facts[0].size
        return f"{self.facts[0].settings}, {f'{size} px' if isinstance(size, int) else f'{size} size'}, {seeds}"


def set_beside(evaluations: Sequence[Evaluation], results: Sequence[Result]) -> list[Beside]:
    """Each evaluation, once for each training of ours that answers to it, or once alone."""
    found = []
    for evaluation in evaluations:
        trainings: dict[tuple[str, ...], list[Result]] = {}
        for result in results:
            if evaluation.reproduced_by(result.facts):
                facts = result.facts
                key = (
                    facts.training,
                    facts.protocol_digest,
                    facts.split,
                    str(facts.size),
                    facts.scored_at,
                )
                trainings.setdefault(key, []).append(result)
        for seeds in trainings.values():
            found.append(
                Beside(evaluation, tuple(r.facts for r in seeds), tuple(_ours(evaluation, seeds)))
            )
        if not trainings:
            found.append(Beside(evaluation))
    return found


def _ours(evaluation: Evaluation, seeds: list[Result]) -> list[Ours]:
    tables = [result.table for result in seeds]
    wanted = ["image", "pooled"] if evaluation.convention == "unclear" else [evaluation.convention]
    wanted = [name for name in wanted if COMPUTED.fullmatch(name)]
    wanted = [
        name for name in wanted if not name.endswith("_fov") or tables[0].fov_counts is not None
    ]
    scored = [(name, statistic(tables, tables[0].classes[0], SCORE, name)) for name in wanted]
    return [Ours(name, score.value, *bca(score)) for name, score in scored]
