"""Trained networks as one function, from uint8 images to probabilities at the network's own
size."""

import contextlib
import copy
import time
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lightning_seg.data.reading.deep import PictureForm
from lightning_seg.data.reading.pictures import check_channels
from lightning_seg.data.reading.windowing import checked_window
from lightning_seg.data.sliding import OVERLAP, Corner, cut_window, sliding_map
from lightning_seg.data.sources.base import Sample
from lightning_seg.data.store.sized import resize_sample
from lightning_seg.errors import InputError, unknown
from lightning_seg.inference.engines import EngineNetwork, check_engine
from lightning_seg.inference.folding import folded
from lightning_seg.inference.options import PRECISIONS
from lightning_seg.inference.tta import augmented, check_tta
from lightning_seg.models.frame.normalization import ImageNetwork
from lightning_seg.runs.checkpoints import read_checkpoint, trained_channels
from lightning_seg.runs.cross_validation import find_checkpoints
from lightning_seg.runs.trained_network import read_network

CPU_PIXELS, CPU_LARGEST_BATCH, LARGEST_BATCH = 2 * 256**2, 16, 64
_FASTER = 1.1  # a doubled batch must be so much faster per image to be taken


class Trained(NamedTuple):
    """The input and output of a trained network, as its checkpoint says."""

    classes: tuple[str, ...]
    in_channels: int
    size: int | None  # height and width to which images are scaled; None: as they are
    dataset: str
    dataset_options: dict[str, Any]
    channels: str = ""  # what they are, as `trained_channels` says
    exclusive: bool = False  # whether each pixel is of one class at most
    crop: int | None = None  # side of the windows in which pictures are predicted
    crop_overlap: float = OVERLAP

    def check_pictures(self) -> None:
        """InputError for a network whose input is no picture."""
        if self.channels == "slices":
            raise InputError(
                f"this network takes {self.in_channels} neighbouring slices of a scan, which no "
                "picture holds; give it volumes."
            )
        if self.picture.window is None:
            check_channels(self.in_channels)

    @property
    def window(self) -> Any:
        """The window that the data set's options name: low and high, or ``percentiles``."""
        window = self.dataset_options.get("window")
        return tuple(window) if isinstance(window, list) else window

    @property
    def picture(self) -> PictureForm:
        """How training read picture files; a window of scans is none of pictures."""
        window = self.dataset_options.get("window") if self.dataset == "folder" else None
        return PictureForm(self.in_channels, checked_window(window))


class Ensemble:
    """One trained network or several, whose probabilities are averaged.

    Args:
        modules: in evaluation mode, of the same classes and channels.
        trained: what the checkpoint of the first says.
        tta: a name of ``tta.PASSES``.
        device: where they run.
        precision: ``32``, or ``bf16`` or ``16`` for mixed precision.
        engine: what computes on the CPU, see ``engines``; on a GPU torch does.
    """

    def __init__(
        self,
        modules: Sequence[ImageNetwork],
        trained: Trained,
        tta: str = "none",
        device: str | torch.device = "cpu",
        precision: str = "32",
        engine: str = "torch",
    ) -> None:
        if precision not in PRECISIONS:
            raise unknown("precision", precision, PRECISIONS)
        self.trained, self.tta, self.device, self.precision = (
            trained,
            check_tta(tta),
            torch.device(device),
            precision,
        )
        self.modules = [module.to(self.device) for module in modules]
        self.engine = check_engine(engine, precision)

    @property
    def calibrated(self) -> bool:
        """Whether the probabilities of each network were fitted by ``lightning-seg calibrate``."""
        return all(module.form.calibration is not None for module in self.modules)

    @cached_property
    def _computing(self) -> list[ImageNetwork | EngineNetwork]:
        """What computes in place of the modules; made when the first image comes."""
        size = self.trained.size or self.trained.crop
        plain = [folded(module, size) for module in self.modules]
        if self.engine == "torch" or self.device.type != "cpu":
            return [*plain]
        return [EngineNetwork(module, self.engine, self.precision) for module in plain]

    @property
    def engine_notes(self) -> list[str]:
        """What was found of the engine, in words; nothing of torch where nobody asked."""
        if self.engine == "torch":
            return []
        if self.device.type != "cpu":
            return [f"torch computes on {self.device}"]
        engines = (one for one in self._computing if isinstance(one, EngineNetwork))
        return list(dict.fromkeys(note for one in engines for note in one.notes))

    def copy_to(self, device: torch.device) -> "Ensemble":
        """The same on another device; this one stays where it is."""
        return Ensemble(
            copy.deepcopy(self.modules), self.trained, self.tta, device, self.precision, self.engine
        )

    def scale(self, image: np.ndarray) -> np.ndarray:
        """image (H, W, C) uint8 at the network's size, as the images of training and test are
        scaled."""
        side = self.trained.size
        return (
            image
            if side is None
            else resize_sample(Sample(image, image[..., :1]), (side, side)).image
        )

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """images (B, H, W, C) uint8 -> probabilities (B, K, H, W) float32; halves the batch where
        memory runs out."""
        try:
            tensor = torch.from_numpy(images).to(self.device).permute(0, 3, 1, 2)
            return self.probabilities(tensor).cpu().numpy()
        except torch.cuda.OutOfMemoryError:
            if len(images) == 1:
                raise InputError(
                    f"an image of {images.shape[1]} x {images.shape[2]} does not fit into the "
                    f"memory of {self.device}; "
                    "give --tile 512, or --devices cpu."
                ) from None
        torch.cuda.empty_cache()
        half = len(images) // 2
        return np.concatenate([self(images[:half]), self(images[half:])])

    @torch.inference_mode()
    def probabilities(self, image: Tensor) -> Tensor:
        """image (B, C, H, W) uint8 -> probabilities (B, K, H, W) float32."""
        with self._autocast():
            return mean_probabilities(self._computing, image, self.tta)

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        name = PRECISIONS[self.precision]
        if name is None:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, getattr(torch, name))

    def tiled(self, image: np.ndarray, tile: int, overlap: float, batch_size: int) -> np.ndarray:
        """image (H, W, C) uint8 at its own resolution -> (K, H, W), by windows of ``tile`` pixels,
        blended by Gaussians."""

        def predict(corners: Sequence[Corner]) -> Tensor:
            windows = np.stack([cut_window(image, corner, tile) for corner in corners])
            return torch.from_numpy(self(windows))

        return sliding_map(image.shape[:2], tile, overlap, batch_size, predict).numpy()


def mean_probabilities(
    modules: Sequence[ImageNetwork | EngineNetwork],
    image: Tensor,
    tta: str,
) -> Tensor:
    """image (B, C, H, W) -> probabilities (B, K, H, W) float32, averaged over passes of ``tta``
    and networks."""

    def mean(image: Tensor) -> Tensor:
        found = [module.probabilities(image) for module in modules]
        return found[0] if len(found) == 1 else torch.stack(found).mean(0)

    return augmented(mean, image, tta)


def load_ensemble(
    paths: Sequence[str | Path],
    tta: str = "none",
    precision: str = "32",
    trust_code: bool = False,
    engine: str = "torch",
) -> Ensemble:
    """The network of a checkpoint, or the ensemble of several, on the CPU. ``trust_code``: see
    `read_network`.

    InputError where they do not agree on classes, channels, size and window. A folder of a run stands for
    its best checkpoint, that of a cross-validation for those of its folds.
    """
    files = [file for path in paths for file in find_checkpoints(path)]
    trained = read_trained(files)
    return Ensemble(
        [read_network(file, trust_code) for file in files],
        trained,
        tta,
        precision=precision,
        engine=engine,
    )


def read_trained(files: Sequence[Path]) -> Trained:
    """Read what the first checkpoint says; InputError where others have other classes, channels or
    sizes."""
    facts = [_trained(file) for file in files]
    for file, fact in zip(files[1:], facts[1:], strict=True):
        for name in ("classes", "in_channels", "channels", "size", "exclusive", "crop", "window"):
            first, other = getattr(facts[0], name), getattr(fact, name)
            # scans have a window of their own where the options name none
            usual = name == "window" and None in (first, other) and fact.dataset != "folder"
            if first != other and not usual:
                raise InputError(
                    f"{files[0]} was trained with {name} {first} and {file} with {other}; an "
                    "ensemble needs the same."
                )
    return facts[0]


def _trained(path: Path) -> Trained:
    content = read_checkpoint(path)
    model, data = content["hyper_parameters"], content.get("datamodule_hyper_parameters")
    if data is None or "size" not in data:
        raise InputError(
            f"{path} holds no data settings, such as the size of its images; train it with `fit`."
        )
    options = dict(data.get("dataset_options") or {})
    return Trained(
        tuple(model["classes"]),
        model["in_channels"],
        data["size"],
        data["dataset"],
        options,
        trained_channels(content),
        bool(model.get("exclusive")),
        data.get("crop"),
        data.get("crop_overlap", OVERLAP),
    )


def find_batch_size(network: Ensemble, shape: tuple[int, ...]) -> int:
    """The smallest batch of images (H, W, C) that is about as fast per image as any, on a GPU.

    On the CPU as many as keep the maps of a network in the caches: 14 of 96 x 96 pixels, 2 of 256
    x 256.
    """
    if network.device.type == "cpu":
        return min(CPU_LARGEST_BATCH, max(1, CPU_PIXELS // (shape[0] * shape[1])))
    best, size = 1, 1
    seconds = _seconds_per_image(network, shape, size)
    while size < LARGEST_BATCH:
        size *= 2
        try:
            faster = _seconds_per_image(network, shape, size)
        except torch.cuda.OutOfMemoryError:
            torch.cuda.empty_cache()
            break
        if faster * _FASTER < seconds:
            best, seconds = size, faster
    return best


def _seconds_per_image(
    network: Ensemble,
    shape: tuple[int, ...],
    size: int,
) -> float:
    images = torch.zeros(size, *shape, dtype=torch.uint8, device=network.device).permute(0, 3, 1, 2)
    network.probabilities(images)  # chooses its algorithms
    start = time.perf_counter()
    network.probabilities(images).cpu()
    return (time.perf_counter() - start) / size
