"""Networks by name: ``create("attention_unet", encoder="convnext_tiny.fb_in1k")``. See
``frame``."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning_seg.models.frame.encoder import TimmEncoder as TimmEncoder
    from lightning_seg.models.frame.layer_depths import encoder_parameters as encoder_parameters
    from lightning_seg.models.frame.registry import arguments as arguments
    from lightning_seg.models.frame.registry import create as create
    from lightning_seg.models.frame.registry import find as find
    from lightning_seg.models.frame.registry import names as names
    from lightning_seg.models.frame.registry import options as options
    from lightning_seg.models.frame.skeleton import Output as Output

_HOMES = {
    "Output": "skeleton",
    "TimmEncoder": "encoder",
    "arguments": "registry",
    "create": "registry",
    "encoder_parameters": "layer_depths",
    "find": "registry",
    "names": "registry",
    "options": "registry",
}
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


def __getattr__(name: str) -> Any:  # PEP 562: `lightning-seg models` must not wait for torch
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.frame.{_HOMES[name]}"), name)
