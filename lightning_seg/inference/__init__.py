"""From a trained network to masks: of the library's pictures, of files, of the test split."""

from lightning_seg.inference.mask_rule import MaskRule
from lightning_seg.inference.pictures import MaskWriter, contact_sheet
from lightning_seg.inference.prediction import Prediction
from lightning_seg.inference.predictor import Predictor, load

__all__ = ["MaskRule", "MaskWriter", "Prediction", "Predictor", "contact_sheet", "load"]
