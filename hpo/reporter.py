"""The callback that watches the training of a trial."""

import math
import time
from typing import Any

import lightning as L

from hpo.conditions import code_text, weights_labels
from hpo.trial_messages import CODE, TrainingError, TrialChannel, data_key
from lightning_seg.errors import InputError


class TrialReporter(L.Callback):
    """Reports the objective after each epoch and stops where the pruner says so, on all devices.

    What it has seen goes with the checkpoint, so that a trial that is taken up again has its whole
    curve.

    Args:
        replica: its name, where the trial has several.
        known: digest of the images and masks on which earlier trials were judged.
    """

    def __init__(
        self,
        objective: str,
        channel: TrialChannel | None,
        replica: str = "",
        known: str = "",
    ) -> None:
        self.objective, self.channel = objective, channel
        self.replica, self.known = replica, known
        self.history: dict[int, float] = {}  # epoch -> value
        self.seconds = 0.0
        self.pruned = False
        self._start = time.monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds of training, those before it was taken up again included."""
        return self.seconds + time.monotonic() - self._start

    # Lightning finds a callback's state by its class's name, which was another before
    @property
    def state_key(self) -> str:
        return "Reporter"

    def state_dict(self) -> dict[str, Any]:
        return {"history": self.history, "seconds": self.elapsed}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.history, self.seconds = dict(state_dict["history"]), state_dict["seconds"]

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.channel is not None and trainer.is_global_zero:
            self.channel.facts(max_epochs=trainer.max_epochs)
            self._check_data(trainer)
            origin: dict[str, str] = getattr(pl_module, "origin", {})
            self.channel.facts(**{CODE: code_text()}, **weights_labels(origin))
            for epoch, value in self.history.items():
                self.channel.report(epoch, value)

    def _check_data(self, trainer: L.Trainer) -> None:
        """InputError for a trial on other data than earlier ones, among which it would be ranked."""
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        digest = "-".join(data.fingerprint(split).digest for split in ("train", "val"))
        if self.channel is not None:
            self.channel.facts(**{data_key(self.replica): digest})
        if self.known and digest != self.known:
            raise InputError(
                "the images or masks are not those of the study's earlier trials, among which this "
                "one would be ranked; restore them, or give another --study."
            )

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        epoch = trainer.current_epoch
        value, loss = (float(self._metric(trainer, name)) for name in (self.objective, "val/loss"))
        for name, number in ((self.objective, value), ("val/loss", loss)):
            if not math.isfinite(number):
                raise TrainingError(f"{name} is not a number in epoch {epoch + 1}")
        self.history = {e: kept for e, kept in self.history.items() if e < epoch} | {epoch: value}
        stop = self.channel.report(epoch, value) if self.channel is not None else False
        at_end = epoch + 1 == trainer.max_epochs  # then there is nothing left to save
        if trainer.strategy.broadcast(stop) and not at_end:
            self.pruned = trainer.should_stop = True

    def _metric(self, trainer: L.Trainer, name: str) -> Any:
        if name not in trainer.callback_metrics:
            logged = sorted(key for key in trainer.callback_metrics if key.startswith("val/"))
            raise InputError(
                f"the objective {name!r} is not logged in this run; there are {', '.join(logged)}."
            )
        return trainer.callback_metrics[name]
