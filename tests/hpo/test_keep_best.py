"""`hpo run --keep-best N`: which finished trials keep their weights."""

import optuna
import pytest
from drive import make_spec
from optuna.trial import TrialState, create_trial

from hpo.thinning import thin_behind_best
from hpo.trials import trial_folder

VALUES = [0.7, 0.9, 0.8, 0.9, 0.2]


def study(folder, direction="maximize", **settings):
    """Five finished trials of these values and a pruned one, each with a checkpoint."""
    runs = str(folder / "runs")
    spec = make_spec(runs, 6, function=None, keep_best=2, **settings)
    study = optuna.create_study(direction=direction)
    for slot, value in enumerate([*VALUES, 1.0]):
        state = TrialState.COMPLETE if slot < len(VALUES) else TrialState.PRUNED
        facts = {"slot": slot, "attempt": 0, "memory": value}
        study.add_trial(create_trial(value=value, state=state, user_attrs=facts))
        for name in [f"-{name}" for name in spec.replicas] or [""]:
            place = f"{trial_folder(spec, slot)}{name}/version_0/checkpoints/best-epoch=001-dice=0.5000.ckpt"
            file = folder / place
            file.parent.mkdir(parents=True)
            file.touch()
    return spec, study.get_trials()


def kept(folder):
    return sorted(file.parts[-4] for file in (folder / "runs").glob("*/version_0/checkpoints/*"))


@pytest.mark.parametrize(
    ("objective", "expected"), [("val/dice", (1, 3)), ("val/loss", (0, 4))], ids=str
)
def test_the_best_keep_their_weights_and_what_did_not_finish_is_left_alone(
    tmp_path, objective, expected
):
    direction = "minimize" if objective == "val/loss" else "maximize"
    spec, trials = study(tmp_path, direction, objective=objective)
    thin_behind_best(spec, trials)
    assert kept(tmp_path) == [f"trial_{slot:04d}" for slot in (*expected, 5)]


def test_a_trial_that_took_too_much_memory_is_none_of_the_best(tmp_path):
    spec, trials = study(tmp_path, maximum=0.85)
    thin_behind_best(spec, trials)
    assert kept(tmp_path) == ["trial_0000", "trial_0002", "trial_0005"]


def test_all_runs_of_a_trial_go_together(tmp_path):
    spec, trials = study(tmp_path, replicas={"seed1": [], "seed2": []})
    thin_behind_best(spec, trials)
    slots = (1, 3, 5)
    assert kept(tmp_path) == [f"trial_{slot:04d}-seed{seed}" for slot in slots for seed in (1, 2)]
