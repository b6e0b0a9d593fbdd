"""What a finished trial keeps on disk: the weights of its best epoch, a pruned one nothing."""

import contextlib
from pathlib import Path

import torch

from hpo.trial_messages import TrialJob
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
    folders = [f"{job.folder}-{name}" for name in job.replicas] or [job.folder]
    for folder in folders:
        version = Path(folder) / "version_0"
        if version.is_dir():
            # a disk that refuses costs space, and no trial
            with contextlib.suppress(OSError):
                _keep_nothing(version) if state == "pruned" else _keep_weights(version)


def _keep_nothing(version: Path) -> None:
    for saved in Run.open(version).checkpoints:
        saved.path.unlink()


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
