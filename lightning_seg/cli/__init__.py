"""``fit``, ``validate`` and ``test``: Lightning's command line, and `run`, the one way into every
run."""

from lightning_seg.cli.command_line import CLI, main, run

__all__ = ["CLI", "main", "run"]
