"""``environment.json`` of a run: its command, how it ended, and hardware, commit and minutes of
each sitting."""

import json
import time
from datetime import UTC, datetime
from statistics import mean
from typing import Any

import lightning as L
import torch

from lightning_seg.files import whole
from lightning_seg.runs.environment import FILE, environment, machine_load
from lightning_seg.training.run_place import run_of
from lightning_seg.training.termination import was_interrupted


class RunRecord(L.Callback):
    """Keeps the record of a run, which a resumed run goes on with: it has a sitting more.

    The file is written anew after every epoch, so that a kill loses the minutes of one epoch at
    most.

    Args:
        command: the arguments of `lightning_seg.cli.run`.
    """

    def __init__(self, command: list[str]) -> None:
        self.command = command
        self.sitting: dict[str, Any] = {}
        self.start = time.monotonic()
        self.done = 0
        self.loads: list[float] = []  # of the machine, at the start and after each epoch

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self.start = time.monotonic()
        self.done = trainer.current_epoch
        self.sitting = environment(trainer.strategy.root_device) | {
            "command": self.command,
            "started": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "devices": trainer.world_size,
            "precision": str(trainer.precision),
            "threads": torch.get_num_threads(),
        }
        self.loads = [machine_load()]
        self._write(trainer, "running")

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        if trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
            self.done = trainer.current_epoch + 1
        self.loads.append(machine_load())
        self._write(trainer, "running")

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        self._write(trainer, "complete")

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        self._write(trainer, "interrupted" if was_interrupted(exception) else "failed")

    def _write(self, trainer: Any, status: str) -> None:
        if not self.sitting or not trainer.is_global_zero or trainer.fast_dev_run:
            return
        minutes = round((time.monotonic() - self.start) / 60, 2)
        load = round(mean(self.loads), 2)
        self.sitting |= {"epochs": self.done, "minutes": minutes, "load": load}
        run = run_of(trainer)
        kept = run.environment
        before = [s for s in kept.get("sittings", []) if s["started"] != self.sitting["started"]]
        planned = trainer.max_epochs if trainer.max_epochs > 0 else None
        content = {
            "name": run.name,
            "command": kept.get("command", self.command),
            "ending": {
                "status": status,
                "epochs_planned": planned,
                "epochs_done": self.done,
            },
            "sittings": [*before, self.sitting],
        }
        with whole(run.folder / FILE) as part:
            part.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
