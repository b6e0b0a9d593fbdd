"""How large a network may get while it is built from what a checkpoint says of it."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from lightning_seg.errors import InputError

_SPARE_NUMBERS = 250_000_000  # timm builds heads of some encoders and takes them off again
_SPARE_TENSORS = 10_000
_TIMES = 4


class NetworkBudget(TorchFunctionMode):
    """Within it, torch makes no more than a few times the numbers that the weights have.

    A file of some kilobytes can ask for a network that fills the machine: its options are numbers.

    Args:
        weights: the ``state_dict`` that the network is built for.
        name: of their file.
    """

    def __init__(self, weights: Mapping[str, Tensor], name: object) -> None:
        super().__init__()
        self._name = name
        held = sum(
            each.untyped_storage().nbytes() // each.element_size() for each in weights.values()
        )
        self._numbers = _TIMES * held + _SPARE_NUMBERS
        self._tensors = _TIMES * len(weights) + _SPARE_TENSORS

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: Any = (),
        kwargs: Any = None,
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        if func in _MAKERS:
            self._numbers -= found.numel()
            self._tensors -= 1
            if min(self._numbers, self._tensors) < 0:
                raise InputError(
                    f"{self._name} asks for a network far larger than the weights in it; "
                    "give a checkpoint that `fit` wrote."
                )
        return found


_MAKERS = {
    torch.empty,
    torch.zeros,
    torch.ones,
    torch.full,
    torch.rand,
    torch.randn,
    torch.arange,
    torch.linspace,
}
