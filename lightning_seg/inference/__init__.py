"""From a trained network to files."""

from lightning_seg.inference.writer import MaskWriter, contact_sheet

__all__ = ["MaskWriter", "contact_sheet"]
