"""What a study is: all that a worker must know, kept with the study itself."""

import json
from dataclasses import asdict, dataclass, field, fields, replace
from fnmatch import fnmatchcase
from typing import Any, Literal

from lightning_seg.errors import InputError

Direction = Literal["minimize", "maximize"]
# may change when a study is taken up again; of the recipe the content counts
FREE = (
    "trials",
    "points",
    "start",
    "retries",
    "patience",
    "grace",
    "recipe",
    "base",
    "files",
    "keep_best",
)


@dataclass(frozen=True)
class SweepPoint:
    """One combination of a sweep: its name, the seed, and the overrides of the recipe."""

    name: str
    seed: int
    args: list[str]

    @property
    def key(self) -> str:
        return f"{self.name} seed {self.seed}"


@dataclass(frozen=True)
class StudySpec:
    """A study: a recipe, what varies over it, how that is chosen and judged.

    Args:
        recipe: path of the recipe; ``digest`` of its content.
        args: overrides that hold for every trial.
        runs: folder of the trials' runs (absolute).
        trials: how many there are to be.
        space: search space (see `hpo.space`), or None where ``points`` are the grid of a sweep.
        start: parameters of the first trials, as far as they are given; the sampler draws the rest.
        base: what the recipe says, dotted: for conditions and for keys inside of its dictionaries.
        objective: a validation score; ``minimize``: a cost beside it, gmacs or latency.
        keep: how many trials go on after their first epoch under the pruner first-epoch.
        replicas: runs of each trial, which is then judged by their mean: name -> overrides, of a
            seed or a fold.
        retries: how often a trial whose process died is run again.
        patience: the study ends after so many trials in a row without improvement.
        grace: seconds of silence after which a worker on another machine counts as dead.
        maximum: GiB of memory above which a trial is infeasible.
        devices: GPUs (processes on the CPU) of each trial.
        test: score the best checkpoint on the test split after training; only sweeps do.
        keep_best: how many finished trials keep their weights, the best ones; None: all.
        function: ``module:name`` called in place of a training, with the parameters and a function
            ``report(step, value)`` that says whether to stop. For tests and measurements of the
            engine.
        files: digests of the YAML files that recipe, arguments and space name, such as those of
            augmentation; empty where an older version made the study.
    """

    recipe: str
    digest: str
    args: list[str]
    runs: str
    trials: int
    space: dict[str, Any] | None = None
    points: list[SweepPoint] = field(default_factory=list)
    base: dict[str, Any] = field(default_factory=dict)
    objective: str = "val/dice"
    minimize: str | None = None
    start: list[dict[str, Any]] = field(default_factory=list)
    sampler: str = "tpe"
    pruner: str = "hyperband"
    keep: int = 5
    replicas: dict[str, list[str]] = field(default_factory=dict)
    retries: int = 1
    patience: int | None = None
    grace: float = 90.0
    maximum: float | None = None
    devices: int = 1
    test: bool = False
    keep_best: int | None = None
    function: str | None = None
    files: dict[str, str] = field(default_factory=dict)

    @property
    def directions(self) -> list[Direction]:
        first: Direction = "minimize" if self.objective == "val/loss" else "maximize"
        return [first, "minimize"] if self.minimize else [first]

    def wanted(self, only: str | None = None) -> set[int]:
        """The slots whose point is matched, as a whole, by the glob ``only``; all without one."""
        slots = range(self.trials)
        return {
            i for i in slots if not (only and self.points) or fnmatchcase(self.points[i].key, only)
        }

    def dump(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def load(cls, text: str) -> "StudySpec":
        """The study of that JSON; fields that another version of this project wrote are left
        out."""
        known = {f.name for f in fields(cls)}
        content = {key: value for key, value in json.loads(text).items() if key in known}
        return cls(**content | {"points": [SweepPoint(**point) for point in content["points"]]})

    def resumed(self, other: "StudySpec", study: str) -> "StudySpec":
        """This study, grown by what ``other`` adds; InputError where the two are not the same
        study."""
        for name in (f.name for f in fields(self) if f.name not in FREE):
            if getattr(self, name) != getattr(other, name):
                raise InputError(_changed(study, name, getattr(self, name), getattr(other, name)))
        changed = [name for name, value in self.files.items() if other.files.get(name) != value]
        if changed:
            raise InputError(
                f"{changed[0]}, which study {study!r} names, has changed since it began; restore "
                "it, or give another --study."
            )
        known = {point.key: point for point in self.points}
        for point in other.points:
            if point.key in known and known[point.key] != point:
                raise InputError(_changed(study, point.key, known[point.key].args, point.args))
        points = [*self.points, *(point for point in other.points if point.key not in known)]
        trials = len(points) if points else max(self.trials, other.trials)
        return replace(other, points=points, trials=trials, start=self.start, base=self.base)


def _changed(study: str, name: str, old: Any, new: Any) -> str:
    if name == "digest":
        return f"the recipe of study {study!r} has changed since it began; restore it, or give another --study."
    return f"study {study!r} exists with another {name} ({_short(old)}, not {_short(new)}); keep it, or give another --study."


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 120 else f"{text[:117]}..."
