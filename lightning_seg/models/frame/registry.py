"""A network is known by its file: ``attention_unet.py`` holds ``AttentionUNet`` and is named
``attention_unet``.

Nothing is registered anywhere: a new file is a new network, with its listing, its YAML name and its
contract test.
"""

import importlib
import inspect
import pkgutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_seg.errors import InputError, unknown
from lightning_seg.models.frame.options import typed
from lightning_seg.plugins import outside_class

if TYPE_CHECKING:
    from torch import nn


def names() -> list[str]:
    """The names of all architectures, sorted."""
    folder = str(Path(__file__).parent.parent)
    return sorted(
        module.name
        for module in pkgutil.iter_modules([folder])
        if not module.ispkg and not module.name.startswith("_")
    )


def find(architecture: str) -> "type[nn.Module]":
    """The class of ``architecture``: a name, or ``package.module:Class`` for a network outside the
    project."""
    if ":" in architecture:
        from torch import nn

        cls = outside_class("architecture", architecture)
        if not (inspect.isclass(cls) and issubclass(cls, nn.Module)):
            raise InputError(
                f"{architecture!r} is no torch.nn.Module class; name one as package.module:Class."
            )
        return cls
    if architecture not in names():
        raise unknown("architecture", architecture, names())
    module_ = importlib.import_module(f"lightning_seg.models.{architecture}")
    wanted = architecture.replace("_", "")
    classes: dict[str, Any] = {
        name.lower(): cls for name, cls in inspect.getmembers(module_, inspect.isclass)
    }
    if wanted not in classes:
        raise InputError(
            f"lightning_seg/models/{architecture}.py holds no class whose name, in lower case, is {wanted!r}; name its network so."
        )
    return classes[wanted]


def options(architecture: str) -> dict[str, inspect.Parameter]:
    """The constructor arguments of ``architecture`` by name, with type and default."""
    parameters = inspect.signature(find(architecture).__init__).parameters
    return {name: parameter for name, parameter in parameters.items() if name != "self"}


def arguments(architecture: str, **given: Any) -> dict[str, Any]:
    """All arguments of the constructor of ``architecture``: those given, checked against their
    types, and the defaults."""
    known = options(architecture)
    for name, value in given.items():
        if name in known:
            continue
        if (name == "encoder" and value is None) or (name == "encoder_options" and not value):
            continue
        if name == "encoder":
            raise InputError(
                f"{architecture} has an encoder of its own and cannot take {value!r}; leave `encoder` out."
            )
        raise unknown(f"option of {architecture}", name, known)
    return typed(architecture, find(architecture), {k: v for k, v in given.items() if k in known})


def create(architecture: str, pretrained: bool = False, **given: Any) -> "nn.Module":
    """Build a network by name; what is given are arguments of its constructor, checked against
    their types.

    >>> create("unet", encoder="resnet34", in_channels=3, num_classes=1)

    Args:
        pretrained: give its timm encoder the weights of its pre-training, as `fit` does. The
            network then expects images that are normalised by ``encoder.mean`` and
            ``encoder.std``.

    Errors: InputError for an unknown name or argument, and for weights that are not to be had.
    """
    net = find(architecture)(**arguments(architecture, **given))
    if pretrained:
        from lightning_seg.models.frame.encoder import TimmEncoder

        encoders = [module for module in net.modules() if isinstance(module, TimmEncoder)]
        if not encoders:
            raise InputError(
                f"{architecture} is built without a timm encoder, so `pretrained` has no weights; "
                "name one in `encoder`, or leave pretrained out."
            )
        for encoder in encoders:
            encoder.load_weights()
    return net
