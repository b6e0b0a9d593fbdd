"""That an exported model is the checkpoint: how far its logits and masks are from it, and how far they may be."""

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from lightning_seg.errors import InputError
from lightning_seg.export._trace import Shapes, VariantError
from lightning_seg.inference.network import Network
from lightning_seg.inference.prediction import Rule

LOGITS = 1e-4  # the largest difference that is allowed in float32
DICE = 0.99  # the least agreement of the masks of a variant that computes or stores less exactly
PIXELS = (
    1e-3  # the largest share of mask pixels by which a graph that scales pictures itself may differ from the project
)
_ROUNDINGS = 4  # a float32 result may be so many times as far off as the checkpoint itself is from float64

Batch = NDArray[np.float32]  # (B, C, H, W) in [0, 1], or logits (B, K, H, W)
Function = Callable[[Batch], Batch]


class Agreement(NamedTuple):
    """How far a model is from its reference.

    Attributes:
        max_difference: the largest one of logits, the largest of which is ``largest``.
        dice: of the two models' masks, mean over images and classes; 1 where both are empty.
        images: how many were compared.
    """

    max_difference: float
    dice: float
    images: int
    largest: float

    def describe(self) -> str:
        return (
            f"logits (up to {self.largest:.3g}) differ by at most {self.max_difference:.1e}, masks agree with Dice "
            f"{self.dice:.5f} ({self.images} images)"
        )


def agreement(reference: Function, candidate: Function, images: Iterable[Batch], threshold: float = 0.5) -> Agreement:
    """Compare two functions from images to logits on batches of images.

    Args:
        threshold: of the probability, for the masks.
    """
    cut = float(np.log(threshold / (1 - threshold)))
    differences, dices, count, largest = [0.0], list[float](), 0, 0.0
    for batch in images:
        expected, found = reference(batch), candidate(batch)
        if expected.shape != found.shape:
            raise InputError(
                f"the exported model gives logits of shape {found.shape} for images of shape {batch.shape}, "
                f"and the checkpoint {expected.shape}."
            )
        difference = float(np.abs(expected - found).max())
        differences.append(difference if np.isfinite(difference) else float("inf"))
        dices.extend(_dice(expected > cut, found > cut).ravel())
        count, largest = count + len(batch), max(largest, float(np.abs(expected).max()))
    return Agreement(max(differences), float(np.mean(dices)), count, largest)


def _dice(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(B, K)"""
    both = (one & other).sum((2, 3))
    total = one.sum((2, 3)) + other.sum((2, 3))
    return np.where(total > 0, 2 * both / np.maximum(total, 1), 1.0)


def reference_of(network: Network) -> Function:
    """The checkpoint itself, in float32."""

    @torch.inference_mode()
    def logits(images: Batch) -> Batch:
        return network.modules[0](torch.from_numpy(images)).logits.float().numpy()

    return logits


class Verified(NamedTuple):
    """That a model may be written: what was measured, and that in words with what is allowed."""

    found: Agreement
    text: str


def verify_logits(network: Network, candidate: Function, images: Sequence[Batch], variant: str = "") -> Verified:
    """Compare with the checkpoint; InputError where the candidate is too far from it.

    Args:
        variant: ``int8`` or ``bf16``: only the masks have to agree.
    """
    found = agreement(reference_of(network), candidate, images)
    if variant:
        if found.dice < DICE:
            raise _changed(variant, found.dice)
        return Verified(found, f"{found.describe()}; {variant} is allowed a Dice from {DICE}")
    if found.max_difference <= LOGITS:
        return Verified(found, f"{found.describe()}; allowed {LOGITS:g}")
    own = rounding(network, images)
    if not found.max_difference <= _ROUNDINGS * own:
        raise InputError(
            f"the exported model is not the checkpoint: {found.describe()}, allowed {LOGITS:g} (the checkpoint's own float32 is "
            f"{own:.1e} from its float64), so nothing was written; report this network with its checkpoint."
        )
    note = f"above {LOGITS:g}, by rounding: the checkpoint's own float32 is {own:.1e} from its float64"
    return Verified(found, f"{found.describe()}; {note}")


def _changed(variant: str, dice: float) -> VariantError:
    return VariantError(
        f"{variant} changes the masks of this network: their Dice with the checkpoint's is {dice:.4f}, below {DICE}, so nothing was "
        "written; export it in float32."
    )


def rounding(network: Network, images: Iterable[Batch]) -> float:
    """How far the checkpoint's logits in float32 are from those in float64: what a change of the order of sums may cost."""
    exact = copy.deepcopy(network.modules[0]).double()

    @torch.inference_mode()
    def logits(batch: Batch) -> Batch:
        return exact(torch.from_numpy(batch).double()).logits.numpy()

    return agreement(logits, reference_of(network), images).max_difference


def image_batches(pictures: Sequence[np.ndarray], shapes: Shapes, side: int) -> Iterator[Batch]:
    """The pictures at sizes and in batches that ``shapes`` allows: alone and in twos, at ``side`` and, where any will do, at two
    other sizes; then the rest one by one."""
    sizes = [(side, side)]
    if shapes.side is None:
        sizes += [(side * 3 // 4 + 5, side // 2 + 3), (2 * shapes.multiple, 3 * shapes.multiple)]
    for height, width in sizes:
        for count in (1, 2) if shapes.batch else (1,):
            yield _stack([pictures[index % len(pictures)] for index in range(count)], height, width)
    yield from one_by_one(pictures[2:], side)


def one_by_one(pictures: Sequence[np.ndarray], side: int) -> Iterator[Batch]:
    """Batches of one, at ``side`` x ``side``."""
    for picture in pictures:
        yield _stack([picture], side, side)


def _stack(pictures: Sequence[np.ndarray], height: int, width: int) -> Batch:
    scaled = [cv2.resize(one, (width, height), interpolation=cv2.INTER_AREA) for one in pictures]
    images = np.stack([one.reshape(height, width, -1) for one in scaled])  # cv2 drops a single channel's axis
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255))


def verify_masks(
    network: Network,
    rule: Rule,
    candidate: Callable[[np.ndarray], np.ndarray],
    pictures: Sequence[np.ndarray],
    batch: bool,
    variant: str = "",
) -> Verified:
    """As `verify_logits`, of a function from pictures (B, H, W, C) uint8 to masks (B, K, H, W) uint8 at their size.

    Args:
        batch: the function takes more than one picture.

    Returns the share of the mask pixels that differ from those of `predict` in place of a difference of logits.
    """
    different, dices, pixels = 0, list[float](), 0
    for index, picture in enumerate(pictures):
        expected = rule(network(network.scale(picture)[None])[0], picture.shape[:2]).mask[None]
        found = candidate(np.repeat(picture[None], 2 if batch and index == 0 else 1, 0))[-1:] > 0
        different += int((expected != found).sum())
        pixels += expected.size
        dices.extend(_dice(expected, found).ravel())
    found_all = Agreement(different / pixels, float(np.mean(dices)), len(pictures), 1.0)
    text = f"{found_all.max_difference:.1e} of the mask pixels differ from `predict`, Dice {found_all.dice:.5f}"
    if variant and found_all.dice < DICE:
        raise _changed(variant, found_all.dice)
    if not variant and found_all.max_difference > PIXELS:
        raise InputError(
            f"the exported model is not the checkpoint: {text}, allowed {PIXELS:g} of the pixels, so nothing was written; export the "
            "plain graph, without --with-processing."
        )
    allowed = f"{variant} is allowed a Dice from {DICE}" if variant else f"allowed {PIXELS:g} of the pixels"
    return Verified(found_all, f"{text} ({len(pictures)} pictures); {allowed}")
