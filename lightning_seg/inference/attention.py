"""The attention maps of a network, on request, for overlays. A network that is not asked neither keeps nor computes more."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lightning_seg.blocks import AttentionMap, resize
from lightning_seg.errors import InputError

Hook = Callable[[nn.Module, Any, Any], None]


def attention_maps(net: nn.Module, image: Tensor) -> dict[str, Tensor]:
    """All attention maps that ``net``, in evaluation mode, forms for ``image`` (B, C, H, W), by the name of their module.

    Returns:
        A map over pixels (gates, spatial attention) as (B, 1, H, W), resampled to the image: ready for an overlay; networks whose
        attention has several channels give as many. A map over pairs (of pixels: PLA and SCA; of channels: CCA) as it is,
        (B, [heads,] N, M), rows looking at columns; `received` turns pairs of pixels into an overlay. These may be large: N is the
        number of pixels of a level.

    Raises:
        InputError: ``net`` is in training mode or has no attention maps.
    """
    markers = {name: module for name, module in net.named_modules() if isinstance(module, AttentionMap)}
    if not markers:
        raise InputError(f"{type(net).__name__} has no attention maps; take a network with attention.")
    if net.training:
        raise InputError("attention maps are those of a trained network in use; call net.eval() first.")
    maps: dict[str, Tensor] = {}
    axes: dict[str, int] = {}  # of the input of the module that a marker lies in
    sizes: list[torch.Size] = []  # of the first layer's input: the image after its padding
    hooks: list[tuple[nn.Module, Hook]] = [(marker, partial(_keep, maps, name)) for name, marker in markers.items()]
    hooks += [(_parent(net, name), partial(_keep_axes, axes, name)) for name in markers]
    hooks += [(layer, partial(_keep_size, sizes)) for layer in net.modules() if not list(layer.children())]
    with _hooked(hooks), torch.no_grad():
        net(image)
    return {
        # a module that gets a map (B, C, H, W) and forms one with as many axes weighs its pixels; tokens (B, N, C) have three
        name: _fit(m, sizes[0], image.shape[-2:]) if m.ndim == axes[name] == 4 else m
        for name, m in maps.items()
    }


def received(pairs: Tensor, size: tuple[int, int]) -> Tensor:
    """How much attention each pixel gets, the mean over heads and over the pixels that look: pairs (B, [heads,] N, N) -> (B, 1, H, W).

    Args:
        size: H and W of the image, multiples of the network's coarsest stride (others were padded, so the grid covers more).
    """
    rows, pixels = pairs.shape[-2:]
    height = max(1, round(math.sqrt(pixels * size[0] / size[1])))
    width = pixels // height
    if rows != pixels or height * width != pixels:
        raise InputError(
            f"a map of shape {tuple(pairs.shape)} is not one over pairs of pixels of an image of {size[0]} x {size[1]}; "
            "give a square map, and an image whose sides are multiples of the network's coarsest stride."
        )
    columns = pairs.float().flatten(1, -2).mean(1)  # (B, N)
    return resize(columns.reshape(-1, 1, height, width), size)


def _fit(attention: Tensor, padded: torch.Size, size: torch.Size) -> Tensor:
    """Resampled to the padded image and cropped to the image: networks pad at the bottom and on the right."""
    return resize(attention.float(), padded)[..., : size[0], : size[1]]


def _parent(net: nn.Module, name: str) -> nn.Module:
    return net.get_submodule(name.rpartition(".")[0])


def _keep(maps: dict[str, Tensor], name: str, _: nn.Module, inputs: Any, output: Tensor) -> None:
    maps[name] = output


def _keep_axes(axes: dict[str, int], name: str, _: nn.Module, inputs: Any, output: Any) -> None:
    axes[name] = inputs[0].ndim


def _keep_size(sizes: list[torch.Size], _: nn.Module, inputs: Any, output: Any) -> None:
    if not sizes:
        sizes.append(inputs[0].shape[-2:])


@contextmanager
def _hooked(hooks: list[tuple[nn.Module, Hook]]) -> Iterator[None]:
    """Forward hooks for the time of the context, and none after it, whatever happens."""
    handles = []
    try:
        for module, hook in hooks:
            handles.append(module.register_forward_hook(hook))
        yield
    finally:
        for handle in handles:
            handle.remove()
