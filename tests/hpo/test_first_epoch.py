"""One epoch for all trials, of which the best go on."""

import optuna
import pytest

from hpo.first_epoch import FirstEpochPruner
from hpo.options import check_names, run_parser
from lightning_seg.errors import InputError


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_about_as_many_as_asked_go_on_and_they_are_the_best(direction):
    sign = 1 if direction == "maximize" else -1
    study = optuna.create_study(direction=direction, pruner=FirstEpochPruner(5, 50))
    values = optuna.samplers.RandomSampler(seed=0)._rng.rng.random(50)
    kept = []
    for value in values:
        trial = study.ask()
        for epoch in range(3):
            trial.report(sign * value + epoch / 10, epoch)
            if trial.should_prune():
                assert epoch == 0  # later epochs stop nothing
                break
        else:
            kept.append(value)
        pruned = optuna.trial.TrialState.PRUNED
        study.tell(
            trial,
            None if trial.should_prune() else sign * value,
            state=None if kept and kept[-1] == value else pruned,
        )
    assert 5 <= len(kept) <= 12
    assert set(sorted(values)[-3:]) <= set(kept)


def test_how_many_are_kept_is_checked():
    given = ["--recipe", "r", "--space", "s", "--pruner", "first-epoch", "--trials", "4"]
    check_names(run_parser().parse_args([*given, "--keep", "4"]))
    for keep in ("0", "5"):
        with pytest.raises(InputError, match=f"--keep is {keep}; give how many of the 4 trials"):
            check_names(run_parser().parse_args([*given, "--keep", keep]))
