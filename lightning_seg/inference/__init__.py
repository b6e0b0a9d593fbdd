"""From a trained network to files and overlays."""

from lightning_seg.inference.attention import attention_maps, received
from lightning_seg.inference.writer import MaskWriter, contact_sheet

__all__ = ["MaskWriter", "attention_maps", "contact_sheet", "received"]
