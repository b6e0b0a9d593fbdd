"""``python -m hpo run``: tune a recipe over a search space, one worker process per GPU or share of
the cores."""

from pathlib import Path

from hpo.disk import RunSize, disk_lines
from hpo.options import (
    check_names,
    check_overrides,
    make_spec,
    run_parser,
    trusted_overrides,
)
from hpo.recipe import try_fit
from hpo.slots import slots
from hpo.space import corners, overrides
from hpo.spec import StudySpec
from hpo.storage import resolve
from hpo.study import launch
from hpo.trials import trial_command
from hpo.weights import weights_lines


def main(args: list[str]) -> None:
    """Tune; taken up again with the same command after whatever ended it."""
    options, fixed = run_parser().parse_known_args(args)
    check_overrides(fixed)
    check_names(options)
    fixed = trusted_overrides(options, fixed)
    places = slots(options.workers, options.per_gpu, options.devices_per_trial)
    name = options.study or f"{Path(options.recipe).stem}_{Path(options.space).stem}"
    storage = resolve(options.storage, Path(options.runs), name)
    spec = make_spec(options, fixed, name, storage)
    if options.dry_run:
        _show(spec, name, len(places))
        return
    launch(spec, storage, name, places, options.minutes, options.retry_failed)


def _show(spec: StudySpec, name: str, workers: int) -> None:
    """Tell what would be run: the commands of the trials whose parameters are known, the rest in
    words; and what it needs."""
    print(
        f"study {name!r}: {spec.trials} trials, {spec.sampler} sampler, {spec.pruner} pruner, objective {spec.objective}"
    )
    for slot, params in enumerate(spec.start[: spec.trials]):
        print(trial_command(spec, slot, overrides(params, spec.base)))
    print(
        f"and {max(0, spec.trials - len(spec.start))} more, drawn from {', '.join(spec.space or {})}"
    )
    fits = [try_fit(["-c", spec.recipe, *args]) for args in _variants(spec)]
    for line in weights_lines(fit.values for fit in fits):
        print(line)
    for line in disk_lines(spec, max(map(RunSize.of, fits)), workers):
        print(line)


def _variants(spec: StudySpec) -> list[list[str]]:
    """The arguments that try each choice of the space once."""
    changed = [overrides(values, spec.base) for values in corners(spec.space or {})]
    return [[*spec.args, *more] for more in changed] or [spec.args]
