"""``python -m hpo best``: the trial that a study chose, with its interval, and its parameters
beside the recipe's."""

from typing import Any

from optuna.trial import FrozenTrial, TrialState

from hpo.conditions import code_warning
from hpo.progress import duration
from hpo.results.outcome import Outcome, add_outcome_options, name_of, open_outcome, validation
from hpo.space import inside
from lightning_seg.options import OptionParser, shell_command
from lightning_seg.tables import Table, count_text

_ROUNDING = 0.0005  # between a score within the training and the same once more


def main(args: list[str]) -> None:
    """Tell of the study and of its best trial, which is validated once more for its table of
    images."""
    parser = OptionParser(prog="python -m hpo best", description=__doc__)
    add_outcome_options(parser)
    options = parser.parse_args(args)
    outcome = open_outcome(options)
    trial = outcome.choose(options.trial)
    print(account(outcome))
    if outcome.spec.minimize:
        _front(outcome).show()
    print(
        f"{'chosen' if options.trial is not None else 'best'}: {name_of(trial)}, {scores(outcome, trial)}"
    )
    _parameters(outcome, trial).show()
    print(f"run:      {', '.join(map(str, outcome.folders(trial)))}")
    print(f"command:  {trial.user_attrs.get('command', '')}")
    for line in filter(None, [caution(outcome, trial), code_warning(outcome.trials.values())]):
        print(line)


def account(outcome: Outcome) -> str:
    """Tell how many trials there are, how they ended, and what they cost."""
    spec, trials = outcome.spec, outcome.trials
    counts = {state: outcome.count(state) for state in TrialState}
    parts = [f"{counts[TrialState.COMPLETE]} complete", f"{counts[TrialState.PRUNED]} pruned"]
    parts += [f"{counts[TrialState.FAIL]} failed"]
    parts += [f"{running} running"] if (running := counts[TrialState.RUNNING]) else []
    seconds = sum(trial.user_attrs.get("seconds", 0) for trial in trials.values())
    epochs = sum(trial.user_attrs.get("epochs", 0) for trial in trials.values())
    return (
        f"study {outcome.study.study_name!r}: {len(trials) - counts[TrialState.WAITING]} of {spec.trials} trials: {', '.join(parts)}; "
        f"{spec.sampler} sampler, {spec.pruner} pruner; {count_text(epochs, 'epoch')}, {duration(seconds)} of training"
    )


def scores(outcome: Outcome, trial: FrozenTrial) -> str:
    """The values of a trial in words, with the interval over the validation images."""
    spec, facts = outcome.spec, trial.user_attrs
    logged = f"{trial.values[0]:.4f}, Dice " if spec.objective == "val/loss" else ""
    found = validation(outcome.folders(trial), spec.objective)
    parts = [f"{spec.objective} {logged}{found}"]
    if not logged and abs(found.value - trial.values[0]) > _ROUNDING:
        parts.append(
            f"NOT the {trial.values[0]:.4f} by which it was chosen: its images, masks, checkpoint "
            "or this code have changed since"
        )
    if spec.minimize:
        parts.append(f"{spec.minimize} {trial.values[1]:.4g}")
    if "seconds" in facts:
        parts.append(f"{count_text(facts['epochs'], 'epoch')} in {duration(facts['seconds'])}")
    return ", ".join(parts)


def is_recipe(outcome: Outcome, trial: FrozenTrial) -> bool:
    """Tell whether a trial changes nothing."""
    return trial.params == inside(outcome.spec.space or {}, outcome.spec.base)


def caution(outcome: Outcome, trial: FrozenTrial) -> str:
    """Tell what to think of the score of the best of many."""
    if is_recipe(outcome, trial):
        return f"{name_of(trial)} is the recipe itself: it was not tuned, so there is nothing to repeat."
    judged = outcome.count(TrialState.COMPLETE) + outcome.count(TrialState.PRUNED)
    start, own = outcome.trials.get(0), ""
    if start and start.state == TrialState.COMPLETE and is_recipe(outcome, start):
        own = f" The recipe itself (trial_0000) has {start.values[0]:.4f}."
    repeat = shell_command("python", "-m", "hpo", "repeat", "--study", outcome.study.study_name)
    return (
        f"The best of {judged} validation scores is optimistic: it was chosen for being high, and "
        f"so was its epoch.{own} Whether tuning helped, the test set says: {repeat}"
    )


def changes(outcome: Outcome, trial: FrozenTrial) -> dict[str, tuple[Any, Any]]:
    """key -> the trial's value and the recipe's (with the overrides of the study), None where it
    has none."""
    return {key: (value, outcome.spec.base.get(key)) for key, value in trial.params.items()}


def text_of(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "null" if value is None else str(value)


def _parameters(outcome: Outcome, trial: FrozenTrial) -> Table:
    header = ("parameter", "tuned", "recipe")
    pairs = changes(outcome, trial).items()
    rows = [(key, text_of(ours), text_of(theirs)) for key, (ours, theirs) in pairs]
    return Table(header, rows, left=header)


def _front(outcome: Outcome) -> Table:
    spec = outcome.spec
    keys = sorted({key for trial in outcome.front for key in trial.params})
    header = ("trial", spec.objective, str(spec.minimize), *keys)
    rows = []
    for trial in outcome.front:
        values = [f"{value:.4g}" for value in trial.values]
        rows.append((name_of(trial), *values, *(text_of(trial.params.get(key)) for key in keys)))
    return Table(header, rows, title="Pareto front", left=header)
