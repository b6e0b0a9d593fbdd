"""Published results beside ours. Their test images are mostly others, so they stand apart from the
boards."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import mean

from experiments.facts import RecordedResult, RunFacts
from experiments.fits import efforts_of, plan
from experiments.published import SAME_SCORE, Evaluation
from lightning_seg.data.splits import leak_of
from lightning_seg.evaluation import SCORES
from lightning_seg.evaluation.intervals import bca, statistic
from lightning_seg.tables import NONE, interval_text, number_text

COMPUTED = re.compile(
    r"(image|pooled)(_fov)?|two_class|batch\d+"
)  # the conventions that a per-image table can give
NAMES = {"dice": "Dice", "f1": "F1", "iou": "IoU", "mcc": "MCC", "auc": "AUC"}


@dataclass(frozen=True)
class OurScore:
    """A score of ours under one convention, mean over the seeds; without an interval where none was
    kept."""

    score: str
    convention: str
    value: float
    interval: tuple[float, float] | None = None

    def __str__(self) -> str:
        name = NAMES.get(self.score, self.score)
        interval = "" if self.interval is None else interval_text(self.interval, word="to")
        bounds = f" ({interval})" if interval not in ("", NONE) else ""
        return f"{name} {number_text(self.value)}{bounds}"


@dataclass(frozen=True)
class Beside:
    """A published evaluation, and ours by the same recipe where there is one.

    Attributes:
        facts: of our seeds.
        ours: under the published convention, or where that is unclear under both usual ones.
        needed: what a result of ours would take, or why there can be none.
    """

    evaluation: Evaluation
    facts: tuple[RunFacts, ...] = ()
    ours: tuple[OurScore, ...] = ()
    needed: str = ""

    @property
    def images(self) -> str:
        """Tell whether the test images are those of a protocol of ours, in words."""
        if self.evaluation.same_images:
            return f"the same as in {self.evaluation.protocol}"
        nearest = self.evaluation.nearest
        return f"others; nearest is {nearest}" if nearest else "others; none of ours is near"

    @property
    def published(self) -> str:
        """``Dice 0.8403, recall 0.8364``."""
        shown = self.evaluation.scores.items()
        return ", ".join(f"{NAMES.get(name, name)} {value:.4f}" for name, value in shown) or "-"

    @property
    def scores(self) -> str:
        """Ours in the same order, by convention where that of the source is unclear."""
        found: dict[str, list[str]] = {}
        for each in self.ours:
            found.setdefault(each.convention, []).append(str(each))
        parts = [f"{convention}: {', '.join(texts)}" for convention, texts in found.items()]
        return "; ".join(parts) or "-"

    @property
    def differences(self) -> dict[str, float]:
        """score -> ours less published, where the convention is the same."""
        wanted = self.evaluation.convention
        same = {each.score: each.value for each in self.ours if each.convention == wanted}
        published = self.evaluation.scores
        return {name: same[name] - published[name] for name in published if name in same}

    @property
    def settings(self) -> str:
        """Tell how ours was made."""
        if not self.facts:
            return ""
        seeds = f"{len(self.facts)} seed{'s' if len(self.facts) > 1 else ''}"
        size = self.facts[0].size
        shown = f"{size} px" if isinstance(size, int) else f"{size} size"
        protocol = f"{self.facts[0].protocol} (LEAKS), "
        leaks = protocol if leak_of(self.facts[0].protocol_digest) else ""
        return f"{leaks}{self.facts[0].settings}, {shown}, {seeds}"


@dataclass
class _Needs:
    """The effort of further results: by the place of the evaluation in the list."""

    texts: dict[int, str] = field(default_factory=dict)

    @classmethod
    def of(cls, evaluations: Sequence[Evaluation]) -> "_Needs":
        fits, refused = plan(evaluations)
        efforts = efforts_of(fits)
        needs = cls({id(e): efforts[fit.point].text for fit in fits for e in fit.evaluations})
        for reason, concerned in refused.items():
            needs.texts |= {id(e): f"cannot be had: {reason}" for e in concerned}
        return needs


def set_beside(
    evaluations: Sequence[Evaluation], results: Sequence[RecordedResult]
) -> list[Beside]:
    """Each evaluation, once for each training of ours that answers to it, or once alone."""
    needs = _Needs.of(evaluations).texts
    found = []
    for evaluation in evaluations:
        trainings = _trainings(evaluation, results)
        for seeds in trainings.values():
            facts = tuple(result.facts for result in seeds)
            found.append(Beside(evaluation, facts, tuple(_ours(evaluation, seeds))))
        if not trainings:
            found.append(Beside(evaluation, needed=needs[id(evaluation)]))
    return found


def _trainings(
    evaluation: Evaluation, results: Sequence[RecordedResult]
) -> Mapping[tuple[str, ...], list[RecordedResult]]:
    """The results that answer to an evaluation, the seeds of each training together."""
    found: dict[tuple[str, ...], list[RecordedResult]] = {}
    for result in results:
        facts = result.facts
        if not evaluation.reproduced_by(facts):
            continue
        images = (facts.protocol_digest, facts.split, str(facts.size), facts.scored_at)
        found.setdefault((facts.training, *images), []).append(result)
    return found


def _ours(evaluation: Evaluation, seeds: list[RecordedResult]) -> list[OurScore]:
    tables = [result.table for result in seeds]
    unclear = evaluation.convention == "unclear"
    wanted = ["image", "pooled"] if unclear else [evaluation.convention]
    if tables[0].fov_counts is None:
        wanted = [name for name in wanted if not name.endswith("_fov")]
    found = []
    for convention in filter(COMPUTED.fullmatch, wanted):
        for score in evaluation.scores:
            ours = SAME_SCORE.get(score, score)
            if ours in (*SCORES, "mcc"):
                counted = statistic(tables, tables[0].classes[0], ours, convention)
                found.append(OurScore(score, convention, counted.value, bca(counted)))
    return [*found, *_areas(evaluation, seeds)]


def _areas(evaluation: Evaluation, seeds: list[RecordedResult]) -> list[OurScore]:
    """The area under the ROC curve, which is of all pixels together; none where a seed did not keep
    it."""
    part = "fov" if evaluation.convention.endswith("_fov") else "all"
    name = seeds[0].table.classes[0]
    areas = [result.facts.roc_auc.get(name, {}).get(part) for result in seeds]
    known = [area for area in areas if area is not None]
    if "auc" not in evaluation.scores or len(known) < len(seeds):
        return []
    return [OurScore("auc", "pooled_fov" if part == "fov" else "pooled", mean(known))]
