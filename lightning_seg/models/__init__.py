"""Networks by name: ``create("attention_unet", encoder="convnext_tiny.fb_in1k")``. See ``_registry`` and ``_skeleton``."""

from lightning_seg.models._encoder import TimmEncoder
from lightning_seg.models._registry import create, find, names, options
from lightning_seg.models._skeleton import Output

__all__ = ["Output", "TimmEncoder", "create", "find", "names", "options"]
