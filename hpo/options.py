"""The command line of a study: what it says, checked before the first trial, as a `StudySpec`."""

import argparse
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState

from hpo import recipe
from hpo.space import inside, read_space
from hpo.spec import StudySpec
from hpo.storage import STORAGE_VARIABLE, open_storage, shown
from hpo.trials import COSTS, PRUNERS, SAMPLERS, shared_arguments
from lightning_seg.errors import InputError, unknown
from lightning_seg.files import real_path
from lightning_seg.files.shipped import find_shipped
from lightning_seg.files.trust import FLAG, check_code
from lightning_seg.options import OptionParser, add_trust_option


def run_parser() -> argparse.ArgumentParser:
    parser = OptionParser(
        prog="python -m hpo run",
        description="Tune a recipe; --any.key value holds for all trials.",
    )
    parser.add_argument(
        "--recipe",
        required=True,
        help="a recipe: a file, or the name of one that ships, such as unet_a",
    )
    parser.add_argument(
        "--space",
        required=True,
        help="a search space: a file, or the name of one that ships, such as unet_a",
    )
    parser.add_argument("--trials", type=int, default=50, help="how many, pruned ones included")
    add_engine_options(parser)
    parser.add_argument(
        "--limit_minutes",
        "--minutes",
        dest="minutes",
        type=float,
        help="after which no trial is started",
    )
    parser.add_argument("--sampler", default="tpe", help=", ".join(SAMPLERS))
    parser.add_argument(
        "--pruner",
        help=f"{', '.join(PRUNERS)} (default: hyperband; wilcoxon over seeds or folds)",
    )
    parser.add_argument(
        "--keep",
        type=int,
        default=5,
        metavar="K",
        help="how many trials go on after their first epoch under --pruner first-epoch",
    )
    parser.add_argument(
        "--objective", default="val/dice", help="a validation score; the best epoch counts"
    )
    parser.add_argument(
        "--and-minimize", metavar="COST", help="a second objective: gmacs or latency"
    )
    parser.add_argument(
        "--seeds-per-trial", type=int, default=1, help="a trial is the mean over so many seeds"
    )
    parser.add_argument(
        "--folds-per-trial",
        type=int,
        default=1,
        metavar="K",
        help="or the mean over K folds by rule",
    )
    parser.add_argument(
        "--keep-best",
        type=int,
        metavar="N",
        help="the best N trials keep their weights (default: all that finish)",
    )
    parser.add_argument("--stop-after-no-improvement", type=int, metavar="N", help="trials")
    parser.add_argument(
        "--max-memory", type=float, metavar="GIB", help="above which a trial is infeasible"
    )
    parser.add_argument(
        "--warm-start", metavar="STUDY", help="begin with the best trials of another study"
    )
    parser.add_argument("--best", type=int, default=5, help="how many those are")
    return parser


def add_engine_options(parser: argparse.ArgumentParser) -> None:
    """Options that studies and sweeps share."""
    parser.add_argument(
        "--workers", default="auto", help="trials at a time (default: one per GPU, or one)"
    )
    parser.add_argument("--per-gpu", type=int, default=1, help="trials on each GPU")
    parser.add_argument(
        "--devices-per-trial", type=int, default=1, help="more than one: data parallel training"
    )
    parser.add_argument(
        "--storage",
        default=os.environ.get(STORAGE_VARIABLE),
        help=f"${STORAGE_VARIABLE}, or journal file, postgresql://, sqlite:/// or grpc:// (default: a journal beside the runs)",
    )
    add_trust_option(parser)
    parser.add_argument("--study", help="its name (default: from the files' names)")
    parser.add_argument("--runs", default="runs", help="folder of all runs")
    parser.add_argument("--retries", type=int, default=1, help="of a trial whose process died")
    parser.add_argument("--retry-failed", action="store_true", help="run the failed trials again")
    parser.add_argument(
        "--dry-run", action="store_true", help="check everything, print the commands, run nothing"
    )


def check_overrides(fixed: Sequence[str]) -> None:
    """Refuse bad overrides: what the engine itself sets cannot be overridden; options must look
    like options."""
    for part in fixed:
        key = part.partition("=")[0].lstrip("-")
        short = re.match(r"-[a-zA-Z]", part)  # not a negative number
        if short or (part.startswith("--") and "." not in key and key != "seed_everything"):
            raise InputError(
                f"there is no option {part!r}; see --help, and give keys of the recipe as --model.lr 0.001."
            )
        if part.startswith("--") and key.startswith(
            ("checkpoint.monitor", "checkpoint.mode", "trainer.devices")
        ):
            raise InputError(
                f"--{key} is set by the study; use --objective or --devices-per-trial."
            )


def trusted_overrides(options: argparse.Namespace, fixed: Sequence[str]) -> list[str]:
    """The overrides of all trials, with the user's word that code from outside may run."""
    return [*fixed, FLAG] if options.trust_code else list(fixed)


def check_names(options: argparse.Namespace) -> None:
    for kind, name, legal in (
        ("sampler", options.sampler, SAMPLERS),
        ("pruner", options.pruner, (None, *PRUNERS)),
        ("cost", options.and_minimize, (None, *COSTS)),
    ):
        if name not in legal:
            raise unknown(kind, name, [choice for choice in legal if choice])
    several = max(options.seeds_per_trial, options.folds_per_trial) > 1
    if options.pruner is None:
        options.pruner = "none" if options.and_minimize else "wilcoxon" if several else "hyperband"
    if options.and_minimize and options.pruner != "none":
        raise InputError(
            f"--pruner {options.pruner} cannot weigh two objectives; leave it out, or leave --and-minimize out."
        )
    if several != (options.pruner == "wilcoxon") and options.pruner != "none":
        raise InputError(
            f"--pruner {options.pruner} does not fit: wilcoxon compares the seeds or folds of trials, the others their epochs."
        )
    if options.trials < 1:
        raise InputError(
            f"--trials is {options.trials}; give how many trials there are to be, at least 1."
        )
    if options.pruner == "first-epoch" and not 1 <= options.keep <= options.trials:
        raise InputError(
            f"--keep is {options.keep}; give how many of the {options.trials} trials go on after "
            "their first epoch, at least 1."
        )
    if options.keep_best is not None and (options.keep_best < 1 or options.and_minimize):
        raise InputError(
            f"--keep-best is {options.keep_best}; give a whole number from 1, and leave it out with "
            "--and-minimize, under which no trial is the best."
        )
    if not options.objective.startswith("val/"):
        raise InputError(
            f"the objective is {options.objective!r}, but the test set is sealed and training scores mislead; "
            "give a validation score, such as val/dice."
        )


def make_spec(
    options: argparse.Namespace,
    fixed: list[str],
    name: str,
    storage: str,
) -> StudySpec:
    """The study that the command line describes, with every key of its space tried."""
    space = read_space(options.space)
    check_code(space, options.space, options.trust_code)
    path = str(real_path(find_shipped("recipe", options.recipe)))
    spec = StudySpec(
        recipe=path,
        digest="",
        args=fixed,
        runs=str(real_path(Path(options.runs) / name)),
        trials=options.trials,
        space=space,
        objective=options.objective,
        minimize=options.and_minimize,
        sampler=options.sampler,
        pruner=options.pruner,
        keep=options.keep,
        replicas=_replicas(options.seeds_per_trial, options.folds_per_trial),
        retries=options.retries,
        keep_best=options.keep_best,
        patience=options.stop_after_no_improvement,
        maximum=options.max_memory,
        devices=options.devices_per_trial,
    )
    base = recipe.check_space(path, [*fixed, *shared_arguments(spec)], space)
    kept = {
        key: value
        for key, value in base.items()
        if key.startswith(("model", "data", "trainer.max_epochs"))
    }
    start = [
        inside(space, base),
        *(inside(space, p) for p in _best_of(options.warm_start, storage, options.best)),
    ]
    return StudySpec(
        **spec.__dict__
        | {
            "digest": recipe.digest(path),
            "base": kept,
            "start": start,
            "files": recipe.named_files(base, space),
        }
    )


def _replicas(seeds: int, folds: int) -> dict[str, list[str]]:
    """The arguments that differ between the runs of one trial, by name; none where there is one
    run."""
    if seeds > 1 and folds > 1:
        raise InputError("a trial takes --seeds-per-trial or --folds-per-trial, not both.")
    found = (
        {f"seed{seed}": ["--seed_everything", str(seed)] for seed in range(42, 42 + seeds)}
        if seeds > 1
        else {}
    )
    protocols = {
        f"fold{i}": ["--data.protocol", f"fold-{i}-of-{folds}"] for i in range(1, folds + 1)
    }
    return protocols if folds > 1 else found


def _best_of(
    study: str | None,
    storage: str,
    number: int,
) -> list[dict[str, Any]]:
    """The parameters of the best trials of another study in the same storage, or in a journal of
    its own."""
    if study is None:
        return []
    path = Path(study)
    name, where = (
        (path.parent.name, str(real_path(path))) if path.suffix == ".journal" else (study, storage)
    )
    beside = Path(storage).parent.parent / study / "study.journal"
    if "://" not in storage and where == storage and beside.is_file():
        where = str(beside)
    try:
        other = optuna.load_study(study_name=name, storage=open_storage(where))
    except KeyError:
        raise InputError(
            f"--warm-start names the study {study!r}, which is not in {shown(where)}."
        ) from None
    trials = [
        t for t in other.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)) if t.values
    ]
    trials.sort(
        key=lambda t: t.values[0],
        reverse=other.directions[0] == optuna.study.StudyDirection.MAXIMIZE,
    )
    return [trial.params for trial in trials[:number]]
