"""A network is known by its file: ``attention_unet.py`` holds ``AttentionUNet`` and is named ``attention_unet``.

Nothing is registered anywhere: a new file is a new network, with its listing, its YAML name and its contract test.
"""

import importlib
import inspect
import pkgutil
from pathlib import Path
from typing import Any, cast

from torch import nn

from lightning_seg.errors import InputError, unknown


def names() -> list[str]:
    """The names of all architectures, sorted."""
    folder = str(Path(__file__).parent)
    return sorted(module.name for module in pkgutil.iter_modules([folder]) if not module.name.startswith("_"))


def find(architecture: str) -> type[nn.Module]:
    """The class of ``architecture``: a name, or ``package.module:Class`` for a network outside the project."""
    if ":" in architecture:
        module, _, name = architecture.partition(":")
        try:
            return cast(type[nn.Module], getattr(importlib.import_module(module), name))
        except (ImportError, AttributeError) as error:
            raise InputError(f"no architecture {architecture!r}: {error}.") from error
    if architecture not in names():
        raise unknown("architecture", architecture, names())
    module_ = importlib.import_module(f"lightning_seg.models.{architecture}")
    wanted = architecture.replace("_", "")
    classes: dict[str, Any] = {name.lower(): cls for name, cls in inspect.getmembers(module_, inspect.isclass)}
    return classes[wanted]


def options(architecture: str) -> dict[str, inspect.Parameter]:
    """The constructor arguments of ``architecture`` by name, with type and default."""
    parameters = inspect.signature(find(architecture).__init__).parameters
    return {name: parameter for name, parameter in parameters.items() if name != "self"}


def create(architecture: str, **arguments: Any) -> nn.Module:
    """Build a network by name; ``arguments`` are those of its constructor, checked against their types.

    >>> create("unet", encoder="resnet34", in_channels=3, num_classes=1)
    """
    known = options(architecture)
    for name, value in arguments.items():
        if name in known:
            continue
        if (name == "encoder" and value is None) or (name == "encoder_options" and not value):
            continue
        if name == "encoder":
            raise InputError(
                f"{architecture} has an encoder of its own and cannot take {value!r}; leave `encoder` out."
            )
        raise unknown(f"option of {architecture}", name, known)
    return find(architecture)(**_typed(architecture, {k: v for k, v in arguments.items() if k in known}))


def _typed(architecture: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments as their annotated types, so that a wrong one is a sentence rather than a crash deep inside."""
    from jsonargparse import ArgumentError, ArgumentParser

    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(find(architecture), fail_untyped=False)
    try:
        return parser.parse_object(arguments).as_dict()
    except ArgumentError as error:
        text = " ".join(str(error).split())
        raise InputError(f"{architecture} does not take these options: {text}") from error
