"""``fit``, ``validate`` and ``test``: Lightning's command line, and `run`, the one way into every
run."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning_seg.cli.command_line import CLI as CLI
    from lightning_seg.cli.command_line import main as main
    from lightning_seg.cli.command_line import run as run

__all__ = ["CLI", "main", "run"]


def __getattr__(name: str) -> Any:  # PEP 562: the front door looks here for what it need not import
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.command_line"), name)
