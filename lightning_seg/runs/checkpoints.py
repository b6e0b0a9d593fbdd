"""Checkpoint files: written whole or not at all, found by `best` and `last`, read without running code."""

import os
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from lightning_seg.data.sources.base import DATASETS, source_class
from lightning_seg.errors import InputError


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target and renames, so that a full disk or a kill leaves the previous file as it was.

    Lightning's own way writes to the folder for temporary files and moves, which is a copy where that is another disk.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f"{target.name}.part")
        try:
            with part.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
        except BaseException as error:
            part.unlink(missing_ok=True)
            # torch reports a failed write as a RuntimeError about its archive, in the course of which the OSError got lost
            if isinstance(error, RuntimeError) and isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise
        os.replace(part, target)


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """The content of a checkpoint file of this project, without unpickling code; InputError where it is not one."""
    if not Path(path).is_file():
        raise InputError(
            f"there is no checkpoint {str(path)!r}; give the path of a .ckpt file that `fit` wrote."
        )
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        architecture = checkpoint["hyper_parameters"]["architecture"]
        if not isinstance(checkpoint["state_dict"], dict) or not isinstance(architecture, str):
            raise TypeError("its parts have other types")
    except Exception as error:
        raise InputError(
            f"{str(path)!r} is not a checkpoint of lightning_seg; give a .ckpt file that `fit` wrote."
        ) from error
    return _with_protocol(checkpoint)


def _with_protocol(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Name the protocol of a training that took the data set's default, where that is another now."""
    data = checkpoint.get("datamodule_hyper_parameters") or {}
    trained = checkpoint.get("lightning_seg", {}).get("protocol")
    # a class outside the project is not imported to ask it for its default
    if trained and data.get("protocol", trained) is None and data["dataset"] in DATASETS:
        default = source_class(data["dataset"]).default_protocol
        data["protocol"] = None if trained == default else trained
    return checkpoint


def check_trust(checkpoint: dict[str, Any], path: str | Path | None, trust_code: bool) -> None:
    """InputError where the network is a class outside lightning_seg, whose module would be imported, unless that is allowed."""
    architecture = checkpoint["hyper_parameters"]["architecture"]
    if ":" in architecture and not trust_code:
        raise InputError(
            f"{str(path)!r} holds the network {architecture!r}, for which code outside lightning_seg would run; give "
            "--trust_code (in Python trust_code=True) if you trust that code and this file."
        )


def find_checkpoint(run: Path, which: str) -> Path:
    """The ``best`` or ``last`` checkpoint of ``run`` (``runs/<name>/version_N``, or ``runs/<name>``: its newest version with one)."""
    numbered = [
        path for path in run.glob("version_*") if path.name.removeprefix("version_").isdecimal()
    ]
    versions = sorted(
        numbered, key=lambda path: int(path.name.removeprefix("version_")), reverse=True
    )
    for folder in (version / "checkpoints" for version in (run, *versions)):
        last = max(folder.glob("last*.ckpt"), default=None)  # by name: the epoch stands in it
        file = last if which == "last" else _best(folder, last)
        if file is not None:
            return file
    raise InputError(
        f"there is no {which!r} checkpoint in {run.resolve()}; train it first, or give the path of a .ckpt file."
    )


def _best(folder: Path, last: Path | None) -> Path | None:
    """The file that the last checkpoint names as the best so far, or the only one called so."""
    states = read_checkpoint(last).get("callbacks", {}).values() if last else ()
    for state in states:
        if isinstance(state, dict) and state.get("monitor") and state.get("best_model_path"):
            file = folder / Path(state["best_model_path"]).name
            if file.is_file():
                return file
    files = sorted(folder.glob("best*.ckpt"))
    if len(files) > 1:
        raise InputError(
            f"which checkpoint in {folder} is the best is not known; give the path of one: {files[0].name}, ..."
        )
    return files[0] if files else None


def run_folder(checkpoint: Path) -> Path | None:
    """``runs/<name>/version_N`` of a checkpoint that lies in one."""
    folder = checkpoint.resolve().parent
    return (
        folder.parent
        if folder.name == "checkpoints" and folder.parent.name.startswith("version_")
        else None
    )
