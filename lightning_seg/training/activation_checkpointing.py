"""Activation checkpointing: parts of a network forget what they computed, and compute it again.

Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016. In the backward pass levels and
stages compute a second time. Memory for activations falls to the inputs of these units and the inside
of one of them; a step takes about a third longer.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lightning_seg.errors import InputError


def checkpoint_activations(net: nn.Module) -> None:
    """Let the units of ``net`` compute twice.

    Values, gradients, batch norm's statistics and names of parameters stay.
    """
    for unit in checkpointed_units(net):
        # else an earlier fit did so
        if not isinstance(unit.forward, partial):
            # by the instance, not by a wrapping module, which would rename parameters
            unit.forward = partial(_recomputed, unit, unit.forward)  # type: ignore[method-assign]


def require_units(net: nn.Module) -> None:
    """InputError for a network without levels or stages that could be computed again."""
    if not checkpointed_units(net):
        raise InputError(
            f"{type(net).__name__} has no list of levels or stages that could be computed again; "
            "set model.activation_checkpointing: false."
        )


def checkpointed_units(net: nn.Module) -> list[nn.Module]:
    """The levels and stages of ``net``: elements of its outermost lists of modules, but no layers."""
    return list(_search(net))


def _search(module: nn.Module) -> Iterator[nn.Module]:
    for child in module.children():
        yield from _elements(child) if _is_list(child) else _search(child)


def _is_list(module: nn.Module) -> bool:
    """A list of modules, or a chain of them with no single layer in it, as timm's ``blocks``."""
    if isinstance(module, nn.ModuleList | nn.ModuleDict):
        return True
    return type(module) is nn.Sequential and all(map(_is_composed, module))


def _is_composed(module: nn.Module) -> bool:
    return any(True for _ in module.children())


def _elements(container: nn.Module) -> Iterator[nn.Module]:
    for element in container.children():
        if isinstance(element, nn.ModuleList | nn.ModuleDict):
            yield from _elements(element)
        elif _is_composed(element) and any(True for _ in element.parameters()):
            yield element


def _recomputed(
    unit: nn.Module,
    forward: Callable[..., Any],
    *args: Any,
    **kwargs: Any,
) -> Any:
    if not torch.is_grad_enabled():
        return forward(*args, **kwargs)

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _spare_buffers(unit)

    return checkpoint(forward, *args, use_reentrant=False, context_fn=contexts, **kwargs)


@contextmanager
def _spare_buffers(unit: nn.Module) -> Iterator[None]:
    """Let the unit work on copies of its buffers, so that batch norm's statistics stay."""
    kept = [(module, module._buffers) for module in unit.modules()]
    for module, buffers in kept:
        module._buffers = {name: _copied(buffer) for name, buffer in buffers.items()}
    try:
        yield
    finally:
        for module, buffers in kept:
            module._buffers = buffers


def _copied(buffer: Tensor | None) -> Tensor | None:
    return buffer.clone() if isinstance(buffer, Tensor) else buffer
