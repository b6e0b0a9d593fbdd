"""Whether the encoder weights that trainings would start from are to be had: a launch says so
before it begins."""

import json
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any

import torch

from lightning_seg.errors import InputError
from lightning_seg.models import TimmEncoder, create
from lightning_seg.models.frame.weights import find_weights


def weights_lines(configurations: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """One sentence for each encoder that starts from ImageNet weights.

    Args:
        configurations: as `hpo.recipe.dry_run` gives them.
    """
    names = [name for config in configurations if (name := starting_encoder(config))]
    for name in dict.fromkeys(names):
        try:
            yield f"encoder weights of {name}: {find_weights(name, download=False)}"
        except InputError:
            yield (
                f"encoder weights of {name}: NOT on this machine; training fetches them from the hub, "
                "or fails at its start where no hub is within reach "
                f"(put {name}.safetensors into LIGHTNING_SEG_WEIGHTS)"
            )


def starting_encoder(config: Mapping[str, Any]) -> str:
    """The timm encoder whose ImageNet weights a configuration starts from; empty where there is
    none."""
    if not config.get("model.pretrained"):
        return ""
    options = (config.get("model.options") or {}) | {"encoder": config.get("model.encoder")}
    return built_encoder(config["model.architecture"], json.dumps(options))


@cache
def built_encoder(architecture: str, options: str) -> str:
    """The timm encoder in a network; ``options``: of its constructor, as JSON."""
    with torch.device("meta"):
        net = create(architecture, **json.loads(options))
    encoders = (module for module in net.modules() if isinstance(module, TimmEncoder))
    return next((encoder.name for encoder in encoders), "")
