"""The attention maps of a network, on request, for overlays. A network that is not asked neither
keeps nor computes more."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lightning_seg.errors import InputError
from lightning_seg.models.frame.blocks import AttentionMap, resize_maps

Hook = Callable[[nn.Module, Any, Any], None]
Size = torch.Size | tuple[int, int]


def attention_maps(
    net: nn.Module,
    image: Tensor,
    overlay: bool = False,
) -> dict[str, Tensor]:
    """All attention maps that ``net``, in evaluation mode, forms for ``image`` (B, C, H, W), by
    the name of their module.

    Args:
        overlay: give maps over pairs of pixels as what each pixel receives, (B, 1, H, W), and
            leave those over pairs of channels out.

    Returns:
        A map over pixels (gates, spatial attention) as (B, 1, H, W), resampled to the image: ready
        for an overlay; networks whose attention has several channels give as many. A map over
        pairs (of pixels: PLA and SCA; of channels: CCA) as it is, (B, [heads,] N, M), rows looking
        at columns. These may be large: N is the number of pixels of a level.

    Raises:
        InputError: ``net`` is in training mode or has no attention maps.
    """
    markers = {
        name: module for name, module in net.named_modules() if isinstance(module, AttentionMap)
    }
    if not markers:
        raise InputError(
            f"{type(net).__name__} has no attention maps; take a network with attention."
        )
    if net.training:
        raise InputError(
            "attention maps are those of a trained network in use; call net.eval() first."
        )
    maps: dict[str, Tensor] = {}
    sizes: list[torch.Size] = []  # of the first layer's input: the image after its padding
    hooks: list[tuple[nn.Module, Hook]] = [
        (marker, partial(_keep, maps, name)) for name, marker in markers.items()
    ]
    hooks += [
        (layer, partial(_keep_size, sizes)) for layer in net.modules() if not list(layer.children())
    ]
    with _hooked(hooks), torch.no_grad():
        net(image)
    size, padded = image.shape[-2:], sizes[0]
    for name, m in list(maps.items()):
        match markers[name].over:
            case "pixels":
                maps[name] = _fit_image(m, size, padded)
            case "pixel_pairs" if overlay:
                maps[name] = received(m, size, padded)
            case "channel_pairs" if overlay:
                del maps[name]
    return maps


def received(pairs: Tensor, size: Size, padded: Size) -> Tensor:
    """The attention that each pixel gets, the mean over heads and over the pixels that look: pairs
    (B, [heads,] N, N) -> (B, 1, H, W).

    Args:
        size: H and W of the image.
        padded: H and W that the network padded it to, at the bottom and on the right: the next
            multiples of its coarsest stride; `attention_maps` with ``overlay`` finds them out.
    """
    rows, pixels = pairs.shape[-2:]
    height = max(1, round(math.sqrt(pixels * padded[0] / padded[1])))
    width = pixels // height
    if rows != pixels or height * width != pixels:
        raise InputError(
            f"a map of shape {tuple(pairs.shape)} is not one over pairs of pixels of an image of "
            f"{padded[0]} x {padded[1]}; "
            "give a square map, and the size to which the network padded the image."
        )
    columns = pairs.float().flatten(1, -2).mean(1)  # (B, N)
    return _fit_image(columns.reshape(-1, 1, height, width), size, padded)


def _fit_image(attention: Tensor, size: Size, padded: Size) -> Tensor:
    """Resampled to the padded image and cropped to the image: networks pad at the bottom and on
    the right."""
    return resize_maps(attention.float(), padded)[..., : size[0], : size[1]]


def _keep(
    maps: dict[str, Tensor],
    name: str,
    _: nn.Module,
    inputs: Any,
    output: Tensor,
) -> None:
    maps[name] = output


def _keep_size(
    sizes: list[torch.Size],
    _: nn.Module,
    inputs: Any,
    output: Any,
) -> None:
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
