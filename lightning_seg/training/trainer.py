"""`RunTrainer`: Lightning's trainer, where its rules would lose a run."""

import signal
from typing import Any

import lightning as L
from lightning.pytorch.loops.fit_loop import _FitLoop
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop
from lightning.pytorch.trainer.connectors.signal_connector import _SignalConnector


class RunTrainer(L.Trainer):
    """SIGTERM sets a flag and does nothing else; a run with ``max_steps`` is resumed like any other."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._signal_connector: _Flag = _Flag(self)
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


class _Flag(_SignalConnector):
    """The place for signals; Lightning's handler of SIGTERM would wait for the other processes."""

    asked = False

    def register_signal_handlers(self) -> None:
        self._original_handlers = {signal.SIGTERM: signal.getsignal(signal.SIGTERM)}
        self._register_signal(signal.SIGTERM, self._note)

    def _note(self, signum: int, frame: Any) -> None:
        self.asked = True
