"""Losses that look at neighbourhoods: skeletons, distances from an outline, weights along it.

Arguments as for `training.loss_terms`.
"""

from importlib import import_module

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_seg.errors import InputError

_TINY = 1e-12


def cldice_loss(
    logits: Tensor,
    mask: Tensor,
    counted: Tensor | None = None,
    iterations: int = 10,
    smooth: float = 1.0,
) -> Tensor:
    """One minus the harmonic mean of the shares of each soft skeleton in the other mask.

    ``iterations``: at least half the width, in pixels, of the widest vessel. It is of the shape
    alone, so give it beside an overlap term. Shit et al. 2021.
    """
    kept = torch.ones_like(mask[:, :1]) if counted is None else counted
    probability = logits.sigmoid()
    predicted = soft_skeleton(probability, kept, iterations) * kept
    true = soft_skeleton(mask, kept, iterations) * kept
    axes = (0, 2, 3)
    found = (predicted * mask).sum(axes) + smooth
    precision = found / (predicted.sum(axes) + smooth)
    met = (true * probability).sum(axes) + smooth
    sensitivity = met / (true.sum(axes) + smooth)
    mean = 2 * precision * sensitivity / (precision + sensitivity).clamp_min(_TINY)
    return (1 - mean).mean()


def soft_skeleton(values: Tensor, kept: Tensor, iterations: int) -> Tensor:
    """What openings take away from maps (B, K, H, W) as they are eroded step by step.

    ``kept``: (B, 1, H, W); 0 where pixels neither erode nor dilate their neighbours.
    """
    found = (values - _opened(values, kept)).relu()
    for _ in range(int(iterations)):
        values = _eroded(values, kept)
        ridge = (values - _opened(values, kept)).relu()
        found = found + (ridge - found * ridge).relu()
    return found


def _eroded(values: Tensor, kept: Tensor) -> Tensor:
    """The least value of the cross of five pixels."""
    negative = -torch.where(kept > 0, values, 1.0)
    upright = F.max_pool2d(negative, (3, 1), 1, (1, 0))
    level = F.max_pool2d(negative, (1, 3), 1, (0, 1))
    return -torch.maximum(upright, level)


def _opened(values: Tensor, kept: Tensor) -> Tensor:
    """Eroded, then the largest value of the square of nine pixels."""
    eroded = torch.where(kept > 0, _eroded(values, kept), 0.0)
    return F.max_pool2d(eroded, 3, 1, 1)


def boundary_loss(
    logits: Tensor,
    mask: Tensor,
    counted: Tensor | None = None,
) -> Tensor:
    """The mean of the distance from the true outline, in pixels, over what is wrong.

    Errors far from the outline cost more. A mask that is empty or full has no outline and no loss,
    so give it beside an overlap term. Kervadec et al. 2019, less the truth's own constant part.
    """
    distance = signed_distance(mask, counted)
    errors = (logits.sigmoid() - mask) * distance
    if counted is None:
        return errors.mean()
    pixels = counted.sum() * mask.shape[1]
    return (errors * counted).sum() / pixels.clamp_min(1)


def signed_distance(mask: Tensor, counted: Tensor | None = None) -> Tensor:
    """The distance of each pixel from the nearest one of the mask; in it, from the nearest outside.

    There it is negative, and 0 next to the outline. (B, K, H, W) float32, computed on the CPU.
    """
    truth = mask.detach().cpu().numpy() > 0
    kept = np.ones_like(truth) if counted is None else counted.cpu().numpy() > 0
    kept = np.broadcast_to(kept, truth.shape)
    found = np.zeros(truth.shape, np.float32)
    for place in np.ndindex(truth.shape[:2]):
        inside = truth[place] & kept[place]
        outside = ~truth[place] & kept[place]
        if inside.any() and outside.any():
            depth = _distance_from(outside) - 1
            found[place] = _distance_from(inside) * outside - depth * inside
    return torch.from_numpy(found).to(mask.device)


def _distance_from(pixels: np.ndarray) -> np.ndarray:
    """(H, W) the Euclidean distance of each pixel from the nearest of ``pixels``."""
    # by name: an exported folder holds this file, and needs scipy for this loss alone
    try:
        ndimage = import_module("scipy.ndimage")
    except ImportError:
        raise InputError("the loss 'boundary' needs scipy; pip install scipy.") from None
    return np.asarray(ndimage.distance_transform_edt(~pixels))


def structure_loss(
    logits: Tensor,
    mask: Tensor,
    counted: Tensor | None = None,
    reach: int = 31,
) -> Tensor:
    """Cross-entropy and one minus IoU, whose pixels weigh up to six times as much at an outline.

    The weight is ``1 + 5 |mean over reach x reach pixels - mask|``. PraNet, Fan et al. 2020, and
    F3Net, Wei et al. 2020. Differs from their code: there the cross-entropy loses its weights, by
    an argument that torch reads as another one; here it has them, as in the papers.
    """
    kept = torch.ones_like(mask[:, :1]) if counted is None else counted
    mask = mask * kept
    side = int(reach) // 2 * 2 + 1
    mean = F.avg_pool2d(mask, side, 1, side // 2)
    weight = (1 + 5 * (mean - mask).abs()) * kept
    entropy = F.binary_cross_entropy_with_logits(logits, mask, reduction="none")
    probability, axes = logits.sigmoid(), (2, 3)
    total = weight.sum(axes).clamp_min(_TINY)
    weighted = (weight * entropy).sum(axes) / total
    both = (probability * mask * weight).sum(axes)
    either = ((probability + mask) * weight).sum(axes) - both
    return (weighted + 1 - (both + 1) / (either + 1)).mean()
