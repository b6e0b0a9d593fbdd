"""`RunTrainer`: Lightning's trainer, where its rules would lose a run."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning as L
import torch
from lightning.pytorch.loops.fit_loop import _FitLoop
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop
from lightning.pytorch.trainer.connectors.checkpoint_connector import _CheckpointConnector
from lightning.pytorch.trainer.connectors.signal_connector import _SignalConnector

from lightning_seg.errors import InputError


class RunTrainer(L.Trainer):
    """SIGTERM to a training sets a flag and does nothing else; a run with ``max_steps`` is resumed like any other."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._signal_connector: _Flag = _Flag(self)
        self._checkpoint_connector: _Restoring = _Restoring(self)
        epochs = _Epochs(self, self.fit_loop.min_epochs, self.fit_loop.max_epochs)
        before = self.fit_loop.epoch_loop
        epochs.epoch_loop = _Batches(self, before.min_steps, before.max_steps)
        self.fit_loop = epochs

    @property
    def asked_to_end(self) -> bool:
        """Tell whether this process has got SIGTERM."""
        return self._signal_connector.asked


class _Epochs(_FitLoop):
    """Correct Lightning: with ``max_steps`` it would end the last epoch of a checkpoint once more, without a batch."""

    def _iteration_based_training(self) -> bool:
        return False


class _Batches(_TrainingEpochLoop):
    """Lightning's processes would tell each other of SIGTERM before each batch: `Termination` does so more rarely."""

    def _broadcast_sigterm_tensor(self) -> None:
        pass


class _Restoring(_CheckpointConnector):
    """A checkpoint whose states are of another training, or of none, is refused in one sentence."""

    def _restore_modules_and_callbacks(self, *args: Any, **kwargs: Any) -> None:
        with _in_one_sentence():
            super()._restore_modules_and_callbacks(*args, **kwargs)

    def restore_training_state(self) -> None:
        with _in_one_sentence():
            super().restore_training_state()

    def restore_loops(self) -> None:
        """As Lightning, which would begin anew where the loops of a checkpoint say nothing."""
        super().restore_loops()
        said, found = (self._loaded_checkpoint or {}).get("global_step"), self.trainer.global_step
        if self.trainer.state.fn == "fit" and said is not None and said != found:
            raise ValueError(f"its loops have done {found} steps, and the checkpoint says {said}")

    def restore_optimizers_and_schedulers(self) -> None:
        """As Lightning, which would leave out what a checkpoint lacks."""
        ours = {
            "optimizer_states": len(self.trainer.optimizers),
            "lr_schedulers": len(self.trainer.lr_scheduler_configs),
        }
        for name, count in ours.items():
            held = len((self._loaded_checkpoint or {}).get(name, ()))
            if held != count:
                raise ValueError(f"it holds {held} {name}, where this training has {count}")
        super().restore_optimizers_and_schedulers()


@contextmanager
def _in_one_sentence() -> Iterator[None]:
    try:
        yield
    except (InputError, torch.cuda.OutOfMemoryError):
        raise
    except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise InputError(
            f"the training cannot go on from this checkpoint ({reason}); "
            "give one that `fit` wrote with these settings."
        ) from error


class _Flag(_SignalConnector):
    """The place for signals; Lightning's handler of SIGTERM would wait for the other processes."""

    asked = False

    def register_signal_handlers(self) -> None:
        # Lightning ignores SIGINT once Ctrl-C has ended a training, and whatever follows would too
        numbers = signal.SIGTERM, signal.SIGINT
        self._original_handlers = {number: signal.getsignal(number) for number in numbers}
        # a test that is ended leaves nothing, so the signal ends it at once
        if self.trainer.state.fn == "fit":
            self._register_signal(signal.SIGTERM, self._note)

    def _note(self, signum: int, frame: Any) -> None:
        self.asked = True
