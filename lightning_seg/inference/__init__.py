"""From a trained network to masks: of the library's pictures, of files, of the test split."""

from lightning_seg.inference.attention import attention_maps, received
from lightning_seg.inference.prediction import Prediction
from lightning_seg.inference.predictor import Predictor, load
from lightning_seg.inference.writer import MaskWriter, contact_sheet

__all__ = ["MaskWriter", "Prediction", "Predictor", "attention_maps", "contact_sheet", "load", "received"]
