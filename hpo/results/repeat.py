"""``python -m hpo repeat``: whether tuning helped. The tuned and the untuned recipe under the same
new seeds, each tested once."""

import argparse
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from hpo import queue
from hpo.options import add_engine_options
from hpo.results.best import is_recipe
from hpo.results.outcome import add_outcome_options, convention_of, name_of, open_outcome
from hpo.results.tuned_recipe import own_overrides, tuned_content
from hpo.slots import slots
from hpo.spec import StudySpec, SweepPoint
from hpo.storage import resolve
from hpo.study import launch
from hpo.trials import trial_command, trial_folder
from hpo.worker import load_spec
from lightning_seg.errors import InputError
from lightning_seg.evaluation import Comparison, ScoreTable, compare_models, statistic
from lightning_seg.files import real_path
from lightning_seg.options import OptionParser
from lightning_seg.runs.scored_models import find_scores
from lightning_seg.tables import NONE, Table, number_text

TUNED, UNTUNED = "tuned", "untuned"


def main(args: list[str]) -> None:
    """Train and test what is not there yet, then compare; the same command goes on after whatever
    ended it."""
    options = _parser().parse_args(args)
    if options.seeds < 2:
        raise InputError(
            f"--seeds is {options.seeds}; give at least 2, as a single training says little."
        )
    outcome = open_outcome(options)
    trial = outcome.choose(options.trial)
    if is_recipe(outcome, trial):
        raise InputError(
            f"{name_of(trial)} is the recipe itself, so there is nothing to compare; name another --trial."
        )
    own = [args[1] for args in outcome.spec.replicas.values() if args[0] == "--seed_everything"]
    first = 1 + max(map(int, [tuned_content(outcome.spec, trial).get("seed_everything", 42), *own]))
    name = f"{outcome.study.study_name}_repeat_{trial.user_attrs['slot']:04d}"
    places = slots(options.workers, options.per_gpu, options.devices_per_trial)
    seeds = range(first, first + options.seeds)  # none of them served the search
    settings = {"runs": str(real_path(Path(options.runs) / name)), "retries": options.retries}
    spec = spec_of(outcome.spec, trial, seeds, devices=options.devices_per_trial, **settings)
    if options.dry_run:
        print("\n".join(trial_command(spec, slot, []) for slot in range(spec.trials)))
        return
    storage = resolve(options.storage, Path(options.runs), name)
    study = launch(spec, storage, name, places, options.minutes, options.retry_failed)
    tables, done = tables_of(study)
    rows = list(differences(tables))
    print(
        f"{name_of(trial)} of study {outcome.study.study_name!r} against its recipe, seeds {', '.join(map(str, done))}:"
    )
    _table(rows).show()
    print(
        verdict(
            next(row for row in rows if row.is_objective(spec.objective)), len(tables[TUNED][0].ids)
        )
    )


def _parser() -> argparse.ArgumentParser:
    parser = OptionParser(prog="python -m hpo repeat", description=__doc__)
    parser.add_argument(
        "--seeds", type=int, default=3, help="how many, other ones than those of the search"
    )
    parser.add_argument(
        "--limit_minutes",
        "--minutes",
        dest="minutes",
        type=float,
        help="after which no training is started",
    )
    add_engine_options(parser)
    add_outcome_options(parser, place=False)
    return parser


def spec_of(
    tuned: StudySpec, trial: FrozenTrial, seeds: Iterable[int], **settings: Any
) -> StudySpec:
    """Both recipes under each seed, as a sweep."""
    own = {UNTUNED: [], TUNED: own_overrides(tuned, trial)}
    points = [SweepPoint(name, seed, args) for seed in seeds for name, args in own.items()]
    same = {name: getattr(tuned, name) for name in ("recipe", "digest", "args", "objective")}
    return StudySpec(
        **same,
        **settings,
        trials=len(points),
        points=points,
        sampler="random",
        pruner="none",
        test=True,
    )


def tables_of(
    study: optuna.Study,
) -> tuple[dict[str, list[ScoreTable]], list[int]]:
    """The test's tables of both recipes, one for each seed that both have finished; InputError for
    fewer than two."""
    spec = load_spec(study)
    done: dict[tuple[str, int], Path] = {}
    for slot, trial in queue.attempts(study.get_trials(deepcopy=False)).items():
        if trial.state == TrialState.COMPLETE:
            done[spec.points[slot].name, spec.points[slot].seed] = trial_folder(spec, slot)
    seeds = sorted({seed for _, seed in done if {(TUNED, seed), (UNTUNED, seed)} <= set(done)})
    if len(seeds) < 2:
        raise InputError(
            f"{len(done)} of {spec.trials} trainings of study {study.study_name!r} are done, under fewer than two common "
            "seeds; the same command goes on, with --retry-failed also where they failed."
        )
    files = {
        name: [find_scores(done[name, seed], "test") for seed in seeds] for name in (TUNED, UNTUNED)
    }
    return {name: [ScoreTable.read(file) for file in found] for name, found in files.items()}, seeds


class Difference(NamedTuple):
    """A score of both recipes by seed, and the paired difference over the test images."""

    class_name: str
    score: str
    convention: str
    tuned: list[float]
    untuned: list[float]
    found: Comparison
    classes: tuple[str, ...]

    def is_objective(self, objective: str) -> bool:
        """Tell whether this is the score that was tuned for (of several classes that of the
        first)."""
        score, convention, chosen = convention_of(objective, self.classes)
        return (self.score, self.convention, self.class_name) == (score, convention, chosen[0])


def differences(tables: dict[str, list[ScoreTable]]) -> Iterator[Difference]:
    """The differences of each class and overlap score, under both conventions."""
    classes = tables[TUNED][0].classes
    for name in classes:
        for score in ("dice", "iou", "precision", "recall", "specificity", "accuracy"):
            for convention in ("pooled", "image"):
                tuned, untuned = (
                    [statistic([table], name, score, convention).value for table in tables[kind]]
                    for kind in (TUNED, UNTUNED)
                )
                found = compare_models(tables[TUNED], tables[UNTUNED], name, score, convention)
                yield Difference(name, score, convention, tuned, untuned, found, classes)


def verdict(row: Difference, images: int) -> str:
    """Tell whether tuning helped, in words: by the score that was tuned for. It did where both the
    images and all seeds say so."""
    found = row.found
    by_seed = np.subtract(row.tuned, row.untuned)
    sure = (found.low > 0 and (by_seed > 0).all()) or (found.high < 0 and (by_seed < 0).all())
    word = ("helped" if found.difference > 0 else "did harm") if sure else "made no sure difference"
    return (
        f"Tuning {word}: test {row.score} ({row.convention}) {found.difference:+.4f}, "
        f"95 % {_interval(found)} "
        f"over {images} images; by seed {', '.join(f'{value:+.4f}' for value in by_seed)}."
    )


def _table(rows: Sequence[Difference]) -> Table:
    header = ("class", "score", "convention", "tuned", "untuned", "difference", "95 %", "p")
    note = (
        "Mean and SD over seeds. The difference is that of the means, its interval a paired BCa bootstrap over test images: "
        "it says nothing of further seeds. p is not corrected for the number of rows."
    )
    lines = []
    for row in rows:
        found = row.found
        p = "<0.001" if found.p_bootstrap < 0.0005 else number_text(found.p_bootstrap, 3)
        interval = _interval(found)
        cells = (_spread(row.tuned), _spread(row.untuned), f"{found.difference:+.4f}", interval, p)
        lines.append((row.class_name, row.score, row.convention, *cells))
    return Table(header, lines, caption=note, left=header[:3])


def _interval(found: Comparison) -> str:
    return NONE if np.isnan(found.low) else f"{found.low:+.4f} to {found.high:+.4f}"


def _spread(values: Sequence[float]) -> str:
    return f"{np.mean(values):.4f} ± {np.std(values, ddof=1):.4f}"
