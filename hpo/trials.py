"""From a study to its trials: samplers and pruners by name, and the command of one trial."""

from pathlib import Path
from typing import Any

from optuna import pruners, samplers
from optuna.trial import Trial

from hpo.first_epoch import FirstEpochPruner
from hpo.space import overrides, parameters, suggest
from hpo.spec import StudySpec
from hpo.trial_messages import TrialJob, TrialResult, data_key
from lightning_seg.options import shell_command

SAMPLERS = ("tpe", "gp", "cmaes", "random")
PRUNERS = ("hyperband", "asha", "median", "wilcoxon", "first-epoch", "none")
COSTS = ("gmacs", "latency")


def make_sampler(spec: StudySpec, seed: int) -> samplers.BaseSampler:
    """The sampler of one worker; ``seed`` differs between workers and starts, else they would all
    draw the same."""
    conditional = any(parameter.condition for parameter in parameters(spec.space or {}))
    match spec.sampler:
        case "tpe":
            return samplers.TPESampler(
                seed=seed, multivariate=True, group=conditional, constant_liar=True
            )
        case "gp":
            return samplers.GPSampler(seed=seed)
        case "cmaes":
            return samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False)
    return samplers.RandomSampler(seed=seed)


def make_pruner(spec: StudySpec) -> pruners.BasePruner:
    """The pruner; epochs are counted from the recipe's ``trainer.max_epochs``."""
    epochs = int(spec.base.get("trainer.max_epochs") or 0)
    match spec.pruner:
        case "hyperband":
            least = max(1, min(5, epochs // 9))
            return pruners.HyperbandPruner(
                min_resource=least, max_resource=epochs or "auto", reduction_factor=3
            )
        case "asha":
            return pruners.SuccessiveHalvingPruner(
                min_resource=max(1, min(5, epochs // 9)), reduction_factor=3
            )
        case "median":
            return pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=max(1, epochs // 10))
        case "first-epoch":
            return FirstEpochPruner(spec.keep, spec.trials)
        case "wilcoxon":
            return pruners.WilcoxonPruner()
    return pruners.NopPruner()


def make_job(spec: StudySpec, trial: Trial) -> TrialJob:
    """The job of a trial's process: the parameters are drawn here."""
    params = suggest(trial, spec.space, spec.base) if spec.space else {}
    slot = trial.user_attrs["slot"]
    drawn = overrides(params, spec.base)
    args, own = trial_arguments(spec, slot, drawn), own_arguments(spec, slot, drawn)
    return TrialJob(
        folder=str(trial_folder(spec, slot)),
        args=args,
        own=own,
        params=params,
        objective=spec.objective,
        maximize=spec.directions[0] == "maximize",
        cost=spec.minimize,
        replicas=spec.replicas,
        devices=spec.devices,
        test=spec.test,
        function=spec.function,
        data=known_data(spec, trial),
    )


def known_data(spec: StudySpec, trial: Trial) -> dict[str, str]:
    """Digests of the data of earlier trials whose parameters read the same: replica -> digest.

    None for a sweep, whose points may be of several data sets.
    """
    others = [] if spec.points else trial.study.get_trials(deepcopy=False)
    own = _of_data(trial.params)
    alike = [one for one in others if one.number != trial.number and _of_data(one.params) == own]
    known = {}
    for name in spec.replicas or [""]:
        digests = [one.user_attrs.get(data_key(name)) for one in alike]
        known[name] = next(filter(None, digests), "")
    return known


def _of_data(params: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in params.items() if key.startswith("data.")}


def trial_arguments(spec: StudySpec, slot: int, own: list[str]) -> list[str]:
    """The arguments of `fit` in the trial of that slot; ``own`` are the overrides from its
    parameters."""
    return [
        "-c",
        spec.recipe,
        *spec.args,
        *own_arguments(spec, slot, own),
        *shared_arguments(spec),
        "--runs",
        spec.runs,
        "--name",
        _name(slot),
    ]


def own_arguments(spec: StudySpec, slot: int, drawn: list[str]) -> list[str]:
    """The arguments that the trial of that slot has for itself: those ``drawn``, or its point's."""
    if spec.points:
        return [*spec.points[slot].args, "--seed_everything", str(spec.points[slot].seed)]
    return drawn


def trial_command(spec: StudySpec, slot: int, own: list[str]) -> str:
    """The trial as a line for the shell."""
    return shell_command("lightning-seg", "fit", *trial_arguments(spec, slot, own))


def trial_folder(spec: StudySpec, slot: int) -> Path:
    """The folder in which the trial of that slot keeps its log, its result and its run."""
    return Path(spec.runs) / _name(slot)


def _name(slot: int) -> str:
    return f"trial_{slot:04d}"


def shared_arguments(spec: StudySpec) -> list[str]:
    """The arguments of every trial: how many devices, and to keep the epoch that the objective
    likes best."""
    devices = [
        "--trainer.devices",
        str(spec.devices),
        *(["--trainer.strategy", "ddp"] if spec.devices > 1 else []),
    ]
    mode = "max" if spec.directions[0] == "maximize" else "min"
    return [*devices, "--checkpoint.monitor", spec.objective, "--checkpoint.mode", mode]


def trial_labels(spec: StudySpec, trial: Trial, job: TrialJob) -> dict[str, Any]:
    """The labels that stand beside the trial in the storage from its start."""
    replicas = [
        [*own, "--name", f"{Path(job.folder).name}-{name}"] for name, own in job.replicas.items()
    ]
    commands = [shell_command("lightning-seg", "fit", *job.args, *own) for own in replicas or [[]]]
    folders = [f"{job.folder}-{name}" for name in job.replicas] or [job.folder]
    found = {
        "command": " && ".join(commands),
        "run": " ".join(f"{folder}/version_0" for folder in folders),
    }
    if spec.points:
        point = spec.points[trial.user_attrs["slot"]]
        found |= {"model": point.name, "seed": point.seed}
    return found


def judge_memory(spec: StudySpec, trial: Trial, result: TrialResult) -> TrialResult:
    """The result with the constraint on memory entered."""
    if spec.maximum is not None and "memory" in result.facts:
        trial.set_constraint("memory", result.facts["memory"] - spec.maximum)
    return result
