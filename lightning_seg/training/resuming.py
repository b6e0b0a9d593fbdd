"""What a run that is killed and resumed needs so that it equals one that is not, beside Lightning's own state."""

from typing import Any

import lightning as L
import torch

from lightning_seg.errors import InputError
from lightning_seg.training.schedule import PLATEAU_OF

_RANDOM = "random_states"  # the key of a checkpoint


class PlateauSteps(L.Callback):
    """Steps the schedule ``plateau`` at the end of each epoch in which there was a validation, by its loss.

    Lightning would step it after the epoch's checkpoint is written, where a resumed run has no loss to step it by, and
    would end a run that does not validate each epoch.
    """

    def __init__(self) -> None:
        self.loss: float | None = None  # of the last validation, until it has counted

    def state_dict(self) -> dict[str, Any]:
        return {"loss": self.loss}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.loss = state_dict["loss"]

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        if not trainer.sanity_checking and trainer.state.fn == "fit":
            self.loss = float(trainer.callback_metrics[PLATEAU_OF])

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        if self.loss is not None:
            trainer.lr_scheduler_configs[0].scheduler.step(self.loss)
        self.loss = None


class WithinEpoch(L.Callback):
    """Lets a run go on in the midst of an epoch: the random numbers of dropout go on too.

    Each epoch draws from numbers of its own, so a checkpoint at its end needs none of this.
    """

    def __init__(self) -> None:
        self._states: list[dict[str, Any]] = []  # of each process

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        _check_rhythm(trainer)
        if trainer.global_rank < len(self._states):
            state = self._states[trainer.global_rank]
            torch.set_rng_state(state["cpu"])
            if "gpu" in state:
                torch.cuda.set_rng_state(state["gpu"], pl_module.device)

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        epochs = trainer.fit_loop.epoch_progress.current
        if epochs.processed == epochs.started:
            return
        own = {"cpu": torch.get_rng_state()}
        if pl_module.device.type == "cuda":
            own["gpu"] = torch.cuda.get_rng_state(pl_module.device)
        checkpoint[_RANDOM] = _of_all(trainer, own)

    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        self._states = checkpoint.get(_RANDOM, [])


def _of_all(
    trainer: Any,
    own: dict[str, Any],
) -> list[dict[str, Any]]:
    found: list[Any] = [None] * trainer.world_size
    if trainer.world_size == 1:
        return [own]
    torch.distributed.all_gather_object(found, own)
    return found


def _check_rhythm(trainer: Any) -> None:
    """InputError where a validation would fall between two halves of an optimiser step.

    The gradients gathered until then are in no checkpoint, so a resumed run would lose them.
    """
    gathered, every = trainer.accumulate_grad_batches, trainer.val_check_batch
    epoch = trainer.num_training_batches
    if gathered == 1 or every is None or not trainer.enable_validation:
        return
    for batch in range(1, epoch):
        if _validates_after(trainer, batch, every, epoch) and batch % gathered:
            raise InputError(
                f"trainer.val_check_interval validates after batch {batch} of {epoch}, in the midst "
                f"of a step over accumulate_grad_batches {gathered}; give a multiple of {gathered}."
            )


def _validates_after(trainer: Any, batch: int, every: float, epoch: int) -> bool:
    """Tell whether in some epoch a validation follows this batch; counted over all epochs where Lightning does so."""
    if trainer.check_val_every_n_epoch is not None:
        return batch % every == 0
    return any((number * epoch + batch) % every == 0 for number in range(int(every)))
