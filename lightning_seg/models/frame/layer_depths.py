"""How deep in the encoder a parameter lies, for learning rates that differ from layer to layer."""

from typing import Any

import torch
from torch import nn

from lightning_seg.errors import InputError
from lightning_seg.models.frame.encoder import TimmEncoder

_OF_PYRAMIDS = ("out_indices", "feature_cls")  # encoder_options that timm's classifiers do not take


def encoder_parameters(
    net: nn.Module,
    layered: bool = False,
) -> dict[str, int]:
    """The names of the encoder's parameters in ``net``, each with its distance from the decoder in
    layers, 1 at least.

    Args:
        layered: count the layers, as timm groups them; else every distance is 1.

    Errors: InputError for a network without an encoder, or without a timm encoder whose layers can
    be counted where they are to be.
    """
    path = next(
        (name for name, module in net.named_modules() if isinstance(module, TimmEncoder)), None
    )
    if path is None and (layered or "encoder" not in dict(net.named_children())):
        what = (
            "timm encoder, whose layers layer_decay counts"
            if layered
            else "encoder, whose rate encoder_lr would scale"
        )
        raise InputError(
            f"{type(net).__name__} has no {what}; leave it out, or name one in `encoder`."
        )
    place = path or "encoder"
    encoder = net.get_submodule(place)
    if isinstance(encoder, TimmEncoder) and layered:
        return {f"{place}.body.{name}": distance for name, distance in _distances(encoder).items()}
    # the steps of a plain transformer's pyramid start from scratch, as the decoder does
    names = [name for name, _ in encoder.named_parameters() if not name.startswith("pyramid.")]
    return {f"{place}.{name}": 1 for name in names}


def _distances(encoder: TimmEncoder) -> dict[str, int]:
    """The depths by timm's own groups, which are those of the classifier: its pyramid form writes
    ``stages_0`` or ``model.stages.0``."""
    import timm
    from timm.models import group_parameters

    model: Any = encoder.body
    if not _counts_layers(model):
        options = {
            name: value for name, value in encoder.options.items() if name not in _OF_PYRAMIDS
        }
        with torch.device("meta"):
            model = timm.create_model(encoder.name, in_chans=encoder.in_channels, **options)
    if not _counts_layers(model):
        raise InputError(
            f"timm does not count the layers of encoder {encoder.name!r}; set encoder_lr, not layer_decay."
        )
    groups = group_parameters(model, model.group_matcher(coarse=False), reverse=True)
    depths = {_flat(name): depth for name, depth in groups.items()}
    names = [name for name, _ in encoder.body.named_parameters()]
    last = max(depths.get(_flat(name), 0) for name in names)
    return {name: 1 + last - min(last, depths.get(_flat(name), last)) for name in names}


def _counts_layers(model: nn.Module) -> bool:
    return callable(getattr(model, "group_matcher", None))


def _flat(name: str) -> str:
    """A parameter's name as all of timm's forms of a network share it."""
    return name.removeprefix("model.").replace(".", "_")
