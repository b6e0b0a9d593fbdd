"""Pre-trained weights of timm's encoders: from ``$LIGHTNING_SEG_WEIGHTS/<timm name>.safetensors``
or from timm's hub cache.

Apart from the networks, which can be built, loaded and shipped without.
"""

import hashlib
import os
from pathlib import Path
from typing import Any

from torch import nn

from lightning_seg.errors import InputError


def find_weights(name: str, download: bool = True) -> Path:
    """The file of pre-trained weights: in ``$LIGHTNING_SEG_WEIGHTS``, in timm's hub cache, or
    downloaded into it."""
    folder = os.environ.get("LIGHTNING_SEG_WEIGHTS")
    file = Path(folder or ".") / f"{name}.safetensors"
    if folder and file.is_file():
        return file
    cached = _from_hub(name, download)
    if cached is None:
        raise InputError(
            f"no pre-trained weights for encoder {name!r}: {'no ' + str(file) if folder else 'LIGHTNING_SEG_WEIGHTS is not set'}, "
            "nothing in the hub cache and no hub within reach; put the file there, or set model.pretrained to false."
        )
    return cached


def _from_hub(name: str, download: bool) -> Path | None:
    """timm's published file from the local hub cache or, where the hub answers within 3 seconds,
    from the hub."""
    import timm
    from huggingface_hub import (
        get_hf_file_metadata,
        hf_hub_download,
        hf_hub_url,
        try_to_load_from_cache,
    )
    from huggingface_hub.constants import HF_HUB_OFFLINE

    config: Any = timm.get_pretrained_cfg(name)
    repo = config.hf_hub_id
    if not repo:
        return None
    for filename in ("model.safetensors", "pytorch_model.bin"):
        cached = try_to_load_from_cache(repo, filename)
        if isinstance(cached, str):
            return Path(cached)
    try:
        if HF_HUB_OFFLINE or not download:
            return None
        get_hf_file_metadata(hf_hub_url(repo, "model.safetensors"), timeout=3)
        return Path(hf_hub_download(repo, "model.safetensors"))
    except Exception:  # every way in which a hub can be out of reach
        return None


def check_complete(body: nn.Module, file: Path) -> None:
    """timm fills what a file lacks with random numbers and says nothing; here it is an error."""
    if file.suffix != ".safetensors":
        return
    from safetensors import safe_open

    with safe_open(file, framework="pt") as weights:
        there = {key.replace(".", "_") for key in list(weights.keys())}
    expected = [key for key in body.state_dict() if not key.endswith("num_batches_tracked")]
    # timm's form that taps blocks puts `model.` before their names
    missing = [key for key in expected if key.removeprefix("model.").replace(".", "_") not in there]
    if missing:
        raise InputError(
            f"{file} lacks {len(missing)} of {len(expected)} tensors of its encoder, first {missing[0]!r}."
        )


def describe_weights(file: Path) -> dict[str, str]:
    """Name and sha256 of a file of weights."""
    return {"file": file.name, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
