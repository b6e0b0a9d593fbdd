"""A trained network as the two graphs that are exported: images to logits, pictures of any size to
masks."""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_seg.evaluation.cut import Cut
from lightning_seg.export._sizes import exportable
from lightning_seg.inference.ensemble import Ensemble
from lightning_seg.models import Output
from lightning_seg.models.frame.normalization import (
    ImageNetwork,
    class_probabilities,
    mean_logits,
)


class Logits(nn.Module):
    """image (B, C, H, W) float32 in [0, 1] -> logits (B, K, H, W) float32; of an ensemble those of
    the mean of the probabilities.

    Args:
        mixed: in mixed precision with bfloat16, on a CPU.
    """

    def __init__(self, network: Ensemble, mixed: bool = False) -> None:
        super().__init__()
        self.mixed, self.exclusive = mixed, network.trained.exclusive
        self.members = nn.ModuleList(_MemberLogits(module) for module in network.modules)
        self.eval()

    def forward(self, image: Tensor) -> Tensor:
        if self.mixed:
            with torch.autocast("cpu", torch.bfloat16):
                return self._logits(image).float()
        return self._logits(image)

    def _logits(self, image: Tensor) -> Tensor:
        return mean_logits([member(image) for member in self.members], self.exclusive)


class _MemberLogits(nn.Module):
    """One network: image (B, C, H, W) in [0, 1] -> logits (B, K, H, W)."""

    mean: Tensor
    std: Tensor

    def __init__(self, module: ImageNetwork) -> None:
        super().__init__()
        self.net = exportable(copy.deepcopy(module.net))
        self.register_buffer("mean", module.mean.clone())
        self.register_buffer("std", module.std.clone())
        self.scaling = copy.deepcopy(module.scaling)

    def forward(self, image: Tensor) -> Tensor:
        output = self.net((image - self.mean) / self.std)
        logits: Tensor = output.logits if isinstance(output, Output) else output
        scaled: Tensor = self.scaling(logits)
        return scaled


class Masks(nn.Module):
    """image (B, H, W, C) uint8 -> mask (B, K, H, W) uint8 in {0, 1} and probability (B, K, H, W)
    float32.

    Args:
        side: to which pictures are scaled; None: as they are.
        cut: what the masks are.
    """

    def __init__(
        self,
        logits: Logits,
        side: int | None,
        cut: Cut,
    ) -> None:
        super().__init__()
        self.logits, self.side, self.cut = logits, side, cut
        self.eval()

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        height, width = image.shape[1:3]
        pixels = image.permute(0, 3, 1, 2).float()
        if self.side is not None:
            pixels = scaled_pixels(pixels, self.side)
        probability = class_probabilities(self.logits(pixels / 255), self.cut.exclusive)
        if self.side is not None:  # as `inference.mask_rule.resized`
            probability = F.interpolate(
                probability, (height, width), mode="bilinear", align_corners=False
            )
        return self.cut(probability, 1).to(torch.uint8), probability


def scaled_pixels(pixels: Tensor, side: int) -> Tensor:
    """Pictures (B, C, H, W) of grey levels at ``side`` x ``side``, as `data.cache.resize` scales
    them: by area where both sides shrink, else bilinear. OpenCV's levels, but for one in some
        thousand, which is one off.
    """
    height, width = pixels.shape[-2:]
    rows, columns = torch.arange(height).double(), torch.arange(width).double()
    shrinks = (rows[-1] + 1 >= side) & (
        columns[-1] + 1 >= side
    )  # a tensor: the graph decides for each picture
    return torch.where(
        shrinks,
        _area_step(pixels, rows, columns, side),
        _bilinear_step(pixels, rows, columns, side),
    )


def _area_step(
    pixels: Tensor,
    rows: Tensor,
    columns: Tensor,
    side: int,
) -> Tensor:
    """A product with one matrix for each axis, because no operator of ONNX averages by area."""
    down, across = (_shares(axis, side).float() for axis in (rows, columns))
    halved = (rows[-1] + 1 == 2 * side) & (
        columns[-1] + 1 == 2 * side
    )  # OpenCV then rounds a half up, else to even
    return (down @ pixels @ across.transpose(0, 1) + halved * 0.01).round()


def _shares(places: Tensor, side: int) -> Tensor:
    """(side, N): what each of N pixels, at ``places`` 0 ... N - 1, contributes to each scaled
    one."""
    targets = torch.arange(side).double()[:, None]
    factor = (places[-1] + 1) / side
    overlap = torch.minimum((targets + 1) * factor, places + 1) - torch.maximum(
        targets * factor, places
    )
    return overlap.clamp_min(0) / factor


def _bilinear_step(
    pixels: Tensor,
    rows: Tensor,
    columns: Tensor,
    side: int,
) -> Tensor:
    """Weigh in whole numbers as OpenCV does, which keeps eleven bits of the weights and drops the
    last bits of sums."""
    left, right, first, second = _neighbour_weights(columns, side)
    across = ((pixels[..., left] * first + pixels[..., right] * second) / 16).floor().double()
    above, below, first, second = _neighbour_weights(rows, side, keep=True)
    top, bottom = (
        (across[..., at, :] * weight[:, None] / 65536).floor()
        for at, weight in ((above, first), (below, second))
    )
    return ((top + bottom + 2) / 4).floor().float()


def _neighbour_weights(
    places: Tensor,
    side: int,
    keep: bool = False,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The two pixels that each scaled one (side,) lies between: their indices, and weights in
    2048ths.

    Args:
        keep: beyond the edge both are the last pixel, each with its weight, as OpenCV rounds rows.
    """
    last = places[-1]
    centre = (torch.arange(side).double() + 0.5) * ((last + 1) / side) - 0.5
    if not keep:
        centre = torch.minimum(centre.clamp_min(0), last)
    low = centre.floor()
    second = ((centre - low) * 2048).round()
    first, following = (torch.minimum(one.clamp_min(0), last).long() for one in (low, low + 1))
    return first, following, 2048 - second, second
