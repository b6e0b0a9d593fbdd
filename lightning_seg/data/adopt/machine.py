"""What the machine at hand allows: memory to train in, and encoders whose weights are to be had."""

import os
from pathlib import Path
from typing import NamedTuple

from lightning_seg.data.store.cache import available_memory

# timm's name -> where its hub keeps the weights; light ones first
ENCODERS = {
    "mobilenetv2_100": "timm/mobilenetv2_100.ra_in1k",
    "resnet34": "timm/resnet34.a1_in1k",
    "tf_efficientnet_b4": "timm/tf_efficientnet_b4.ns_jft_in1k",
}
_SECONDS = 3  # that the hub has to answer
_FILES = ("model.safetensors", "pytorch_model.bin")


class Machine(NamedTuple):
    """What a training can count on.

    Attributes:
        gpu: the name of the first GPU; '' without one.
        memory: bytes that are free, of the GPU where there is one.
        encoders: those whose weights are to be had -> where from; the one to take first.
    """

    gpu: str
    memory: int
    encoders: dict[str, str]


def this_machine() -> Machine:
    """Look at the memory and for weights."""
    gpu, memory = _gpu()
    names = list(reversed(ENCODERS)) if gpu else list(ENCODERS)
    found = {name: place for name in names if (place := _weights_place(name))}
    if not found and _hub_answers(ENCODERS[names[0]]):
        found = {names[0]: "the hub of timm, downloaded when training begins"}
    return Machine(gpu, memory or available_memory(), found)


def _gpu() -> tuple[str, int]:
    import torch

    if not torch.cuda.is_available():
        return "", 0
    free, _ = torch.cuda.mem_get_info()
    return torch.cuda.get_device_name(), int(free)


def _weights_place(name: str) -> str:
    """Where the weights of an encoder lie on this machine; '' where they do not."""
    folder = os.environ.get("LIGHTNING_SEG_WEIGHTS")
    if folder and (Path(folder) / f"{name}.safetensors").is_file():
        return "LIGHTNING_SEG_WEIGHTS"
    from huggingface_hub import try_to_load_from_cache

    cached = [try_to_load_from_cache(ENCODERS[name], file) for file in _FILES]
    return "the cache of timm's hub" if any(isinstance(one, str) for one in cached) else ""


def _hub_answers(repository: str) -> bool:
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    if os.environ.get("HF_HUB_OFFLINE"):
        return False
    try:
        get_hf_file_metadata(hf_hub_url(repository, _FILES[0]), timeout=_SECONDS)
    except Exception:  # every way in which a hub can be out of reach
        return False
    return True
