"""lightning_seg: an experiment bench for U-Net-family medical image segmentation.

>>> import lightning_seg as ls
>>> net = ls.create("attention_unet", encoder="resnet34")          # any network, a torch module: image -> logits
>>> module = ls.load("runs/demo/version_0/checkpoints/best-....ckpt")  # a trained one, with its normalisation
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning_seg.data import SegmentationDataModule as SegmentationDataModule
    from lightning_seg.data import load_protocol as load_protocol
    from lightning_seg.errors import InputError as InputError
    from lightning_seg.evaluation import ScoreTable as ScoreTable
    from lightning_seg.models import create as create
    from lightning_seg.models import names as names
    from lightning_seg.module import SegmentationModule as SegmentationModule
    from lightning_seg.module import load as load

__version__ = "0.1.0"
_HOMES = {
    "InputError": "errors",
    "ScoreTable": "evaluation",
    "SegmentationDataModule": "data",
    "SegmentationModule": "module",
    "create": "models",
    "load": "module",
    "load_protocol": "data",
    "names": "models",
}
__all__ = [*sorted(_HOMES), "__version__"]


def __getattr__(name: str) -> Any:  # PEP 562: `lightning-seg --help` must not wait for torch
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
