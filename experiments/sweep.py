"""``python -m experiments sweep``: architectures x encoders x seeds (x folds) over one recipe, each
trained and tested once.

Every combination is a queued trial of an Optuna study (see `hpo`): workers draw from it, and the
same command goes on after whatever ended it. A sweep is given by options, or as a file:

    recipe: experiments/unet_a.yaml
    seeds: [42, 43, 44]
    overrides: {trainer.max_epochs: 12}
    models:
      - {name: unet, overrides: {model.architecture: unet}}
"""

import argparse
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from experiments.facts import slug
from hpo.options import add_engine_options, check_overrides, trusted_overrides
from hpo.recipe import digest, dry_run
from hpo.slots import slots
from hpo.space import flags
from hpo.spec import StudySpec, SweepPoint
from hpo.storage import resolve
from hpo.study import launch
from hpo.trials import trial_command
from hpo.weights import weights_lines
from lightning_seg.errors import InputError, unknown
from lightning_seg.files import real_path
from lightning_seg.files.documents import read_yaml
from lightning_seg.files.shipped import find_shipped
from lightning_seg.files.trust import check_code
from lightning_seg.options import OptionParser, shell_command

_KEYS = {"recipe": str, "models": list, "seeds": list, "folds": list, "overrides": dict}


def main(args: list[str]) -> None:
    """Run a sweep, or go on with it."""
    options, fixed = _parser().parse_known_args(args)
    check_overrides(fixed)
    beside = [
        name
        for name in ("recipe", "architectures", "encoders", "options")
        if getattr(options, name)
    ]
    if options.sweep and beside:
        raise InputError(
            f"--sweep {options.sweep} says what is trained; leave --{beside[0]} out, or --sweep."
        )
    content = (
        _read(find_shipped("sweep", options.sweep)) if options.sweep else _content(options, fixed)
    )
    if options.sweep:
        check_code(content, options.sweep, options.trust_code)
    fixed = trusted_overrides(options, fixed)
    places = slots(options.workers, options.per_gpu, options.devices_per_trial)
    stem = Path(options.sweep or content["recipe"]).stem
    name = options.study or (stem if options.sweep else f"{stem}_sweep")
    spec = _spec(content, options, fixed, name)
    if options.slurm:
        Path(options.slurm).write_text(slurm_array(spec, name, sorted(spec.wanted(options.only))))
        print(shell_command("sbatch", options.slurm))
    elif options.dry_run:
        for slot in sorted(spec.wanted(options.only)):
            print(trial_command(spec, slot, []))
        every = {tuple(spec.points[slot].args) for slot in spec.wanted(options.only)}
        tried = (dry_run(spec.recipe, [*spec.args, *own]) for own in sorted(every))
        for line in weights_lines(tried):
            print(line)
    else:
        storage = resolve(options.storage, Path(options.runs), name)
        launch(
            spec, storage, name, places, options.limit_minutes, options.retry_failed, options.only
        )


def _read(path: Path) -> dict[str, Any]:
    """A sweep file; InputError where it is not one."""
    content = read_yaml(path)
    if not isinstance(content, dict) or not {"recipe", "models"} <= set(content):
        raise InputError(
            f"{path} is not a sweep; it needs recipe: and models:, a list of {{name, overrides}}."
        )
    for key, value in content.items():
        if key not in _KEYS:
            raise unknown("key of a sweep", key, list(_KEYS))
        if not value or not isinstance(value, _KEYS[key]):
            raise InputError(
                f"{path} holds {key}: {value!r}; give a {_KEYS[key].__name__} that is not empty."
            )
    for model in content["models"]:
        if not isinstance(model, dict) or set(model) != {"name", "overrides"}:
            raise InputError(
                f"{path} holds the model {model!r}; give {{name: unet, overrides: {{model.architecture: unet}}}}."
            )
    return content


def _content(options: argparse.Namespace, fixed: Sequence[str]) -> dict[str, Any]:
    """The content of a sweep's file, from the options."""
    if not options.recipe:
        raise InputError(
            "a sweep needs --sweep FILE, or --recipe with --architectures, --encoders or --seeds."
        )
    own = dict(map(_own_options, options.options))
    names = _names(options.architectures)
    for name in own:
        if name not in names:
            raise unknown("architecture of this sweep", name, names)
    models: list[dict[str, Any]] = []
    for architecture in names or [""]:
        for encoder in _names(options.encoders) or [""]:
            overrides: dict[str, Any] = {"model.architecture": architecture} if architecture else {}
            if encoder:
                overrides["model.encoder"] = None if encoder == "none" else encoder
                if not any(part.startswith("--model.pretrained") for part in fixed):
                    overrides["model.pretrained"] = encoder != "none"
            if architecture in own:
                overrides["model.options"] = own[architecture]
            parts = [architecture, "" if encoder == "none" else encoder]
            models.append(
                {
                    "name": "-".join(filter(None, parts)) or Path(options.recipe).stem,
                    "overrides": overrides,
                }
            )
    return {"recipe": options.recipe, "models": models}


def _own_options(text: str) -> tuple[str, dict[str, Any]]:
    """``unet: {widths: [16, 32]}`` -> the architecture and its options."""
    name, _, own = text.partition(":")
    try:
        value = yaml.safe_load(own)
    except yaml.YAMLError:
        value = None
    if not isinstance(value, dict):
        raise InputError(f"--options is {text!r}; give it as 'unet: {{widths: [16, 32]}}'.")
    return name.strip(), value


def _names(text: str | None) -> list[str]:
    return [name.strip() for name in (text or "").split(",") if name.strip()]


def numbers(text: str, what: str) -> list[int]:
    """``42,43`` or ``1-5`` -> whole numbers."""
    if not re.fullmatch(r"\d+(-\d+)?(,\d+(-\d+)?)*", text):
        raise InputError(f"{what} is {text!r}; give whole numbers as 42,43,44 or 1-5.")
    ranges = [[int(end) for end in part.split("-")] for part in text.split(",")]
    if backwards := next((ends for ends in ranges if ends[0] > ends[-1]), None):
        raise InputError(
            f"{what} holds {backwards[0]}-{backwards[1]}; give the lower number first."
        )
    return [number for ends in ranges for number in range(ends[0], ends[-1] + 1)]


def _spec(
    content: dict[str, Any],
    options: argparse.Namespace,
    fixed: list[str],
    name: str,
) -> StudySpec:
    """The study, with every model tried on the command line."""
    recipe = str(real_path(find_shipped("recipe", content["recipe"])))
    args = [*flags(content.get("overrides", {})), *fixed]
    base = dry_run(recipe, args)
    points = list(_points(content, options, base))
    if len({point.key for point in points}) < len(points):
        raise InputError(
            "two combinations of the sweep have one name; give each model a name of its own, each seed once."
        )
    spec = StudySpec(
        recipe=recipe,
        digest=digest(recipe),
        args=args,
        runs=str(real_path(Path(options.runs) / name)),
        trials=len(points),
        points=points,
        objective=base["checkpoint.monitor"] or "val/dice",
        sampler="random",
        pruner="none",
        retries=options.retries,
        devices=options.devices_per_trial,
        test=True,
    )
    if not spec.wanted(options.only):
        raise InputError(
            f"--only {options.only!r} matches none of {', '.join(point.key for point in points)}."
        )
    for own, model in {
        tuple(points[slot].args): points[slot].name for slot in spec.wanted(options.only)
    }.items():
        try:
            dry_run(recipe, [*args, *own])
        except InputError as error:
            raise InputError(f"{model} of the sweep does not work: {error}") from error
    return spec


def _points(
    content: dict[str, Any], options: argparse.Namespace, base: dict[str, Any]
) -> Iterator[SweepPoint]:
    seeds = (
        numbers(options.seeds, "--seeds")
        if options.seeds
        else content.get("seeds", [base["seed_everything"]])
    )
    folds = numbers(options.folds, "--folds") if options.folds else content.get("folds", [None])
    for fold in folds:
        for model in content["models"]:
            for seed in seeds:
                overrides = dict(model["overrides"])
                if fold is not None:
                    overrides["data.protocol"] = f"fold-{fold}-of-{options.of or max(folds)}"
                yield SweepPoint(
                    model["name"] if fold is None else f"{model['name']} fold {fold}",
                    seed,
                    flags(overrides),
                )


def slurm_array(spec: StudySpec, name: str, slots: Sequence[int]) -> str:
    """Those combinations as a job array: one per task, which goes on from its last epoch when it is
    requeued."""
    commands = [f"[{slot}]={shlex.quote(trial_command(spec, slot, []))}" for slot in slots]
    every = list(slots) == list(range(len(slots)))
    tasks = f"0-{len(slots) - 1}" if every else ",".join(map(str, slots))
    runs = shlex.quote(spec.runs)
    return _SLURM.format(
        name=slug(name), tasks=tasks, gpus=spec.devices, commands="\n  ".join(commands), runs=runs
    )


_SLURM = """#!/bin/bash
#SBATCH --job-name={name}
#SBATCH --array={tasks}
#SBATCH --ntasks=1
#SBATCH --gpus={gpus}
#SBATCH --cpus-per-task=8
#SBATCH --time=12:00:00
#SBATCH --signal=B:USR1@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output={name}-%A_%a.out
set -euo pipefail
commands=(
  {commands}
)
run={runs}/$(printf 'trial_%04d' "$SLURM_ARRAY_TASK_ID")
export PATH="$PWD/.venv/bin:$PATH"
source experiments/slurm/job.sh
# tested already: not twice
if compgen -G "$run/version_*/test-*/*/summary.json" > /dev/null; then exit 0; fi
again=""
if compgen -G "$run/version_*/checkpoints/*.ckpt" > /dev/null; then again=" --ckpt_path last"; fi
# a training that does not come to its end leaves this script here: complete ones alone are tested
eval "in_step ${{commands[$SLURM_ARRAY_TASK_ID]}}$again"
in_step lightning-seg test --ckpt_path best --runs {runs} --name "$(basename "$run")"
"""


def _parser() -> argparse.ArgumentParser:
    parser = OptionParser(
        prog="python -m experiments sweep",
        description="Train and test every combination; --any.key value holds for all.",
    )
    parser.add_argument(
        "--sweep",
        metavar="FILE",
        help="a sweep: a file, or the name of one that ships, such as unet_a",
    )
    parser.add_argument("--recipe", help="or: a recipe, such as unet_a, with")
    parser.add_argument("--architectures", help="names, with commas between them")
    parser.add_argument(
        "--encoders", help="timm names or none; a named one starts from its ImageNet weights"
    )
    parser.add_argument(
        "--options",
        action="append",
        default=[],
        metavar="'NAME: {..}'",
        help="model.options of one architecture",
    )
    parser.add_argument("--seeds", help="such as 42,43,44 (default: the recipe's)")
    parser.add_argument("--folds", help="such as 1-5: protocol fold-<i>-of-<k> by rule")
    parser.add_argument(
        "--of", type=int, metavar="K", help="the k of --folds (default: the highest fold)"
    )
    parser.add_argument(
        "--only",
        metavar="GLOB",
        help="run only the combinations whose whole name matches: 'unet seed*'",
    )
    parser.add_argument("--limit-minutes", type=float, help="after which no training is started")
    parser.add_argument(
        "--slurm", metavar="FILE", help="write the grid as a SLURM array script instead"
    )
    add_engine_options(parser)
    return parser
