"""A run on disk: where its things lie, how it ended, which checkpoints it holds, how often it was
tested."""

from lightning_seg.runs.run import Ending, Run, find_checkpoint, find_run

__all__ = ["Ending", "Run", "find_checkpoint", "find_run"]
