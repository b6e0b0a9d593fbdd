"""torch.export of a graph with as many free dimensions as the network allows, and the reason where
it does not."""

import copy
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.nn import functional as F

from lightning_seg.errors import InputError, without_log
from lightning_seg.export._graph import Masks

_PROBE = (65, 67)  # no multiple of anything, and above the largest stride
_MULTIPLES = (2, 4, 8, 16, 32, 64)


class Shapes(NamedTuple):
    """The sizes that an exported graph takes.

    Attributes:
        batch: any number of images; else one.
        side: the only height and width; None: any, in multiples of ``multiple`` (for ONNX, any at
            all: the graph pads).
        multiple: of height and width, to which the network pads.
        reason: why a dimension is not free, in words; empty where all are, or where the user fixed
            it.
    """

    batch: bool
    side: int | None
    multiple: int = 1
    reason: str = ""

    def describe(self, pads: bool = True) -> str:
        """``pads``: the graph itself takes sizes between the multiples."""
        step = self.multiple
        free = (
            "any height and width"
            if pads or step == 1
            else f"height and width in multiples of {step} from {2 * step}"
        )
        sizes = f"{self.side} x {self.side}" if self.side else free
        because = f"; no other, because {self.reason}" if self.reason else ""
        return f"{'any batch' if self.batch else 'one image at a time'}, {sizes}{because}"


class FormError(InputError):
    """This form of a graph cannot be had; another one may.

    Args:
        reason: for `Shapes`, where that is not the message.
    """

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason or message.rstrip(".")[:200]


class Traced(NamedTuple):
    """A program and the sizes it takes."""

    program: ExportedProgram
    shapes: Shapes


Form = Callable[[], Traced]  # that has yet to be traced
Result = TypeVar("Result")


@torch.no_grad()
def padding_of(logits: nn.Module, channels: int) -> int:
    """The largest multiple to which an image may be padded beforehand with its last row and column
    and give the same logits: that to which the network itself pads. 1 for a network that does not
    pad; FormError for one that does not take every size."""
    exact = copy.deepcopy(logits).double()  # in which a little is not nothing
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, channels, *_PROBE, generator=generator).double()
    try:
        expected, found = exact(image), 1
    except (RuntimeError, ValueError, AssertionError) as error:
        raise FormError(
            f"the network does not take images of every size: {_because(error)}"
        ) from error
    for multiple in _MULTIPLES:
        below, right = (-side % multiple for side in _PROBE)
        padded = F.pad(image, (0, right, 0, below), mode="replicate")
        given = exact(padded)[..., : _PROBE[0], : _PROBE[1]]
        farthest = (given - expected).abs().max()
        if farthest <= 1e-7 * expected.abs().max():
            found = multiple
    return found


def freest(
    forms: Sequence[Form],
    attempt: Callable[[Traced], Result],
) -> tuple[Shapes, Result]:
    """Return what ``attempt`` makes of the first form that can be traced and that it accepts, by
    not raising a `FormError`.

    The shapes say why the forms before were not. Raises the error of the last form where none will
    do, and any other at once.
    """
    reason, failure = "", FormError("nothing was tried.")
    for form in forms:
        try:
            traced = form()
            traced = traced._replace(shapes=traced.shapes._replace(reason=reason))
            return traced.shapes, attempt(traced)
        except FormError as error:
            reason, failure = reason or error.reason, error
    raise failure


def logits_forms(
    logits: nn.Module,
    channels: int,
    side: int | None,
    native: int,
) -> Sequence[Form]:
    """Programs of ``image`` (B, C, H, W), from the freest to the most fixed.

    Args:
        side: the only height and width; None: free.
        native: the side of the programs that cannot do without one.
    """

    def free(batch: dict[int, Any]) -> Traced:
        multiple = padding_of(logits, channels)
        # an image that nothing in the network is made for
        cells = max(2, native // multiple) + 1
        height, width = cells * multiple, (cells + 1) * multiple
        odd = torch.rand(1 + len(batch), channels, height, width)
        sides = _free_sides(2, 3, multiple)
        program = _export(logits, odd, batch | sides)
        return Traced(program, Shapes(bool(batch), None, multiple))

    def fixed(batch: dict[int, Any]) -> Traced:
        only = side or native
        usual = torch.rand(1 + len(batch), channels, only, only)
        program = _export(logits, usual, batch)
        return Traced(program, Shapes(bool(batch), only))

    makers = (fixed,) if side is not None else (free, fixed)
    any_batch = {0: Dim("batch")}
    return [partial(make, batch) for batch in (any_batch, {}) for make in makers]


def _free_sides(rows: int, columns: int, step: int) -> dict[int, Any]:
    """Two axes of an image of any size, in steps."""
    return {rows: step * Dim("rows", min=2), columns: step * Dim("columns", min=2)}


def masks_forms(
    masks: Masks,
    channels: int,
    native: int,
) -> Sequence[Form]:
    """Programs of ``image`` (B, H, W, C) uint8 of any size, and of one image at a time."""

    def form(batch: dict[int, Any]) -> Traced:
        step = padding_of(masks.logits, channels) if masks.side is None else 1
        cells = max(2, native // step) + 1
        height, width = cells * step, (cells + 1) * step
        example = torch.zeros(1 + len(batch), height, width, channels, dtype=torch.uint8)
        sides = _free_sides(1, 2, step)
        program = _export(masks, example, batch | sides)
        return Traced(program, Shapes(bool(batch), None, step))

    return [partial(form, {0: Dim("batch")}), partial(form, {})]


def _export(
    graph: nn.Module,
    example: Tensor,
    free: dict[int, Any],
) -> ExportedProgram:
    try:
        with torch.no_grad(), without_log():
            return torch.export.export(graph, (example,), dynamic_shapes=(free,))
    except Exception as error:  # its failures are of many types
        raise FormError(f"torch.export cannot trace this network: {_because(error)}") from error


def _because(error: Exception) -> str:
    """The line of torch.export's message that names the cause."""
    stripped = [line.strip(" -*") for line in str(error).splitlines() if line.strip()]
    words = ("specialized", "must", "guard")
    telling = [line for line in stripped if any(word in line for word in words)]
    candidates = telling or stripped or [type(error).__name__]
    return candidates[0][:200]
