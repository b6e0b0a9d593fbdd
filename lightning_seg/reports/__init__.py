"""What people read: tables, plots, and the page of a run."""

from lightning_seg.tables import Table

__all__ = ["Table"]
