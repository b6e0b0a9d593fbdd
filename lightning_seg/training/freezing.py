"""Parts of a network that do not learn, for a number of epochs or for good."""

from collections.abc import Mapping, Sequence
from typing import Any

import lightning as L
from torch import nn

from lightning_seg.errors import InputError, unknown

Freeze = Sequence[str] | Mapping[str, int] | None  # ``model.freeze`` as it is given
Parts = Mapping[str, int | None]  # name of a part -> epochs for which it is frozen; None: all


def dead_parameters(net: nn.Module) -> set[str]:
    """Names of the parameters that get no gradient by the paper's design."""
    prefixes = tuple(getattr(net, "unused", ()))
    return {name for name, _ in net.named_parameters() if name.startswith(prefixes)}


def frozen_parts(net: nn.Module, freeze: Freeze) -> Parts:
    """``model.freeze`` as a mapping.

    Errors: InputError where it names no part of ``net``, or leaves nothing to learn.
    """
    parts: Parts = freeze if isinstance(freeze, Mapping) else dict.fromkeys(freeze or ())
    modules = dict(net.named_modules())
    for part, epochs in parts.items():
        if part not in modules or not part:
            depth = part.count(".")
            near = {name for name in modules if name and name.count(".") == depth}
            children = [name for name, _ in net.named_children()]
            raise unknown("part of the network to freeze", part, near or children)
        if epochs is not None and epochs < 1:
            raise InputError(
                f"model.freeze holds {part}: {epochs}; give a number of epochs of at least 1, or "
                "leave it out."
            )
    prefixes = tuple(f"{part}." for part in parts)
    names = [name for name, _ in net.named_parameters()]
    if parts and all(name.startswith(prefixes) for name in names):
        raise InputError(
            f"model.freeze holds {', '.join(parts)}, which is the whole network; leave a part out."
        )
    return parts


def freeze_for_good(net: nn.Module, freeze: Freeze) -> Parts:
    """Freeze what never learns, before several devices count the gradients.

    Returns:
        The parts of ``freeze``, also those that learn later.
    """
    for name in dead_parameters(net):
        net.get_parameter(name).requires_grad_(False)
    parts = frozen_parts(net, freeze)
    for part, epochs in parts.items():
        if epochs is None:
            net.get_submodule(part).requires_grad_(False)
    return parts


def apply_freeze(net: nn.Module, parts: Parts, epoch: int) -> None:
    """Freeze and thaw the parts of ``net`` as they are in ``epoch``.

    A part that does not learn is in evaluation mode: batch norm keeps its statistics, dropout and
    drop path rest.
    """
    dead = dead_parameters(net)
    learns = {part: epochs is not None and epoch >= epochs for part, epochs in parts.items()}
    # those that learn first: a frozen part of a thawed one stays frozen
    for part in sorted(parts, key=learns.__getitem__, reverse=True):
        module = net.get_submodule(part)
        module.train(learns[part])
        for name, parameter in module.named_parameters():
            parameter.requires_grad_(learns[part] and f"{part}.{name}" not in dead)


class Freezing(L.Callback):
    """Freezes and thaws at the start of epochs: a resumed run is where an uninterrupted one is."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        later = [part for part, epochs in self.parts.items() if epochs is not None]
        # DDP counts on the gradients that there are at its start
        if later and trainer.world_size > 1:
            parts = ", ".join(later)
            raise InputError(
                f"model.freeze thaws {parts} in the course of the training, which several devices "
                f"cannot share; freeze for good (model.freeze: [{parts}]), or give "
                "--trainer.devices 1."
            )

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        apply_freeze(pl_module.net, self.parts, trainer.current_epoch)
