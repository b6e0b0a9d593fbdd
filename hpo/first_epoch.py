"""A control of searches: one epoch for all trials, of which the best go on."""

from math import ceil

from optuna import pruners
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial


class FirstEpochPruner(pruners.BasePruner):
    """Successive halving at one step: after its first epoch a trial goes on where it is among the
    best of those that have had theirs.

    Trials that come early are judged among few, so that some more than ``kept`` go on.

    Args:
        kept: how many of all trials are to go on.
        trials: how many there are to be.
    """

    def __init__(self, kept: int, trials: int) -> None:
        self.kept, self.trials = kept, trials

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Tell whether the trial, which has just reported, is to end."""
        if len(trial.intermediate_values) != 1:
            return False
        own = first_value(trial)
        sign = 1 if study.direction == StudyDirection.MAXIMIZE else -1
        others = {
            other.user_attrs.get("slot", other.number): first_value(other)
            for other in study.get_trials(deepcopy=False)
            if other.intermediate_values and other.number != trial.number
        }
        others.pop(trial.user_attrs.get("slot"), None)
        better = sum(sign * value > sign * own for value in others.values())
        allowed = ceil(self.kept * (len(others) + 1) / self.trials)
        return better >= allowed


def first_value(trial: FrozenTrial) -> float:
    """The objective after the first epoch."""
    return trial.intermediate_values[min(trial.intermediate_values)]
