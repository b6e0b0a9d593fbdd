"""That an exported model is the checkpoint: how far its logits and masks are from it, and how far
they may be."""

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from lightning_seg.data.store.sized import scale
from lightning_seg.errors import InputError
from lightning_seg.export._trace import FormError, Shapes
from lightning_seg.inference.ensemble import Ensemble
from lightning_seg.inference.mask_rule import MaskRule
from lightning_seg.inference.prediction import Prediction
from lightning_seg.models.frame.normalization import mean_logits
from lightning_seg.tables import count_text

LOGITS = 1e-4  # the largest difference that is allowed in float32
DICE = 0.99  # the least agreement of the masks of a variant that computes or stores less exactly
PIXELS = 1e-3  # the largest share of mask pixels by which a graph that scales pictures itself may differ from the project
_UNEQUAL = "with free sizes its output was not the checkpoint's"
_ROUNDINGS = (
    4  # a float32 result may be so many times as far off as the checkpoint itself is from float64
)

Batch = NDArray[np.float32]  # (B, C, H, W) in [0, 1], or logits (B, K, H, W)
Function = Callable[[Batch], Batch]


class LogitAgreement(NamedTuple):
    """The distance of a model from its reference.

    Attributes:
        max_difference: the largest one of logits, the largest of which is ``largest``.
        dice: of the two models' masks, see `Overlaps`.
        images: how many were compared.
    """

    max_difference: float
    dice: float
    images: int
    largest: float

    def describe(self) -> str:
        return (
            f"logits (up to {self.largest:.3g}) differ by at most {self.max_difference:.1e}, "
            f"{_masks(self.dice)} "
            f"({self.images} compared)"
        )


class Overlaps:
    """Dice of two models' masks: mean over the images where either finds something, and of the
    classes the one that agrees least."""

    def __init__(self) -> None:
        self.each: list[NDArray[np.float64]] = []

    def add(
        self,
        one: NDArray[np.bool_],
        other: NDArray[np.bool_],
    ) -> None:
        """Add masks, (B, K, H, W) each."""
        both = (one & other).sum((2, 3))
        total = one.sum((2, 3)) + other.sum((2, 3))
        dice = 2 * both / np.maximum(total, 1)
        self.each.append(np.where(total > 0, dice, np.nan))

    def dice(self) -> float:
        """The least mean over images of a class; nan where all masks are empty."""
        each = np.concatenate(self.each)
        known = [column[~np.isnan(column)] for column in each.T]
        means = [column.mean() for column in known if len(column)]
        return float(min(means, default=np.nan))


def _masks(dice: float) -> str:
    return "all masks are empty" if np.isnan(dice) else f"masks agree with Dice {dice:.5f}"


def compare_logits(
    reference: Function,
    candidate: Function,
    images: Iterable[Batch],
    threshold: float = 0.5,
    exclusive: bool = False,
) -> LogitAgreement:
    """Compare two functions from images to logits on batches of images.

    Args:
        threshold: of the probability, for the masks.
        exclusive: whether the logits are of a softmax with the background first.

    Errors: InputError for a reference that is not finite.
    """
    cut = float(np.log(threshold / (1 - threshold)))
    overlaps, difference, count, largest = Overlaps(), 0.0, 0, 0.0
    for batch in images:
        expected, found = reference(batch), candidate(batch)
        _check_shapes(expected, found, batch)
        if not np.isfinite(expected).all():
            raise InputError(
                "the checkpoint gives logits that are not finite (NaN or infinite); export "
                "another one."
            )
        found = np.where(np.isfinite(found), found, np.inf)
        farthest = np.abs(expected - found).max()
        difference = max(difference, float(farthest))
        overlaps.add(*(_cut_logits(one, cut, exclusive) for one in (expected, found)))
        count += len(batch)
        largest = max(largest, float(np.abs(expected).max()))
    return LogitAgreement(difference, overlaps.dice(), count, largest)


def _cut_logits(logits: Batch, cut: float, exclusive: bool) -> NDArray[np.bool_]:
    """(B, K, H, W) masks."""
    if not exclusive:
        return logits > cut
    numbers = np.arange(1, logits.shape[1]).reshape(1, -1, 1, 1)
    return logits.argmax(1, keepdims=True) == numbers


def _check_shapes(
    expected: NDArray[Any],
    found: NDArray[Any],
    images: NDArray[Any],
) -> None:
    if expected.shape != found.shape:
        raise FormError(
            f"the exported model gives an output of shape {found.shape} for images of shape "
            f"{images.shape}, and the checkpoint "
            f"{expected.shape}."
        )


def reference_of(network: Ensemble) -> Function:
    """The checkpoint itself, or the ensemble of several, in float32."""

    @torch.inference_mode()
    def logits(images: Batch) -> Batch:
        batch = torch.from_numpy(images)
        found = [module(batch).logits.float() for module in network.modules]
        return mean_logits(found, network.trained.exclusive).numpy()

    return logits


class MasksChangedError(InputError):
    """A variant whose masks are others than the checkpoint's."""


class Verified(NamedTuple):
    """A model that may be written: what was measured, and that in words with what is allowed."""

    found: LogitAgreement
    text: str


def verify_logits(
    network: Ensemble, candidate: Function, images: Sequence[Batch], variant: str = ""
) -> Verified:
    """Compare with the checkpoint; InputError where the candidate is too far from it, a
    `FormError` if it should be equal.

    Args:
        variant: ``int8`` or ``bf16``: only the masks have to agree.
    """
    exclusive = network.trained.exclusive
    found = compare_logits(reference_of(network), candidate, images, exclusive=exclusive)
    if variant:
        _check_variant(variant, found.dice)
        if np.isfinite(found.max_difference):
            return Verified(found, f"{found.describe()}; {variant} is allowed a Dice from {DICE}")
        raise InputError(
            f"{variant} makes logits of this network infinite, so nothing was written; export it "
            "in float32."
        )
    if found.max_difference <= LOGITS:
        return Verified(found, f"{found.describe()}; allowed {LOGITS:g}")
    own = rounding(network, images)
    if found.max_difference > _ROUNDINGS * own or found.dice < DICE:
        raise FormError(
            f"the exported model is not the checkpoint: {found.describe()}, allowed {LOGITS:g} "
            "(the checkpoint's own float32 is "
            f"{own:.1e} from its float64), so nothing was written; report this network with its "
            "checkpoint.",
            _UNEQUAL,
        )
    note = (
        f"above {LOGITS:g}, by rounding: the checkpoint's own float32 is {own:.1e} from its float64"
    )
    return Verified(found, f"{found.describe()}; {note}")


def _check_variant(variant: str, dice: float) -> None:
    if np.isnan(dice):
        raise InputError(
            f"the network finds nothing in these images, so nothing tells what {variant} does to "
            "its masks; give --images in which "
            "it finds something, or export it in float32."
        )
    if dice < DICE:
        raise MasksChangedError(
            f"{variant} changes the masks of this network: their Dice with the checkpoint's is "
            f"{dice:.5f}, below {DICE}, so nothing "
            "was written; export it in float32."
        )


def rounding(network: Ensemble, images: Iterable[Batch]) -> float:
    """The distance of the checkpoint's logits in float32 from those in float64: what another order
    of sums may cost."""
    exact = [copy.deepcopy(module).double() for module in network.modules]
    exclusive = network.trained.exclusive

    @torch.inference_mode()
    def logits(batch: Batch) -> Batch:
        images = torch.from_numpy(batch).double()
        return mean_logits([module(images).logits for module in exact], exclusive).numpy()

    return compare_logits(logits, reference_of(network), images).max_difference


def image_batches(
    pictures: Sequence[np.ndarray],
    shapes: Shapes,
    side: int,
) -> Iterator[Batch]:
    """The pictures at sizes and in batches that ``shapes`` allows: alone and in twos, at ``side``
    and, where any will do, at two other sizes; then the rest one by one."""
    sizes = [(side, side)]
    if shapes.side is None:
        step = 2 * shapes.multiple
        small = step * -(-16 // step)  # 16 at least
        sizes.append((side * 3 // 4 + 5, side // 2 + 3))
        sizes.append((small, small + shapes.multiple))
    counts = (1, 2) if shapes.batch else (1,)
    for height, width in sizes:
        for count in counts:
            some = [pictures[index % len(pictures)] for index in range(count)]
            yield _stack(some, height, width)
    yield from one_by_one(pictures[2:], side)


def one_by_one(
    pictures: Sequence[np.ndarray],
    side: int,
) -> Iterator[Batch]:
    """Batches of one, at ``side`` x ``side``."""
    for picture in pictures:
        yield _stack([picture], side, side)


def _stack(
    pictures: Sequence[np.ndarray],
    height: int,
    width: int,
) -> Batch:
    images = np.stack([scale(one, (height, width)) for one in pictures])
    planes = images.transpose(0, 3, 1, 2).astype(np.float32)
    return np.ascontiguousarray(planes / np.float32(255))


def _predicted(
    network: Ensemble,
    rule: MaskRule,
    picture: np.ndarray,
) -> Prediction:
    image = network.scale(np.ascontiguousarray(picture))
    return rule(network(image[None])[0], picture.shape[:2])


def verify_masks(
    network: Ensemble,
    rule: MaskRule,
    candidate: Callable[[np.ndarray], Sequence[np.ndarray]],
    pictures: Sequence[np.ndarray],
    batch: bool,
    variant: str = "",
) -> Verified:
    """Verify as `verify_logits` a function from pictures (B, H, W, C) uint8 to masks and
    probabilities (B, K, H, W) at their size.

    Args:
        batch: the function takes more than one picture.

    Returns the share of the mask pixels that differ from those of `predict` in place of a
        difference of logits.
    """
    overlaps, wrong, moved, pixels = Overlaps(), 0, 0.0, 0
    for index, picture in enumerate(pictures):
        some = picture[None]
        if batch and index == 0:
            some = np.stack([picture, picture[:, ::-1]])
        expected = [_predicted(network, rule, one) for one in some]
        masks, probabilities = candidate(some)
        mask = np.stack([one.mask for one in expected])
        probability = np.stack([one.probability for one in expected])
        _check_shapes(mask, masks, some)
        _check_shapes(probability, probabilities, some)
        overlaps.add(mask, masks > 0)
        wrong += int((mask != (masks > 0)).sum())
        pixels += mask.size
        moves = np.abs(probability - probabilities, dtype=np.float64)
        moved += float(moves.sum())
    found = LogitAgreement(wrong / pixels, overlaps.dice(), len(pictures), 1.0)
    text = (
        f"{found.max_difference:.1e} of the mask pixels differ from `predict`, "
        f"{_masks(found.dice)}, probabilities are "
        f"{moved / pixels:.1e} off on average ({count_text(len(pictures), 'picture')})"
    )
    if variant:
        _check_variant(variant, found.dice)
        return Verified(found, f"{text}; {variant} is allowed a Dice from {DICE}")
    within = found.max_difference <= PIXELS and moved / pixels <= PIXELS
    if not within or found.dice < DICE:
        raise FormError(
            f"the exported model is not the checkpoint: {text}, allowed {PIXELS:g} and a Dice "
            f"from {DICE}, so nothing was written; "
            "export the plain graph, without --with-processing.",
            _UNEQUAL,
        )
    return Verified(found, f"{text}; allowed {PIXELS:g} and a Dice from {DICE}")
