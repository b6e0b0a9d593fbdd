"""Networks by name: ``create("attention_unet", encoder="convnext_tiny.fb_in1k")``. See ``frame``."""

from lightning_seg.models.frame.encoder import TimmEncoder
from lightning_seg.models.frame.layer_depths import encoder_parameters
from lightning_seg.models.frame.registry import arguments, create, find, names, options
from lightning_seg.models.frame.skeleton import Output

__all__ = [
    "Output",
    "TimmEncoder",
    "arguments",
    "create",
    "encoder_parameters",
    "find",
    "names",
    "options",
]
