"""What a run was made with: its command and the hardware, commit and minutes of each sitting, in ``environment.json``."""

import json
import time
from datetime import UTC, datetime
from typing import Any

import lightning as L

from lightning_seg.files import whole
from lightning_seg.inference.pictures import run_dir
from lightning_seg.runs.environment import FILE, environment, read_environment


class RunRecord(L.Callback):
    """Keeps ``<run>/environment.json``: the command that began it, and each sitting of `fit` (a resumed run has several).

    The file is written anew after every epoch, so that a kill loses the minutes of one epoch at most.

    Args:
        command: the arguments of `lightning_seg.cli.run`.
    """

    def __init__(self, command: list[str]) -> None:
        self.command = command
        self.sitting: dict[str, Any] = {}
        self.start = 0.0

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        self.start = time.monotonic()
        self.sitting = environment(trainer.strategy.root_device) | {
            "command": self.command,
            "started": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "devices": trainer.world_size,
            "precision": str(trainer.precision),
            "epochs": trainer.current_epoch,
        }
        self._write(trainer)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self.sitting["epochs"] = trainer.current_epoch + 1
        self._write(trainer)

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        self._write(trainer)

    def _write(self, trainer: Any) -> None:
        self.sitting["minutes"] = round((time.monotonic() - self.start) / 60, 2)
        if not trainer.is_global_zero or trainer.fast_dev_run:
            return
        folder = run_dir(trainer)
        kept = read_environment(folder)
        before = [s for s in kept.get("sittings", []) if s["started"] != self.sitting["started"]]
        content = {
            "command": kept.get("command", self.command),
            "sittings": [*before, self.sitting],
        }
        with whole(folder / FILE) as part:
            part.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
