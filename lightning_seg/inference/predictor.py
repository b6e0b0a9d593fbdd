"""`load`: a trained network as one object of the library, from a picture to its masks."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
from PIL import Image
from torch import Tensor

from lightning_seg.data.reading.pictures import as_picture
from lightning_seg.inference.ensemble import Ensemble, load_ensemble
from lightning_seg.inference.mask_rule import MaskRule
from lightning_seg.inference.pipeline import TILES
from lightning_seg.inference.prediction import Prediction
from lightning_seg.inference.workers import find_devices
from lightning_seg.models.frame.normalization import ImageNetwork
from lightning_seg.runs import find_checkpoint
from lightning_seg.runs.chosen_threshold import resolve_threshold

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
            size of the picture (turned as its EXIF orientation says).

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
        self.network.trained.check_pictures()
        pictures = [self._read(image) for image in images]
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

    def _read(self, image: Picture) -> np.ndarray:
        form = self.network.trained.picture
        if form.window is not None and isinstance(image, str | Path):
            return form.read(Path(image).expanduser())
        return as_picture(image, form.channels)


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
            ensemble.
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

    Errors: InputError for a file that is no checkpoint, code that is not trusted, an unknown name,
        checkpoints that do not
    fit together.
    """
    paths = [path] if isinstance(path, str | Path) else path
    files = [find_checkpoint(each) for each in paths]
    network = load_ensemble(files, tta, precision, trust_code, engine)
    trained = network.trained
    cut = resolve_threshold(threshold, files)
    rule = MaskRule(trained.classes, cut, postprocess, exclusive=trained.exclusive)
    [target, *_] = find_devices(device)
    return Predictor(
        Ensemble(network.modules, network.trained, tta, target, precision, engine), rule
    )
