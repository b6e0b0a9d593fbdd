"""What a finished trial keeps on disk: the weights of its best epoch, a pruned one nothing, and of
a study that keeps its best trials those behind them nothing."""

import contextlib
from collections.abc import Iterable
from pathlib import Path

import torch
from optuna.trial import FrozenTrial, TrialState

from hpo.spec import StudySpec
from hpo.trial_messages import TrialJob
from hpo.trials import trial_folder
from lightning_seg.runs import Run
from lightning_seg.training.checkpointing import AtomicCheckpointIO

# what only a training that goes on needs: moments of the optimiser, weights beside an average
_TO_GO_ON = ("optimizer_states", "lr_schedulers", "current_model_state")


def thin_trial(job: TrialJob, state: str) -> None:
    """Remove what neither `best`, `export` nor `repeat` need of a trial that ended as ``state``.

    The runs of a sweep (``job.test``) stay as they are: they are results, and may go on.
    """
    if job.function or job.test or state not in ("complete", "pruned"):
        return
    for version in _versions(job.folder, job.replicas):
        # a disk that refuses costs space, and no trial
        with contextlib.suppress(OSError):
            _keep_nothing(version) if state == "pruned" else _keep_weights(version)


def thin_behind_best(spec: StudySpec, trials: Iterable[FrozenTrial]) -> None:
    """Remove the weights of the finished trials behind the best of a study, if it keeps so many.

    A trial that was once behind them stays so, whatever the others come to: workers may do this at
    any time.
    """
    if spec.keep_best is None or spec.function:
        return
    finished = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    sign = 1 if spec.directions[0] == "minimize" else -1
    finished.sort(key=lambda trial: (not _fits(spec, trial), sign * trial.values[0], trial.number))
    for trial in finished[spec.keep_best :]:
        for version in _versions(trial_folder(spec, trial.user_attrs["slot"]), spec.replicas):
            with contextlib.suppress(OSError):
                _keep_nothing(version)


def _fits(spec: StudySpec, trial: FrozenTrial) -> bool:
    """Tell whether a trial kept within the memory of the study."""
    return spec.maximum is None or trial.user_attrs.get("memory", 0) <= spec.maximum


def _versions(folder: str | Path, replicas: Iterable[str]) -> list[Path]:
    """The runs of a trial, of those that are there."""
    folders = [f"{folder}-{name}" for name in replicas] or [str(folder)]
    return [version for each in folders if (version := Path(each) / "version_0").is_dir()]


def _keep_nothing(version: Path) -> None:
    # none is read: this is done again whenever a trial finishes, and by several workers
    for file in version.glob("checkpoints/*.ckpt"):
        file.unlink(missing_ok=True)


def _keep_weights(version: Path) -> None:
    run = Run.open(version)
    best = run.best
    if best is None:
        return
    for saved in run.checkpoints:
        if saved.path != best.path:
            saved.path.unlink()
    content = torch.load(best.path, map_location="cpu", weights_only=True)
    weights = {key: value for key, value in content.items() if key not in _TO_GO_ON}
    AtomicCheckpointIO().save_checkpoint(weights, best.path)
