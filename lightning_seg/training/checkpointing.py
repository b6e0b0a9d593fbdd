"""Checkpoints while a run is trained: the best epoch, the last one, and what each says of its place in the run."""

import os
import secrets
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import ModelCheckpoint

from lightning_seg.files.leftovers import part_name
from lightning_seg.runs.checkpoints import COURSE, FIRST, Sitting
from lightning_seg.training.run_place import run_of


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target and renames: a full disk or a kill leaves the previous file as it was.

    Lightning's own way writes to the folder for temporary files and moves, which is a copy where that is another disk.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        part = part_name(target)
        try:
            with part.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
        except BaseException as error:
            part.unlink(missing_ok=True)
            # torch reports a failed write as a RuntimeError, in the course of which the OSError got lost
            if isinstance(error, RuntimeError) and isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise
        os.replace(part, target)


class _RunCheckpoint(ModelCheckpoint):
    """Lightning's callback, in the folder of the run, with epochs counted from 1.

    A checkpoint that follows the last batch of an epoch is written when the epoch has ended, whatever the rhythm of
    validation: training goes on from there. Only a validation within an epoch is followed by one at once.
    """

    role = ""
    saving = False  # while this callback writes

    @property
    def state_key(self) -> str:
        """Lightning's, so that checkpoints of version 0.1 are resumed."""
        return super().state_key.replace(type(self).__qualname__, "ModelCheckpoint", 1)

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        self.dirpath = str(run_of(trainer).checkpoint_folder)
        super().setup(trainer, pl_module, stage)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the state over, with the paths of this folder: the run may have been moved or copied."""
        best = self._here(state_dict["best_model_path"])
        if not best:  # another run's, or a file that is gone: its score counts no more
            return
        kept = {self._here(path): score for path, score in state_dict["best_k_models"].items()}
        moved = {
            "dirpath": self.dirpath,
            "best_model_path": best,
            "best_k_models": {path: score for path, score in kept.items() if path},
            "kth_best_model_path": self._here(state_dict["kth_best_model_path"]),
            "last_model_path": self._here(state_dict["last_model_path"]),
        }
        super().load_state_dict(state_dict | moved)

    def _here(self, path: str) -> str:
        """The file of that name in this folder; empty where there is none."""
        here = Path(str(self.dirpath)) / Path(path).name
        return str(here) if path and here.is_file() else ""

    def _save_checkpoint(self, trainer: Any, filepath: str) -> None:
        self.saving = True
        try:
            super()._save_checkpoint(trainer, filepath)
        finally:
            self.saving = False

    def _monitor_candidates(self, trainer: Any) -> dict[str, Any]:
        found = super()._monitor_candidates(trainer)
        return found | {"epoch": torch.tensor(trainer.current_epoch + 1)}

    def _should_save_on_train_epoch_end(self, trainer: Any) -> bool:
        return not trainer.validating or _epoch_is_over(trainer)

    def _should_remove_checkpoint(self, trainer: Any, previous: str, current: str) -> bool:
        """Also the file that the run was resumed from, as an uninterrupted run would have removed it."""
        return previous != current and Path(previous).parent == Path(str(self.dirpath))


class BestCheckpoint(_RunCheckpoint):
    """Keeps the epoch with the best validation score."""

    role = "best"
    _scored = False  # whether the last batch of this epoch was followed by a validation

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        self._scored = _epoch_is_over(trainer) and not trainer.sanity_checking
        super().on_validation_end(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        if self._scored:  # else the score that is known is that of other weights
            super().on_train_epoch_end(trainer, pl_module)
        self._scored = False


class LastCheckpoint(_RunCheckpoint):
    """Keeps the latest epoch (``save_last`` would keep it only where it is the best)."""

    role = "last"
    _tidy = False

    def __init__(self) -> None:
        super().__init__(
            monitor=None, filename="last-epoch={epoch:03d}", auto_insert_metric_name=False
        )

    def _save_checkpoint(self, trainer: Any, filepath: str) -> None:
        super()._save_checkpoint(trainer, filepath)
        if trainer.is_global_zero and not self._tidy:
            self._remove_earlier(trainer, Path(filepath))
            self._tidy = True

    @staticmethod
    def _remove_earlier(trainer: Any, newest: Path) -> None:
        """The `last` files that led here; one of an abandoned branch stays."""
        for saved in run_of(trainer).living:
            if saved.role == "last" and saved.path != newest:
                saved.path.unlink()


class Lineage(L.Callback):
    """Knows from which state of which run this training began: see `SavedModel`."""

    def __init__(self) -> None:
        self._before: list[Sitting] = []
        self._sitting = FIRST

    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        course = checkpoint.get(COURSE) or {"lineage": [FIRST]}
        self._before = [Sitting(*entry) for entry in course["lineage"]]

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        numbers = [saved.lineage[-1].number for saved in run_of(trainer).checkpoints]
        number = max(numbers, default=-1) + 1
        self._sitting = Sitting(secrets.token_hex(8), number, trainer.global_step)

    @property
    def sittings(self) -> list[Sitting]:
        return [*self._before, self._sitting]


def course_of(trainer: Any) -> dict[str, Any]:
    """The entry by which a checkpoint that is written now tells of its place in the run: see `SavedModel`."""
    own = [each for each in trainer.checkpoint_callbacks if isinstance(each, _RunCheckpoint)]
    best = next((each for each in own if each.role == "best"), None)
    lineage = next((each for each in trainer.callbacks if isinstance(each, Lineage)), None)
    if best is None or lineage is None:
        return {}
    value, best_value = trainer.callback_metrics.get(best.monitor), best.best_model_score
    return {
        "role": next((each.role for each in own if each.saving), ""),
        "monitor": best.monitor or "",
        "mode": best.mode,
        "value": None if value is None else float(value),
        "best_value": None if best_value is None else float(best_value),
        "best_name": Path(best.best_model_path).name,
        "lineage": [tuple(sitting) for sitting in lineage.sittings],
    }


def _epoch_is_over(trainer: Any) -> bool:
    return bool(trainer.fit_loop.epoch_loop.batch_progress.is_last_batch)
