"""A trained network without its batch norms: their scales and shifts lie in the convolutions before
them.

In evaluation a batch norm is a multiplication and an addition for each channel, as the convolution
whose maps it reads can do them itself (``fuse_conv_bn_eval`` of torch). Which convolution that is, is
seen when the network runs once: where all its maps, and nothing else, go into one batch norm, and
nothing else reads them.
"""

import copy
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from lightning_seg.models.frame.normalization import ImageNetwork

_SIDE = 64  # pixels of the picture with which a network is tried


def folded(network: ImageNetwork, size: int | None = None) -> ImageNetwork:
    """A copy of a network in evaluation mode that computes the same, to rounding, in less time.

    The network itself is returned where nothing can be folded.

    Args:
        size: side of pictures that the network takes, for those which do not take any.
    """
    pairs = _foldable_pairs(network, size)
    if not pairs:
        return network
    found = copy.deepcopy(network)
    for convolution, norm in pairs.items():
        _fold(found, convolution, norm)
    return found


def _foldable_pairs(network: ImageNetwork, size: int | None) -> dict[str, str]:
    """Names of convolutions -> names of the batch norms that read their maps."""
    for side in (_SIDE, size):
        if side is None:
            continue
        weight = network.mean
        image = torch.zeros(
            1, weight.shape[1], side, side, dtype=weight.dtype, device=weight.device
        )
        # some encoders take one size alone, and code from elsewhere may raise anything
        try:
            return _Flow(network).pairs(image)
        except Exception:
            continue
    return {}


class _Flow(TorchFunctionMode):
    """The way of the maps of convolutions while a network runs."""

    def __init__(self, network: ImageNetwork) -> None:
        super().__init__()
        self._network = network
        self._maps: dict[int, tuple[Tensor, str]] = {}  # held, so that each id stays its own
        self._read_by: dict[int, list[str]] = defaultdict(list)
        self._norm: str | None = None  # the one that computes now

    def pairs(self, image: Tensor) -> dict[str, str]:
        """Convolutions -> batch norms, of a run over image (1, C, H, W)."""
        handles = [*self._watch()]
        try:
            with torch.inference_mode(), self:
                output = self._network(image)
        finally:
            for handle in handles:
                handle.remove()
        for leaf in tree_leaves(tuple(output)):
            self._read_by[id(leaf)].append("")
        readers: dict[str, set[str]] = defaultdict(set)
        sources: dict[str, set[str]] = defaultdict(set)
        for number, (_, convolution) in self._maps.items():
            by = self._read_by[number]
            readers[convolution] |= {*by} if len(by) == 1 else {""}
            for norm in by:
                sources[norm].add(convolution)
        for norm in self._read_by[-1]:  # of maps of something else
            sources[norm].add("")
        single = {name: next(iter(norms)) for name, norms in readers.items() if len(norms) == 1}
        return {name: norm for name, norm in single.items() if norm and len(sources[norm]) == 1}

    def _watch(self) -> Iterator[Any]:
        # exactly these: a subclass may do more with its weights
        convolutions = (nn.Conv2d, nn.ConvTranspose2d, *_of_timm("Conv2dSame"))
        norms = (nn.BatchNorm2d, *_of_timm("BatchNormAct2d"))
        for name, module in self._network.net.named_modules():
            if type(module) in convolutions:
                yield module.register_forward_hook(self._after_convolution(name))
            elif type(module) in norms and _is_fixed(module):
                yield module.register_forward_pre_hook(self._before_norm(name))
                yield module.register_forward_hook(self._after_norm)

    def _after_convolution(self, name: str) -> Callable[..., None]:
        def keep(_: nn.Module, __: Any, output: Tensor) -> None:
            self._maps[id(output)] = output, name

        return keep

    def _before_norm(self, name: str) -> Callable[..., None]:
        def enter(_: nn.Module, inputs: tuple[Tensor]) -> None:
            self._norm = name
            if id(inputs[0]) not in self._maps:
                self._read_by[-1].append(name)

        return enter

    def _after_norm(self, *_: Any) -> None:
        self._norm = None

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        found = func(*args, **kwargs)
        # a question such as the shape is no use
        if any(isinstance(leaf, Tensor) for leaf in tree_leaves(found)):
            for leaf in tree_leaves((args, kwargs)):
                if isinstance(leaf, Tensor) and id(leaf) in self._maps:
                    self._read_by[id(leaf)].append(self._norm or "")
        return found


def _of_timm(name: str) -> tuple[type[nn.Module], ...]:
    """A layer of timm, if any network may hold it: timm takes seconds to import."""
    layers = sys.modules.get("timm.layers")
    return () if layers is None else (getattr(layers, name),)


def _is_fixed(norm: nn.Module) -> bool:
    """Tell whether a batch norm has statistics of its training."""
    return getattr(norm, "running_mean", None) is not None and not norm.training


def _fold(network: ImageNetwork, convolution: str, norm: str) -> None:
    before: Any = network.net.get_submodule(convolution)
    after: Any = network.net.get_submodule(norm)
    before.weight, before.bias = fuse_conv_bn_weights(
        before.weight,
        before.bias,
        after.running_mean,
        after.running_var,
        after.eps,
        after.weight,
        after.bias,
        isinstance(before, nn.ConvTranspose2d),
    )
    before.weight.data = before.weight.data.contiguous(memory_format=torch.channels_last)
    plain = type(after) is nn.BatchNorm2d
    # timm's holds the activation too
    rest = nn.Identity() if plain else nn.Sequential(after.drop, after.act)
    parent, _, name = norm.rpartition(".")
    setattr(network.net.get_submodule(parent), name, rest)
