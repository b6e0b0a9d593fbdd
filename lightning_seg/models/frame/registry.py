"""A network is known by its file: ``attention_unet.py`` holds ``AttentionUNet`` and is named
``attention_unet``.

Nothing is registered anywhere: a new file is a new network, with its listing, its YAML name and its
contract test.
"""

import importlib
import inspect
import os
import pkgutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_seg.errors import InputError, unknown
from lightning_seg.models.frame.options import typed

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

        module, _, name = architecture.partition(":")
        if "" not in sys.path and os.getcwd() not in sys.path:
            sys.path.insert(0, os.getcwd())  # as `python -m` does
        try:
            cls = getattr(importlib.import_module(module), name)
        except (
            ImportError,
            AttributeError,
            TypeError,
            ValueError,
        ) as error:  # the last two: '.module' and ''
            raise InputError(f"no architecture {architecture!r}: {error}.") from error
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


def create(architecture: str, **given: Any) -> "nn.Module":
    """Build a network by name; what is given are arguments of its constructor, checked against
    their types.

    >>> create("unet", encoder="resnet34", in_channels=3, num_classes=1)
    """
    return find(architecture)(**arguments(architecture, **given))
