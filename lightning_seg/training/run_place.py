"""The folder of the run that a trainer works on, the same on all devices and with any logger."""

from pathlib import Path
from typing import Any

import lightning as L

from lightning_seg.files import real_path
from lightning_seg.runs import Run


class RunPlace(L.Callback):
    """Knows the run; the main process decides where it lies, and tells the others.

    Args:
        run: where this process would put it.
    """

    def __init__(self, run: Run) -> None:
        self.run = run

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        place = str(self.run.folder), str(self.run.root), self.run.name
        folder, root, name = trainer.strategy.broadcast(place)
        self.run = Run(Path(folder), Path(root), name)


def run_of(trainer: Any) -> Run:
    """The run of a trainer; for one that the command line did not make, its logger's folder."""
    for callback in trainer.callbacks:
        if isinstance(callback, RunPlace):
            return callback.run
    folder = Path((trainer.logger and trainer.logger.log_dir) or trainer.default_root_dir)
    return Run(real_path(folder), real_path(folder).parent, folder.name)


def run_dir(trainer: Any) -> Path:
    """The folder of the run."""
    return run_of(trainer).folder
