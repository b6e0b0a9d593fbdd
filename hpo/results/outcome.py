"""What a study found: its trials, the one that is chosen, and how sure its score is."""

import argparse
import contextlib
import io
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from hpo import queue
from hpo.space import overrides
from hpo.spec import StudySpec
from hpo.storage import STORAGE_VARIABLE, open_storage, resolve
from hpo.trial_messages import holds_trial
from hpo.trials import trial_folder
from hpo.worker import load_spec
from lightning_seg.cli import run
from lightning_seg.errors import InputError, unknown
from lightning_seg.evaluation import SCORES, ScoreTable, bca, statistic
from lightning_seg.evaluation.intervals import Statistic
from lightning_seg.files.trust import check_code, check_code_of_arguments
from lightning_seg.options import add_trust_option
from lightning_seg.runs import find_checkpoint
from lightning_seg.runs.checkpoints import read_checkpoint


@dataclass(frozen=True)
class Outcome:
    """A study of trials over a search space.

    Attributes:
        runs: the folder of all runs, where the study's own one is looked for if it is not where it
            was.
    """

    study: optuna.Study
    spec: StudySpec
    runs: Path

    @cached_property
    def trials(self) -> dict[int, FrozenTrial]:
        """slot -> the trial that counts."""
        return queue.attempts(self.study.get_trials(deepcopy=False))

    @cached_property
    def front(self) -> list[FrozenTrial]:
        """The best trials, none of which is better than another in all objectives: by the first
        objective, best first."""
        sign = -1 if self.spec.directions[0] == "maximize" else 1
        front = [trial for trial in self.study.best_trials if "slot" in trial.user_attrs]
        return sorted(front, key=lambda trial: (sign * trial.values[0], trial.user_attrs["slot"]))

    def count(self, state: TrialState) -> int:
        return Counter(trial.state for trial in self.trials.values())[state]

    def choose(self, slot: int | None = None) -> FrozenTrial:
        """The best trial, or that of a slot; InputError where it has not finished."""
        name = self.study.study_name
        if not self.front:
            states = Counter(trial.state.name.lower() for trial in self.trials.values())
            known = (
                ", ".join(f"{number} {state}" for state, number in states.items())
                or "none has begun"
            )
            limit = " within --max-memory" if self.count(TrialState.COMPLETE) else ""
            raise InputError(
                f"no trial of study {name!r} is complete{limit} yet ({known}); let `hpo run` go on first."
            )
        if slot is None:
            return self.front[0]
        if slot not in self.trials or self.trials[slot].state != TrialState.COMPLETE:
            complete = [
                str(s)
                for s, trial in sorted(self.trials.items())
                if trial.state == TrialState.COMPLETE
            ]
            raise InputError(
                f"trial {slot} of study {name!r} is not complete; those are {', '.join(complete)}."
            )
        return self.trials[slot]

    def folders(self, trial: FrozenTrial) -> list[Path]:
        """The runs of a trial: one, or one for each seed or fold."""
        made = trial_folder(self.spec, trial.user_attrs["slot"])
        places = dict.fromkeys((self.runs / self.study.study_name / made.name, made))
        drawn = overrides(trial.params, self.spec.base)
        known = [place for place in places if place.is_dir() and holds_trial(place, drawn)]
        if not known:
            raise InputError(
                f"{name_of(trial)} of study {self.study.study_name!r} is not in "
                f"{' or '.join(map(str, places))}; give the --runs that hold it."
            )
        return [Path(f"{known[0]}-{name}") for name in self.spec.replicas] or [known[0]]


def name_of(trial: FrozenTrial) -> str:
    """``trial_0013``, as its folder is called."""
    return f"trial_{trial.user_attrs['slot']:04d}"


def add_outcome_options(parser: argparse.ArgumentParser, place: bool = True) -> None:
    """Add the options that name study and trial; ``place``: also the options that say where studies
    are."""
    if place:
        parser.add_argument("--study", help="its name (default: the only one there is)")
        parser.add_argument(
            "--storage",
            default=os.environ.get(STORAGE_VARIABLE),
            help="as `run` was given it (default: the journal in the study's runs)",
        )
        parser.add_argument("--runs", default="runs", help="folder of all runs")
        add_trust_option(parser)
    parser.add_argument(
        "--trial", type=int, metavar="N", help="another one than the best: 13 for trial_0013"
    )


def open_outcome(options: argparse.Namespace) -> Outcome:
    """The study that the options name; InputError where there is none, or where it is a sweep."""
    runs = Path(options.runs)
    name = _study_name(options.study, options.storage, runs)
    opened = open_storage(resolve(options.storage, runs, name))
    try:
        study = optuna.load_study(study_name=name, storage=opened)
    except KeyError:
        held = ", ".join(sorted(optuna.get_all_study_names(opened))) or "none"
        raise InputError(
            f"the journal of study {name!r} holds the study {held}, as if its folder were renamed; "
            "rename it back."
        ) from None
    if "spec" not in study.user_attrs:
        raise InputError(
            f"study {name!r} was not made by `python -m hpo run`; optuna-dashboard shows it."
        )
    spec = load_spec(study)
    if spec.points:
        raise InputError(
            f"{name!r} is a sweep, which has no search space; see `python -m experiments leaderboard`."
        )
    outcome = Outcome(study, spec, runs)
    _check_trust(outcome, options.trust_code)
    return outcome


def _check_trust(outcome: Outcome, trust_code: bool) -> None:
    """What a study says of its trials is found: it names no code from outside unasked."""
    name = f"study {outcome.study.study_name!r}"
    own = [arg for args in outcome.spec.replicas.values() for arg in args]
    check_code_of_arguments([*outcome.spec.args, *own], name, trust_code)
    for content in (outcome.spec.base, outcome.spec.space, *outcome.spec.start):
        check_code(content, name, trust_code)
    for trial in outcome.trials.values():
        check_code(trial.params, name, trust_code)


def _study_name(name: str | None, storage: str | None, runs: Path) -> str:
    if storage is None:
        known = sorted(path.parent.name for path in runs.glob("*/study.journal"))
        where = f"below {str(runs)!r}"
    else:
        known = sorted(optuna.get_all_study_names(open_storage(resolve(storage, runs, ""))))
        where = f"in {storage!r}"
    if not known:
        raise InputError(
            f"there is no study {where}; give the --runs or --storage that `hpo run` was given."
        )
    if name is None and len(known) > 1:
        raise InputError(
            f"there are {len(known)} studies {where}; give --study, one of {', '.join(known)}."
        )
    if name is not None and name not in known:
        raise unknown(f"study {where}", name, known)
    return name or known[0]


# --- scores of validation ---


@dataclass(frozen=True)
class Validation:
    """A score of the best epochs of a trial's runs, with its 95 % interval (nan where the runs have
    other images)."""

    value: float
    low: float
    high: float
    units: str  # what was resampled: "100 validation images"
    convention: str  # image or pooled

    def __str__(self) -> str:
        kind = "mean over images" if self.convention == "image" else "pooled over pixels"
        if np.isnan(self.low):
            return f"{self.value:.4f} ({kind}, {self.units})"
        return f"{self.value:.4f} (95 % {self.low:.4f} to {self.high:.4f}, {kind}, {self.units})"


def validation(folders: Sequence[Path], objective: str) -> Validation:
    """The objective (Dice where that is the loss) of a trial's runs, over the images of the
    validation split."""
    tables = [ScoreTable.read(validated(folder)) for folder in folders]
    parts = [objective_statistic(objective, [table]) for table in tables]
    convention = convention_of(objective, tables[0].classes)[1]
    if any(table.ids != tables[0].ids for table in tables):  # folds
        mean, sd = np.mean([p.value for p in parts]), np.std([p.value for p in parts], ddof=1)
        return Validation(
            float(mean), np.nan, np.nan, f"SD {sd:.4f} over {len(tables)} folds", convention
        )
    whole = objective_statistic(objective, tables)
    groups = len(set(tables[0].groups))
    units = (
        f"{groups} groups of validation images"
        if tables[0].grouped
        else f"{groups} validation images"
    )
    units += f", mean of {len(tables)} seeds" if len(tables) > 1 else ""
    return Validation(whole.value, *bca(whole), units, convention)


def validated(folder: Path) -> Path:
    """The validation's table of the best checkpoint of a run; it is scored where that was not done
    before."""
    checkpoint = find_checkpoint(folder, "best")
    content = read_checkpoint(checkpoint)
    size = content["datamodule_hyper_parameters"].get("size") or "native"
    place = (
        checkpoint.parent.parent
        / f"val-{content['lightning_seg']['protocol']}"
        / f"{checkpoint.stem}-{size}"
    )
    if not (place / "scores.csv").is_file():
        with contextlib.redirect_stdout(io.StringIO()):
            run(["validate", "--ckpt_path", str(checkpoint), "--measures", "none"])
    return place / "scores.csv"


def convention_of(
    objective: str,
    classes: Sequence[str],
) -> tuple[str, str, list[str]]:
    """Score, convention and classes of an objective: ``val/dice_image_liver`` -> dice, image,
    [liver].

    ``val/loss`` is no score of images: the Dice stands in for it.
    """
    name, chosen = objective.removeprefix("val/"), list(classes)
    for each in classes:
        if len(classes) > 1 and name.endswith(f"_{each}"):
            name, chosen = name.removesuffix(f"_{each}"), [each]
            break
    convention = "image" if name.endswith("_image") else "pooled"
    score = name.removesuffix("_image")
    return score if score in SCORES else "dice", convention, chosen


def objective_statistic(objective: str, tables: Sequence[ScoreTable]) -> Statistic:
    """The objective of one table per seed, over the same images: its mean over seeds and classes,
    as it was logged."""
    score, convention, classes = convention_of(objective, tables[0].classes)
    parts = [statistic(tables, name, score, convention) for name in classes]
    return Statistic(np.concatenate([part.sums for part in parts], axis=1), parts[0].form)
