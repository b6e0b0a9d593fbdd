"""What a worker and the process of a trial say to each other: the job, values by the way, the
result."""

import json
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from lightning_seg.files import whole

# labels of a trial; the name of a replica follows the second, that of an encoder the third
CODE, DATA, WEIGHTS = "code", "data", "weights"
MARK = "trial.json"  # of a trial's folder: the arguments that it has for itself


class TrainingError(RuntimeError):
    """The training went wrong in a way that a retry would repeat; the message says how."""


@dataclass(frozen=True)
class TrialJob:
    """The task of the process of a trial."""

    folder: str  # of its log and result; its runs lie in version_0 or, with replicas, beside it
    args: list[str]  # of `fit`
    params: dict[str, Any]
    objective: str
    maximize: bool
    own: list[str] = field(default_factory=list)  # the args that this trial has for itself
    cost: str | None = None
    replicas: dict[str, list[str]] = field(default_factory=dict)
    devices: int = 1
    test: bool = False
    function: str | None = None
    data: dict[str, str] = field(default_factory=dict)  # replica -> digest of earlier trials' data


@dataclass(frozen=True)
class TrialResult:
    """The end of a trial: ``complete``, ``pruned`` or ``failed`` with a reason."""

    state: str
    values: list[float] = field(default_factory=list)
    reason: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)  # seconds, epochs, memory
    again: bool = False  # whether another attempt may end otherwise

    @classmethod
    def read(cls, folder: str | Path) -> "TrialResult | None":
        """Read that of a trial which ended before; its storage may not have heard of it."""
        file = Path(folder) / "result.json"
        return cls(**json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else None

    def write(self, folder: str | Path) -> None:
        with whole(Path(folder) / "result.json") as part:
            part.write_text(json.dumps(asdict(self)), encoding="utf-8")


def claim_folder(folder: str | Path, own: list[str]) -> str:
    """Mark the folder as that of a trial; a sentence where it is that of another, as after the
    journal of a study was copied and both went on.

    Args:
        own: the arguments that the trial has for itself.
    """
    if not holds_trial(folder, own):
        return (
            f"{folder} holds a trial of other values, so two studies write to one place; "
            "give another --study"
        )
    with whole(Path(folder) / MARK) as part:
        part.write_text(json.dumps(own), encoding="utf-8")
    return ""


def holds_trial(folder: str | Path, own: list[str]) -> bool:
    """Tell whether the folder may be that of a trial: folders of older versions bear no mark."""
    file = Path(folder) / MARK
    return not file.is_file() or json.loads(file.read_text(encoding="utf-8")) == own


def data_key(replica: str) -> str:
    """The label of a trial under which the digest of its data stands."""
    return f"{DATA} {replica}".strip()


class TrialChannel:
    """The line from a trial to its worker, which alone speaks to the storage."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def report(self, step: int, value: float) -> bool:
        """Tell a value by the way; whether the trial is to stop."""
        self._connection.send(("report", step, value))
        return bool(self._connection.recv())

    def facts(self, **facts: Any) -> None:
        """Tell what stands beside the trial in the storage."""
        self._connection.send(("facts", facts))

    def done(self, result: TrialResult) -> None:
        self._connection.send(("done", result))
