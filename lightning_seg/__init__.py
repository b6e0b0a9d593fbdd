"""lightning_seg: an experiment bench for U-Net-family medical image segmentation.

>>> import lightning_seg as ls
>>> net = ls.create("attention_unet", encoder="resnet34")          # any network, a torch module: image -> logits
>>> model = ls.load("runs/demo")                                   # a trained one, with all that belongs to it
>>> mask = model.predict("image.jpg").mask                         # (classes, H, W) bool, at the size of the image
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning_seg.data import SegmentationDataModule as SegmentationDataModule
    from lightning_seg.data import load_protocol as load_protocol
    from lightning_seg.errors import InputError as InputError
    from lightning_seg.evaluation import ScoreTable as ScoreTable
    from lightning_seg.inference import Prediction as Prediction
    from lightning_seg.inference import Predictor as Predictor
    from lightning_seg.inference import load as load
    from lightning_seg.models import create as create
    from lightning_seg.models import names as names
    from lightning_seg.training.module import SegmentationModule as SegmentationModule

__version__ = "0.1.0"
_HOMES = {
    "InputError": "errors",
    "ScoreTable": "evaluation",
    "SegmentationDataModule": "data",
    "SegmentationModule": "training.module",
    "create": "models",
    "Prediction": "inference",
    "Predictor": "inference",
    "load": "inference",
    "load_protocol": "data",
    "names": "models",
}
__all__ = [*sorted(_HOMES), "__version__"]


def __getattr__(name: str) -> Any:  # PEP 562: `lightning-seg --help` must not wait for torch
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
