"""A network behind its normalisation: images go in as they are stored."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_seg.errors import InputError
from lightning_seg.models.frame.encoder import TimmEncoder
from lightning_seg.models.frame.registry import create
from lightning_seg.models.frame.skeleton import Output

Normalization = Literal["encoder", "imagenet", "symmetric", "unit"]
Values = tuple[float, ...]
IMAGENET: tuple[Values, Values] = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_FIXED: dict[str, tuple[Values, Values]] = {
    "imagenet": IMAGENET,
    "symmetric": ((0.5,), (0.5,)),
    "unit": ((0.0,), (1.0,)),
}
# what a constructor raises for values of the right type that make no network
_UNBUILDABLE = (
    ArithmeticError,
    AssertionError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
)
_OWN_PLACE = ("encoder", "encoder_options", "in_channels", "num_classes")


@dataclass(frozen=True)
class NetworkForm:
    """The network that weights are of: none of this can change once there are any.

    Attributes:
        architecture: a name (``lightning-seg models`` lists them), or ``package.module:Class``.
        encoder: timm name with tag, or None for the network's own one.
        encoder_options: further arguments of the timm encoder.
        options: further arguments of the network's constructor.
        classes: names of the mask's channels.
        in_channels: channels of the image.
        normalization: see `statistics`.
        exclusive: whether each pixel is of one class at most. The logits then are of a softmax,
            with the background before the classes.
        calibration: ``scale`` and ``shift`` of the logits, a number for each, that
            ``lightning-seg calibrate`` found; None: they are as the network gives them.
    """

    architecture: str = "unet"
    encoder: str | None = None
    encoder_options: dict[str, Any] | None = None
    options: dict[str, Any] | None = None
    classes: Sequence[str] = ("foreground",)
    in_channels: int = 3
    normalization: Normalization = "encoder"
    exclusive: bool = False
    calibration: dict[str, list[float]] | None = None

    def __post_init__(self) -> None:
        _check_calibration(self.calibration, self.channels)
        for name in _OWN_PLACE:
            if name in (self.options or {}):
                raise InputError(
                    f"model.options holds {name!r}, which has a place of its own or follows "
                    "from the data; move it."
                )

    @property
    def channels(self) -> int:
        """The number of maps of logits."""
        return len(self.classes) + int(self.exclusive)

    def build(self) -> nn.Module:
        """The network, with fresh weights; InputError for options with which it cannot be built."""
        try:
            return create(
                self.architecture,
                encoder=self.encoder,
                in_channels=self.in_channels,
                num_classes=self.channels,
                encoder_options=self.encoder_options,
                **(self.options or {}),
            )
        except InputError:
            raise
        except _UNBUILDABLE as error:
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise InputError(
                f"{self.architecture} cannot be built with options {_shown(self.options)} and "
                f"encoder {self.encoder!r}: {reason}"
            ) from error


def _check_calibration(calibration: dict[str, list[float]] | None, channels: int) -> None:
    if calibration is None:
        return
    lengths = {name: len(values) for name, values in calibration.items()}
    if lengths != {"scale": channels, "shift": channels}:
        raise InputError(
            f"model.calibration holds {lengths}; it needs a scale and a shift for each of "
            f"{channels} maps of logits, as `lightning-seg calibrate` writes them."
        )


class NotFiniteError(InputError):
    """A network gave NaN or infinity, of which no mask is to be made."""


class LogitScaling(nn.Module):
    """Logits (B, C, H, W) times a number and plus a number for each map.

    They are found after the training and lie in no file of weights.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, scale: list[float], shift: list[float]) -> None:
        super().__init__()
        self.register_buffer("scale", _by_channel(scale), persistent=False)
        self.register_buffer("shift", _by_channel(shift), persistent=False)

    def forward(self, logits: Tensor) -> Tensor:
        return logits * self.scale + self.shift


def check_statistics(weights: Mapping[str, Tensor]) -> None:
    """InputError for an infinite variance of a batch norm, which makes a channel constant in
    silence."""
    for name, value in weights.items():
        if name.endswith("running_var") and torch.isinf(value).any():
            raise InputError(
                f"the batch norm {name.removesuffix('.running_var')} has a variance that is "
                "infinite: the training overflowed; train with --trainer.precision 32-true "
                "or a lower rate, or take an earlier checkpoint."
            )


class ImageNetwork(nn.Module):
    """A network with the normalisation of its images: all that a prediction needs.

    Args:
        form: which network.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, form: NetworkForm) -> None:
        super().__init__()
        self.form = form
        self.classes = list(form.classes)
        self.net = form.build().to(memory_format=torch.channels_last)
        mean, std = statistics(form.normalization, self.encoder, form.in_channels)
        self.register_buffer("mean", _by_channel(mean))
        self.register_buffer("std", _by_channel(std))
        self.scaling: nn.Module = (
            nn.Identity() if form.calibration is None else LogitScaling(**form.calibration)
        )

    @property
    def encoder(self) -> TimmEncoder | None:
        """The timm encoder, where the network is built over one."""
        found = (each for each in self.net.modules() if isinstance(each, TimmEncoder))
        return next(found, None)

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """As that of torch; InputError for the weights of another network."""
        try:
            found = super().load_state_dict(*args, **kwargs)
            check_statistics(self.state_dict())
            return found
        except (RuntimeError, TypeError, AttributeError, KeyError) as error:
            reason = " ".join(str(error).split()).partition("ImageNetwork: ")[2] or str(error)
            raise InputError(
                f"the weights are not those of the network {self.form.architecture!r} that stands "
                f"with them ({reason[:300]}); give a checkpoint that `fit` wrote."
            ) from error

    def forward(self, image: Tensor) -> Output:
        """image (B, C, H, W), uint8, or float in [0, 1] -> `Output` with logits (B, K, H, W).

        Of exclusive classes they are (B, 1 + K, H, W), the background first.
        """
        if image.dtype == torch.uint8:
            image = image.to(self.mean.dtype).div_(255)
        image = image.contiguous(memory_format=torch.channels_last)
        found = self.net((image - self.mean) / self.std)
        output = found if isinstance(found, Output) else Output(found)
        return output._replace(logits=self.scaling(output.logits))

    def probabilities(self, image: Tensor) -> Tensor:
        """image as for `forward` -> probabilities (B, K, H, W), float32.

        NotFiniteError for NaN and infinity: a sigmoid would make empty and sure masks of them.
        """
        return self.checked_probabilities(self(image).logits)

    def checked_probabilities(self, logits: Tensor) -> Tensor:
        """Probabilities (B, K, H, W) float32 of logits; NotFiniteError as `probabilities`."""
        if not logits.isfinite().all():
            kind = "NaN" if logits.isnan().any() else "infinity"
            raise NotFiniteError(
                f"the network gives {kind} instead of a prediction; compute with --precision 32, "
                "or take another checkpoint."
            )
        return self.of_classes(logits)

    def masks_of(self, logits: Tensor) -> Tensor:
        """Masks (B, K, H, W) bool of logits: above a probability of .5, or the likeliest class."""
        logits = logits.detach()
        if not self.form.exclusive:
            return logits > 0
        numbers = torch.arange(1, logits.shape[1], device=logits.device)
        return logits.argmax(1, keepdim=True) == numbers.view(1, -1, 1, 1)

    def of_classes(self, logits: Tensor) -> Tensor:
        """Probabilities (B, K, H, W) float32 of logits."""
        return class_probabilities(logits, self.form.exclusive)


def class_probabilities(logits: Tensor, exclusive: bool = False) -> Tensor:
    """Probabilities (B, K, H, W) float32: sigmoids, or a softmax without its background."""
    logits = logits.float()
    return logits.softmax(1)[:, 1:] if exclusive else logits.sigmoid()


def mean_logits(several: Sequence[Tensor], exclusive: bool = False) -> Tensor:
    """The logits (B, K, H, W) whose `class_probabilities` are the mean of those of several; exact
    for probabilities near 0 and 1 too."""
    if len(several) == 1:
        return several[0]
    stacked = torch.stack(list(several))
    if exclusive:
        return stacked.log_softmax(2).logsumexp(0)
    return F.logsigmoid(stacked).logsumexp(0) - F.logsigmoid(-stacked).logsumexp(0)


def _shown(options: Any) -> str:
    text = repr(options or {})
    return text if len(text) <= 200 else f"{text[:197]}..."


def statistics(
    normalization: Normalization, encoder: TimmEncoder | None, in_channels: int
) -> tuple[list[float], list[float]]:
    """Mean and standard deviation by which each channel of an image in [0, 1] is normed.

    Args:
        normalization: ``encoder`` (those of its pre-training; ``imagenet`` without a timm encoder),
            ``imagenet``, ``symmetric`` (to [-1, 1]) or ``unit`` (as it is).
    """
    mean, std = _FIXED.get(normalization, IMAGENET)
    if normalization == "encoder" and encoder is not None:
        mean, std = encoder.mean, encoder.std
    if len(mean) == in_channels:
        return list(mean), list(std)
    # grey or stacked slices: the mean over the colours, for every channel
    return [_over_colours(mean)] * in_channels, [_over_colours(std)] * in_channels


def _over_colours(values: Values) -> float:
    return sum(values) / len(values)


def _by_channel(values: list[float]) -> Tensor:
    return torch.tensor(values).view(1, -1, 1, 1)
