"""Networks by name: ``create("attention_unet", encoder="convnext_tiny.fb_in1k")``. See ``_registry`` and ``_skeleton``."""

from lightning_seg.models._encoder import TimmEncoder
from lightning_seg.models._layers import encoder_parameters
from lightning_seg.models._registry import arguments, create, find, names, options
from lightning_seg.models._skeleton import Output

__all__ = ["Output", "TimmEncoder", "arguments", "create", "encoder_parameters", "find", "names", "options"]
