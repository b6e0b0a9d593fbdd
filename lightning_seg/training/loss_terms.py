"""Losses of one prediction on logits, the terms of a weighted sum (see `training.losses`).

A term takes ``logits (B, K, H, W)``, ``mask (B, K, H, W)`` in {0, 1}, both float32, and ``counted
(B, 1, H, W)`` in {0., 1.} or None: pixels that are not counted leave the loss as if they did not
exist. It returns a scalar. Overlap terms sum over the pixels of the batch (``per_image: false``,
the field's habit) or of each image (jaccard's default, as PEFNet's), then average over classes
(and images). Under several devices the batch is that of one device.

A perfect prediction has loss 0, whatever the area of its mask, down to none and up to all.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

_TINY = 1e-12
_IGNORED = -100  # no class


def _soft_counts(
    logits: Tensor, mask: Tensor, counted: Tensor | None, per_image: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Soft TP, FP, FN of shape (K,), or (B, K) per image."""
    axes = (2, 3) if per_image else (0, 2, 3)
    probability = logits.sigmoid()
    if counted is not None:
        probability, mask = probability * counted, mask * counted
    tp = (probability * mask).sum(axes)
    return tp, probability.sum(axes) - tp, mask.sum(axes) - tp


def _share(above: Tensor, below: Tensor) -> Tensor:
    """``above / below``; 0 where both are 0, as they are without smoothing where nothing is."""
    return above / below.clamp_min(_TINY)


def _mean(values: Tensor, counted: Tensor | None) -> Tensor:
    """Mean over the pixels (B, K, H, W) that count; 0 where none does."""
    if counted is None:
        return values.mean()
    pixels = counted.sum() * values.shape[1]
    return (values * counted).sum() / pixels.clamp_min(1)


def bce(
    logits: Tensor,
    mask: Tensor,
    counted: Tensor | None = None,
    pos_weight: float | Sequence[float] | None = None,
) -> Tensor:
    """Mean binary cross-entropy over pixels.

    ``pos_weight`` multiplies the part of the foreground: one number, or one for each class.
    """
    weight = None if pos_weight is None else _by_channel(pos_weight, logits)
    if counted is None:
        return F.binary_cross_entropy_with_logits(logits, mask, pos_weight=weight)
    entropy = F.binary_cross_entropy_with_logits(logits, mask, reduction="none", pos_weight=weight)
    return _mean(entropy, counted)


def _by_channel(values: float | Sequence[float], like: Tensor) -> Tensor:
    """One number, or one for each class, as (K or 1, 1, 1)."""
    tensor = torch.as_tensor(values, dtype=like.dtype, device=like.device)
    return tensor.reshape(-1, 1, 1)


def dice(
    logits: Tensor,
    mask: Tensor,
    counted: Tensor | None = None,
    smooth: float = 1.0,
    per_image: bool = False,
) -> Tensor:
    """``1 - (2 TP + s) / (2 TP + FP + FN + s)`` with soft counts. Milletari et al. 2016."""
    tp, fp, fn = _soft_counts(logits, mask, counted, per_image)
    found = _share(2 * tp + smooth, 2 * tp + fp + fn + smooth)
    return (1 - found).mean()


def jaccard(
    logits: Tensor,
    mask: Tensor,
    counted: Tensor | None = None,
    alpha: float = 1.0,
    per_image: bool = True,
    per_pixel: bool = False,
) -> Tensor:
    """``alpha * (1 - (TP + alpha) / (TP + FP + FN + alpha))`` with soft counts. PEFNet, eq. 2.

    ``per_pixel`` sums over classes alone, as the widely copied Keras form does (there with
    ``alpha`` 100).
    """
    if per_pixel:
        probability = logits.sigmoid()
        tp = (probability * mask).sum(1)
        union = (probability + mask).sum(1) - tp
        losses = 1 - _share(tp + alpha, union + alpha)
        return _mean(alpha * losses[:, None], counted)
    tp, fp, fn = _soft_counts(logits, mask, counted, per_image)
    found = _share(tp + alpha, tp + fp + fn + alpha)
    return alpha * (1 - found).mean()


def tversky(
    logits: Tensor,
    mask: Tensor,
    counted: Tensor | None = None,
    alpha: float = 0.3,
    beta: float = 0.7,
    smooth: float = 1.0,
    per_image: bool = False,
) -> Tensor:
    """``1 - (TP + s) / (TP + alpha FP + beta FN + s)``. Salehi et al. 2017."""
    tp, fp, fn = _soft_counts(logits, mask, counted, per_image)
    found = _share(tp + smooth, tp + alpha * fp + beta * fn + smooth)
    return (1 - found).mean()


def focal(
    logits: Tensor,
    mask: Tensor,
    counted: Tensor | None = None,
    gamma: float = 2.0,
    alpha: float = 0.25,
) -> Tensor:
    """``alpha_t (1 - p_t)^gamma * BCE``, mean over pixels. Lin et al. 2017."""
    entropy = F.binary_cross_entropy_with_logits(logits, mask, reduction="none")
    weight = alpha * mask + (1 - alpha) * (1 - mask)
    # 1 - p_t without the loss of digits near p_t = 1; above 0, where a gamma below 1 has no slope
    miss = -torch.expm1(-entropy).clamp_max(-_TINY)
    return _mean(weight * miss**gamma * entropy, counted)


def mcc(
    logits: Tensor,
    mask: Tensor,
    counted: Tensor | None = None,
    smooth: float = 1e-3,
) -> Tensor:
    """``1 - MCC`` from soft counts of the whole batch. SA-UNetv2; Abhishek and Hamarneh 2021.

    ``smooth`` is added to TP and TN: a perfect prediction has loss 0 whatever its area, also where
    there is no foreground or no background, and a false one there has a gradient.
    """
    inside, outside = logits.sigmoid(), (-logits).sigmoid()
    truth, rest = mask, 1 - mask
    if counted is not None:
        truth, rest = truth * counted, rest * counted
    axes = (0, 2, 3)
    # each a sum of its own: differences of large sums would drown a few pixels
    tp = (inside * truth).sum(axes) + smooth
    tn = (outside * rest).sum(axes) + smooth
    fp, fn = (inside * rest).sum(axes), (outside * truth).sum(axes)
    rows = _root(tp + fp) * _root(tn + fn)
    columns = _root(tp + fn) * _root(tn + fp)
    found = (tp * tn - fp * fn) / (rows * columns)
    return (1 - found).mean()


def _root(values: Tensor) -> Tensor:
    """The square root, with a slope at 0 too."""
    return values.clamp_min(_TINY).sqrt()


def lovasz(
    logits: Tensor,
    mask: Tensor,
    counted: Tensor | None = None,
) -> Tensor:
    """The Lovasz hinge, the convex surrogate of the Jaccard index, per image and class.

    Berman et al. 2018.
    """
    if counted is not None:
        # background beyond its margin has no error and stands behind all pixels that have one
        logits, mask = torch.where(counted > 0, logits, -torch.inf), mask * counted
    truth = mask.flatten(2)
    margins = logits.flatten(2) * (2 * truth - 1)
    errors, order = (1 - margins).sort(-1, descending=True)
    truth = truth.gather(-1, order)
    area = truth.sum(-1, keepdim=True)
    intersection = area - truth.cumsum(-1)
    union = area + (1 - truth).cumsum(-1)
    index = 1 - intersection / union
    gradient = torch.cat([index[..., :1], index.diff(dim=-1)], -1)
    return (errors.relu() * gradient).sum(-1).mean()


def cross_entropy(
    logits: Tensor,
    mask: Tensor,
    counted: Tensor | None = None,
    class_weights: Sequence[float] | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Cross-entropy of a softmax, mean over pixels, each with the weight of its true class.

    For exclusive classes alone: logits and mask (B, 1 + K, H, W) begin with the background.
    """
    truth = mask.argmax(1)
    weight = logits.new_tensor(class_weights or [1.0] * logits.shape[1])
    if counted is not None:
        truth = truth.masked_fill(counted[:, 0] == 0, _IGNORED)
    total = F.cross_entropy(
        logits,
        truth,
        weight,
        ignore_index=_IGNORED,
        reduction="sum",
        label_smoothing=label_smoothing,
    )
    weights = weight[truth.clamp_min(0)] * (truth != _IGNORED)
    return total / weights.sum().clamp_min(_TINY)


def ace(
    logits: Tensor,
    mask: Tensor,
    counted: Tensor | None = None,
    bins: int = 20,
) -> Tensor:
    """The average calibration error of each image and class, for probabilities that mean what they say.

    Over the bins of probability that hold pixels, the mean distance between the mean probability
    and the share of foreground. A constant map that knows the share has none, so give it beside
    another term. Barfoot et al. 2024.
    """
    probability = logits.sigmoid()
    weight = torch.ones_like(mask) if counted is None else counted.expand_as(mask)
    place = (probability.detach() * bins).long().clamp(0, bins - 1).flatten(2)
    empty = logits.new_zeros(*logits.shape[:2], bins)
    pixels = empty.scatter_add(2, place, weight.flatten(2))
    gaps = empty.scatter_add(2, place, (weight * (probability - mask)).flatten(2)).abs()
    used = (pixels > 0).sum(2).clamp_min(1)
    return (_share(gaps, pixels).sum(2) / used).mean()
