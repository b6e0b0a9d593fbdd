"""`load`: a trained network as one object of the library, from a picture to its masks."""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, overload

import numpy as np
from PIL import Image
from torch import Tensor

from lightning_seg.inference.ensemble import Ensemble, load_ensemble
from lightning_seg.inference.mask_rule import MaskRule
from lightning_seg.inference.pipeline import TILES
from lightning_seg.inference.prediction import Prediction
from lightning_seg.inference.workers import find_devices
from lightning_seg.models.frame.normalization import ImageNetwork
from lightning_seg.runs.chosen_threshold import resolve_threshold
from lightning_seg.runs.cross_validation import CrossValidation, find_checkpoints
from lightning_seg.runs.guarantees import probabilities_otherwise, usable_guarantee

Picture = str | Path | Image.Image | np.ndarray | Tensor
_BATCH = 8


class Predictor:
    """A trained network with the rule that makes masks of its probabilities; `load` makes it from
    a checkpoint.

    Args:
        network: one network or an ensemble.
        rule: threshold and post-processing.
    """

    def __init__(self, network: Ensemble, rule: MaskRule) -> None:
        self.network, self.rule = network, rule

    def __repr__(self) -> str:
        count, classes = len(self.network.modules), ", ".join(self.classes)
        what = "one network" if count == 1 else f"an ensemble of {count} networks"
        return f"Predictor: {what} for {classes}"

    @property
    def module(self) -> ImageNetwork:
        """The (first) network with its normalisation, in evaluation mode."""
        return self.network.modules[0]

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the masks' channels."""
        return self.network.trained.classes

    def __call__(self, image: Tensor) -> Any:
        """``module(image)``: image (B, C, H, W), uint8 or float in [0, 1] -> `Output` with logits
        (B, K, H, W)."""
        return self.module(image)

    @overload
    def predict(self, image: Picture) -> Prediction: ...
    @overload
    def predict(self, image: list[Any]) -> list[Prediction]: ...
    def predict(
        self,
        image: Picture | list[Any],
    ) -> Prediction | list[Prediction]:
        """The masks of a picture, or of each of several: what ``test`` scores, scaled to the size
        of the picture.

        Args:
            image: a path, a PIL image, an array of uint8, (H, W) grey or (H, W, 3) RGB, or a tensor
                of uint8 (C, H, W); or a list of these.

        Returns:
            `Prediction` with ``mask`` (K, H, W) bool and ``probability`` (K, H, W) float32, at the
            size of the picture (turned as its EXIF orientation says); with ``contours`` where the
            checkpoint holds a guarantee (``calibrate --fnr``). Its ``note``, which is also a
            warning, says where a network of one channel is given colours.

        Errors: InputError for a file that is no picture, and an array of another type or shape.
        """
        if isinstance(image, str | Path | Image.Image | np.ndarray | Tensor):
            return self._predict([image])[0]
        return [
            prediction
            for start in range(0, len(image), _BATCH)
            for prediction in self._predict(image[start : start + _BATCH])
        ]

    def _predict(self, images: Sequence[Picture]) -> list[Prediction]:
        trained = self.network.trained
        trained.check_pictures()
        read = [trained.picture.take(image) for image in images]
        doubts = map(trained.picture.doubt, images, read)
        return list(map(_noted, images, self.predict_read(read), doubts))

    def predict_read(self, pictures: Sequence[np.ndarray]) -> list[Prediction]:
        """The masks of pictures (H, W, C) that were read as the network's training reads them."""
        trained = self.network.trained
        if trained.crop is not None:
            windows = trained.crop, trained.crop_overlap, TILES
            maps = [self.network.tiled(picture, *windows) for picture in pictures]
            sizes = [picture.shape[:2] for picture in pictures]
            return [self.rule(one, size) for one, size in zip(maps, sizes, strict=True)]
        scaled = [self.network.scale(picture) for picture in pictures]
        if len({picture.shape for picture in scaled}) == 1:
            found = list(self.network(np.stack(scaled)))
        else:  # of a network that takes pictures as they are
            found = [self.network(picture[None])[0] for picture in scaled]
        return [
            self.rule(one, picture.shape[:2]) for one, picture in zip(found, pictures, strict=True)
        ]


def _noted(image: Picture, prediction: Prediction, doubt: str) -> Prediction:
    """The prediction with what is to be said of it, which is a warning too."""
    if not doubt:
        return prediction
    name = image if isinstance(image, str | Path) else "the picture"
    warnings.warn(f"{name}: {doubt}", stacklevel=4)
    return replace(prediction, note=doubt)


def load(
    path: str | Path | Sequence[str | Path],
    *,
    device: str = "cpu",
    tta: str = "none",
    threshold: float | str = 0.5,
    postprocess: str = "",
    precision: str = "32",
    trust_code: bool = False,
    engine: str = "torch",
) -> Predictor:
    """The trained network of a checkpoint: ``load(path).predict("image.jpg").mask``.

    The checkpoint decides size, channels, normalisation and classes.

    Args:
        path: a ``.ckpt`` file, the folder of a run (its best checkpoint), or several of them: an
            ensemble; the folder of a cross-validation: the ensemble of its folds, with a warning
            where some of them lack.
        device: such as ``cpu`` or ``cuda``.
        tta: test-time augmentation, a name of ``inference.tta.PASSES``.
        threshold: above which a probability belongs to the mask; ``val``: the one that `fit` chose
            on the validation split.
        postprocess: a chain of steps, such as ``fill_holes,min_area=50`` (see
            ``inference.postprocess``).
        precision: ``32``, or ``bf16`` or ``16``: mixed precision may move single pixels.
        trust_code: let a network that is not of lightning_seg, ``package.module:Class``, import
            its module.
        engine: ``torch``, ``onnxruntime``, ``openvino`` or ``auto``: what computes on the CPU.

    Raises:
        InputError: for a file that is no checkpoint, code that is not trusted, an unknown name, or
            checkpoints that do not fit together.
    """
    paths = [path] if isinstance(path, str | Path) else path
    files = [file for each in paths for file in find_checkpoints(each)]
    for validation in filter(None, map(CrossValidation.find, paths)):
        if validation.lacking:
            warnings.warn(validation.ensemble_text, stacklevel=2)
    network = load_ensemble(files, tta, precision, trust_code, engine)
    trained = network.trained
    cut = resolve_threshold(threshold, files)
    guarantee, _ = usable_guarantee(files, probabilities_otherwise(tta, precision))
    rule = MaskRule(
        trained.classes, cut, postprocess, exclusive=trained.exclusive, guarantee=guarantee
    )
    [target, *_] = find_devices(device)
    return Predictor(
        Ensemble(network.modules, network.trained, tta, target, precision, engine), rule
    )
