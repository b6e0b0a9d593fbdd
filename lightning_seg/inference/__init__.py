"""From a trained network to masks: of the library's pictures, of files, of a data set's split."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning_seg.inference.mask_rule import MaskRule as MaskRule
    from lightning_seg.inference.pictures import contact_sheet as contact_sheet
    from lightning_seg.inference.prediction import Prediction as Prediction
    from lightning_seg.inference.predictor import Predictor as Predictor
    from lightning_seg.inference.predictor import load as load

_HOMES = {
    "MaskRule": "mask_rule",
    "Prediction": "prediction",
    "Predictor": "predictor",
    "contact_sheet": "pictures",
    "load": "predictor",
}
__all__ = ["MaskRule", "Prediction", "Predictor", "contact_sheet", "load"]


def __getattr__(name: str) -> Any:  # PEP 562: `predict --help` must not wait for torch
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
