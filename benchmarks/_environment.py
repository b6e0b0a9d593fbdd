"""With what a number was measured: the package's own account of commit, hardware and versions."""

from lightning_seg.environment import PACKAGES, ROOT, cpu_has, cpu_model, environment

__all__ = ["PACKAGES", "ROOT", "cpu_has", "cpu_model", "environment"]
