"""Of which weights scores are: the file of a checkpoint may have become another since its test."""

import hashlib
import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from lightning_seg.errors import InputError
from lightning_seg.evaluation.scored_table import check_summary
from lightning_seg.evaluation.summary import Summary
from lightning_seg.files import real_path
from lightning_seg.files.states import file_state
from lightning_seg.runs.checkpoints import read_checkpoint
from lightning_seg.runs.run import CHECKPOINT_FOLDER

_DIGITS = 16  # of a digest


def weights_digest(content: Mapping[str, Any]) -> str:
    """16 hex digits of the network in a checkpoint: its weights, and how its logits are scaled."""
    found = hashlib.sha256()
    for name, tensor in sorted(content.get("state_dict", {}).items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        plain = tensor.detach().cpu().contiguous().flatten()
        found.update(plain.view(torch.uint8).numpy().data)
    scaling = content.get("hyper_parameters", {}).get("calibration")
    found.update(json.dumps(scaling).encode())
    return found.hexdigest()[:_DIGITS]


def replaced_weights(summary: Summary, folder: Path) -> str:
    """Why the scores in a folder are not of the checkpoint that its run holds now, in words.

    Empty where they are of it, where it is gone, and where an older version wrote the summary.
    """
    places = (above / CHECKPOINT_FOLDER for above in real_path(folder).parents)
    home = next((place for place in places if place.is_dir()), None)
    if not summary.weights or home is None:
        return ""
    file = home / Path(summary.checkpoint).name
    if not file.is_file() or _digest_of(file, file_state(file)) == summary.weights:
        return ""
    return f"{file} holds other weights than those that {folder} has the scores of"


def check_scores(summary: Summary, folder: Path) -> None:
    """InputError where scores are not what their folder says: of their table (`check_summary`), and
    of the checkpoint of their run."""
    check_summary(summary, folder)
    if replaced := replaced_weights(summary, folder):
        raise InputError(f"{replaced}; test it again, or put the checkpoint back.")


@lru_cache(maxsize=64)
def _digest_of(file: Path, _state: tuple[int, int, int]) -> str:
    return weights_digest(read_checkpoint(file))
