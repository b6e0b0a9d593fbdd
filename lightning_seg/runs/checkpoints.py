"""What a checkpoint file says: its network, and where in the course of which run it was written."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from lightning_seg.data.sources.base import (
    DATASETS,
    channel_meaning,
    source_class,
    trust_source,
)
from lightning_seg.errors import InputError
from lightning_seg.files.trust import check_code
from lightning_seg.models.frame.normalization import NetworkForm
from lightning_seg.runs.checkpoint_schema import SchemaError, check_archive, check_content

COURSE = "run"  # the key of a checkpoint under which `fit` keeps what `SavedModel` reads


class Sitting(NamedTuple):
    """One call of `fit`: a run that was resumed twice has had three.

    Attributes:
        id: random digits, so that a copied run and its original are told apart.
        number: 0 for the first sitting in a folder, 1 for the next.
        step: optimiser steps that the run had done when the sitting began.
    """

    id: str
    number: int
    step: int


FIRST = Sitting("", 0, 0)  # stands for all sittings of version 0.1, which kept no lineage


@dataclass(frozen=True)
class SavedModel:
    """A checkpoint file, by what it says of itself; its name is not looked at.

    Attributes:
        path: where it lies.
        epoch: the epoch in which it was written, counted from 1.
        step: optimiser steps done.
        role: ``best`` or ``last``, after the callback that wrote it; empty where that is not known.
        monitor: the score that chooses the best epoch, such as ``val/dice``.
        mode: ``max`` or ``min``: which values of the monitor are better; empty where not known.
        value: of the monitor as the file was written.
        best_value: of the monitor, the best one of the run so far.
        best_name: the name that the file with this best value had.
        lineage: the sittings that led to it, the one that wrote it last.
    """

    path: Path
    epoch: int
    step: int
    role: str
    monitor: str
    mode: str
    value: float | None
    best_value: float | None
    best_name: str
    lineage: tuple[Sitting, ...]

    @classmethod
    def read(cls, path: Path) -> "SavedModel":
        """Read the file without its weights; InputError where it is no checkpoint."""
        content = read_checkpoint(path, weights=False)
        try:
            course = content.get(COURSE) or _course_of_0_1(content)
            return cls(
                path=path,
                epoch=content.get("epoch", 0) + 1,
                step=content.get("global_step", 0),
                role=course["role"],
                monitor=course["monitor"],
                mode=course["mode"],
                value=course["value"],
                best_value=course["best_value"],
                best_name=course["best_name"],
                lineage=tuple(Sitting(*entry) for entry in course["lineage"]),
            )
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise InputError(
                f"{str(path)!r} does not say where in its run it was written; "
                "give a .ckpt file that `fit` wrote."
            ) from error

    def leads_to(self, lineage: Sequence[Sitting]) -> bool:
        """Tell whether a run with this lineage has passed through the state that is saved here."""
        ids = [sitting.id for sitting in lineage]
        if self.lineage[-1].id not in ids:
            return False
        later = lineage[ids.index(self.lineage[-1].id) + 1 :]
        return not later or self.step <= later[0].step

    @property
    def rank(self) -> tuple[int, int, bool]:
        """Orders the files of one folder by age; `last` comes after another file of its step."""
        return self.lineage[-1].number, self.step, self.role == "last"


def _course_of_0_1(content: dict[str, Any]) -> dict[str, Any]:
    """The words of a checkpoint of version 0.1: the state of the callback that kept the best epoch."""
    states = content.get("callbacks", {}).values()
    known = [state for state in states if isinstance(state, dict) and state.get("monitor")]
    state = next((state for state in known if state.get("best_model_path")), {})
    best = state.get("best_model_score")
    return {
        "role": "",
        "monitor": state.get("monitor", ""),
        "mode": "",
        "value": None,
        "best_value": None if best is None else float(best),
        "best_name": Path(state.get("best_model_path", "")).name,
        "lineage": [FIRST],
    }


def saved_models(folder: Path) -> list[SavedModel]:
    """The checkpoint files of a folder, oldest first; a file that cannot be read is left aside."""
    found = []
    for path in folder.glob("*.ckpt"):
        try:
            found.append(SavedModel.read(path))
        except InputError as error:
            warnings.warn(f"left aside: {error}", stacklevel=2)
    return sorted(found, key=lambda saved: saved.rank)


def read_checkpoint(path: str | Path, weights: bool = True) -> dict[str, Any]:
    """The content of a checkpoint of this project, without unpickling code.

    Args:
        path: a .ckpt file.
        weights: False maps the file in place of reading it: its settings cost milliseconds.

    Errors: InputError for a file that is none.
    """
    if not Path(path).is_file():
        raise InputError(
            f"there is no checkpoint {str(path)!r}; give the path of a .ckpt file that `fit` wrote."
        )
    try:
        check_archive(Path(path), whole=weights)
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=not weights)
        check_content(checkpoint)
    except Exception as error:
        reason = f" ({error})" if isinstance(error, SchemaError) else ""
        raise InputError(
            f"{str(path)!r} is not a checkpoint of lightning_seg{reason}; "
            "give a .ckpt file that `fit` wrote."
        ) from error
    model = checkpoint["hyper_parameters"]
    for name in ("classes", "in_channels"):  # what a file leaves out is as the network has it
        model.setdefault(name, getattr(NetworkForm, name))
    return _with_protocol(checkpoint)


def _with_protocol(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Name the protocol of a training that took the data set's default, where that is another
    now."""
    data = checkpoint.get("datamodule_hyper_parameters") or {}
    trained = checkpoint.get("lightning_seg", {}).get("protocol")
    # a class outside the project is not imported to ask it for its default
    if trained and data.get("protocol", trained) is None and data.get("dataset") in DATASETS:
        default = source_class(data["dataset"]).default_protocol
        data["protocol"] = None if trained == default else trained
    return checkpoint


def trained_channels(checkpoint: dict[str, Any]) -> str:
    """What the channels of the network's input are: ``RGB``, ``grey``, or ``slices`` of a scan."""
    said: str | None = checkpoint.get("lightning_seg", {}).get("channels")
    data = checkpoint.get("datamodule_hyper_parameters") or {}
    count = checkpoint["hyper_parameters"]["in_channels"]
    return said or channel_meaning(data.get("dataset", ""), count)


def check_data_fit(
    data: Any,
    checkpoint: dict[str, Any],
    name: str | Path | None,
) -> None:
    """InputError for data that do not fit the network of a checkpoint.

    Args:
        data: the data module.
        name: of the checkpoint.
    """
    saved = checkpoint["hyper_parameters"]
    ours, theirs = list(data.classes), list(saved["classes"])
    reordered = ours != theirs and sorted(ours) == sorted(theirs)
    if len(ours) != len(theirs) or reordered or data.in_channels != saved["in_channels"]:
        raise InputError(
            f"{name} was trained for the classes {theirs} on {saved['in_channels']} channels, "
            f"but the data has {ours} on {data.in_channels}; give data it fits."
        )
    channels = trained_channels(checkpoint)
    if channels != data.channels:
        raise InputError(
            f"the {data.in_channels} channels of {name} are {channels}, and those of the data "
            f"{data.channels}; give data it fits."
        )
    facts = checkpoint.get("lightning_seg", {})
    same = facts.get("protocol") == data.protocol_name
    if same and facts.get("protocol_digest") != data.protocol_digest:
        raise InputError(
            f"protocol {data.protocol_name!r} is not the one {name} was trained under: its digest "
            f"was {facts['protocol_digest']} and is now {data.protocol_digest}; "
            "restore the file, name another protocol (test-only takes all images), or train again."
        )


def check_trust(
    checkpoint: dict[str, Any],
    path: str | Path | None,
    trust_code: bool,
) -> None:
    """InputError where code outside lightning_seg would be imported, unless that is allowed."""
    for key in ("hyper_parameters", "datamodule_hyper_parameters"):
        check_code(checkpoint.get(key), path, trust_code)
    dataset = (checkpoint.get("datamodule_hyper_parameters") or {}).get("dataset", "")
    if ":" in dataset:
        trust_source(dataset)
