"""What every exported file says of itself, and what is asked of its name and size."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning_seg import __version__
from lightning_seg.errors import InputError
from lightning_seg.inference.ensemble import Ensemble, Trained
from lightning_seg.runs.checkpoints import read_checkpoint
from lightning_seg.runs.guarantees import guarantee_of

SIDES = range(16, 8193)


def export_facts(network: Ensemble, checkpoints: Sequence[Path]) -> dict[str, Any]:
    """The facts of a model: where it comes from and what its output is; of an ensemble what the
    first says, and the names of all."""
    content = read_checkpoint(checkpoints[0])
    digests = [hashlib.sha256(file.read_bytes()).hexdigest() for file in checkpoints]
    several = {"ensemble": len(checkpoints)} if len(checkpoints) > 1 else {}
    model, origin = content["hyper_parameters"], content.get("lightning_seg", {})
    return {
        "lightning_seg": __version__,
        "architecture": model["architecture"],
        "encoder": model.get("encoder") or "",
        "classes": list(network.trained.classes),
        "in_channels": network.trained.in_channels,
        "size": network.trained.size,
        "crop": network.trained.crop,
        "window": network.trained.picture.window,
        "exclusive": network.trained.exclusive,
        "dataset": network.trained.dataset,
        "protocol": origin.get("protocol", ""),
        "protocol_digest": origin.get("protocol_digest", ""),
        "checkpoint": ", ".join(file.name for file in checkpoints),
        "checkpoint_sha256": ", ".join(digests),
        **several,
    }


def input_note(trained: Trained) -> str:
    """What the input must be besides its shape, in words: of networks that were trained by a window
    or on crops."""
    parts = []
    if trained.picture.window is not None:
        parts.append(f"pixels are those of the window {trained.picture.window}, brought to 8 bits")
    if trained.crop is not None:
        parts.append(
            f"trained on crops: `predict` slides a window of {trained.crop} pixels over each "
            "picture, and masks of whole pictures differ from its masks"
        )
    return "; ".join(parts)


def guarantee_note(checkpoints: Sequence[Path]) -> str:
    """That an export leaves out the guarantee of a checkpoint, in words; empty where it has none."""
    if not any(guarantee_of(read_checkpoint(file, weights=False)) for file in checkpoints):
        return ""
    return (
        "the guarantee of the checkpoint is not exported: its outer and inner contours come from "
        "lightning_seg's predict alone"
    )


def check_output(output: Path, suffix: str) -> None:
    """InputError for another suffix, and for a folder that cannot be written."""
    if output.suffix != suffix:
        raise InputError(
            f"--output is {str(output)!r}; give the name of a file that ends with {suffix}."
        )
    try:  # a name may be too long, a folder not be one's own
        folder = output.is_dir()
        above = next(folder for folder in output.absolute().parents if folder.exists())
    except OSError as error:
        raise InputError(
            f"{output} cannot be written ({error.strerror}); give --output another place."
        ) from error
    if folder:
        raise InputError(
            f"{output} is a folder; give the name of a file in it, such as model{suffix}."
        )
    if not (above.is_dir() and os.access(above, os.W_OK)):
        raise InputError(f"{above} cannot be written; give --output another place.")


def read_side(text: str) -> int | None:
    """``--size``: a whole number, or None for ``dynamic``."""
    if text == "dynamic":
        return None
    if not text.isdecimal() or int(text) not in SIDES:
        raise InputError(
            f"--size is {text!r}; give dynamic, or a whole number from {SIDES[0]} to {SIDES[-1]}."
        )
    return int(text)
