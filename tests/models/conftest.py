"""Shared by the tests of networks: operation counts, and official Keras outputs with the weights they were made from."""

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode


@pytest.fixture
def gmacs() -> Callable[[nn.Module, int], float]:
    """``gmacs(net, size)``: multiply-adds, in 10^9, of one square 3-channel image; ``net`` may be on the meta device."""

    def count(net: nn.Module, size: int, channels: int = 3) -> float:
        image = torch.empty(1, channels, size, size, device=next(net.parameters()).device)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            net.eval()(image)
        return counter.get_total_flops() / 2e9

    return count


@pytest.fixture
def parity() -> Callable[[str], dict[str, Tensor]]:
    """``parity(name)``: the tensors of one official output in their stored order; images become (B, C, H, W)."""
    folder = os.environ.get("LIGHTNING_SEG_PARITY")
    if not folder:
        pytest.skip("LIGHTNING_SEG_PARITY does not name the folder of official outputs")

    def read(name: str) -> dict[str, Tensor]:
        arrays = np.load(Path(folder) / f"{name}.npz")
        tensors = {key: torch.from_numpy(arrays[key]) for key in arrays}
        return {
            key: t if key.startswith("w") else t.permute(0, 3, 1, 2) for key, t in tensors.items()
        }

    return read


@pytest.fixture
def load_keras() -> Callable[[Iterable[nn.Module | nn.Parameter], dict[str, Tensor]], None]:
    """``load_keras(modules, tensors)`` fills modules, given in Keras' order, with the tensors named ``w0000|...``."""

    def load(modules: Iterable[nn.Module | nn.Parameter], tensors: dict[str, Tensor]) -> None:
        weights = iter([t for key, t in tensors.items() if key.startswith("w")])
        with torch.no_grad():
            for module in modules:
                for target in _slots(module):
                    source = next(weights)
                    if (
                        source.ndim == 4
                    ):  # a kernel (h, w, in, out) or, bare, a map (1, h, w, channels)
                        source = source.permute((0, 3, 1, 2) if module is target else (3, 2, 0, 1))
                    assert source.shape == target.shape, (module, source.shape, target.shape)
                    target.copy_(source)
        assert next(weights, None) is None, "weights are left over"

    return load


def _slots(module: nn.Module | nn.Parameter) -> Iterator[Tensor]:
    """The tensors of one layer in Keras' order."""
    if isinstance(module, nn.Parameter):
        yield module
        return
    names = ("weight", "bias", "running_mean", "running_var")
    yield from (getattr(module, name) for name in names if getattr(module, name, None) is not None)
