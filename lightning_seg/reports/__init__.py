"""What people read: tables, plots, and the page of a run."""

from lightning_seg.reports.table import Table

__all__ = ["Table"]
