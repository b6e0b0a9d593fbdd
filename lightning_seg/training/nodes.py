"""The nodes of a run on several machines: all begin with the same files, or all end with a sentence.

Nodes may have disks of their own, on which a run, its checkpoints, the recipe, the encoder's
weights or the images lie in another state, or not at all. Each node looks for itself; before any of
them waits for the others in a collective, their first processes compare what they found.
"""

import hashlib
import json
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import torch.distributed as dist
from lightning.fabric.plugins import ClusterEnvironment
from lightning.fabric.plugins.environments import (
    LightningEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)

from lightning_seg.data.fingerprint import Fingerprint
from lightning_seg.errors import InputError

PATIENCE = timedelta(minutes=5)  # how long the nodes of a job may take to start
_FAREWELL = timedelta(seconds=30)  # how long a node that cannot begin waits to tell the others
_PERIOD = 0.1  # seconds between two looks
_PLACES = ("root", "cache", "num_workers", "protocol")  # of the data: nodes may differ in them
_STAGES = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",)}
_CURE = "give all nodes one shared folder, or copy it to each of them"
_servers: list[Any] = []  # the group of processes finds the server that the nodes met at
_meetings = 0


class Found(NamedTuple):
    """What a node has of one thing: where it lies, and a digest of its content."""

    place: str
    digest: str

    @classmethod
    def of_file(cls, path: Path) -> "Found":
        """A file, by the SHA-256 of its bytes."""
        with path.open("rb") as file:
            return cls(str(path), hashlib.file_digest(file, "sha256").hexdigest())

    @classmethod
    def of_settings(cls, settings: Mapping[str, Any]) -> "Found":
        """Options, by what they say."""
        text = json.dumps(settings, sort_keys=True, default=str)
        return cls("", hashlib.sha256(text.encode()).hexdigest())

    def __str__(self) -> str:
        return " ".join(part for part in (self.place, self.digest[:12]) if part) or "none"


class Node(NamedTuple):
    """One machine of a run.

    Attributes:
        rank: its position, from 0.
        number: how many there are; None where the launcher does not say it.
        address, port: where node 0 listens.
        hosted: whether the launcher listens there already.
    """

    rank: int
    number: int | None
    address: str
    port: int
    hosted: bool = False


def this_node(environment: ClusterEnvironment) -> Node | None:
    """The node whose first process this is; None for a further process, and outside of a job."""
    env = os.environ
    count: int | None = None
    if isinstance(environment, TorchElasticEnvironment):
        count, rank = int(env.get("GROUP_WORLD_SIZE", "1")), int(env.get("GROUP_RANK", "0"))
    elif isinstance(environment, SLURMEnvironment):
        count = int(env.get("SLURM_STEP_NUM_NODES") or env.get("SLURM_NNODES", "1"))
        rank = environment.node_rank()
    elif (
        isinstance(environment, LightningEnvironment) and {"MASTER_ADDR", "NODE_RANK"} <= env.keys()
    ):
        rank = environment.node_rank()
    else:
        return None
    further = int(env.get("LOCAL_RANK") or env.get("SLURM_LOCALID") or "0") > 0
    if count == 1 or further:
        return None
    hosted = env.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    return Node(rank, count, environment.main_address, environment.main_port, hosted)


@contextmanager
def common_start(node: Node | None) -> Iterator[Callable[[int, Mapping[str, Found]], None]]:
    """Let all nodes begin, or none.

    Gives a function that takes the number of nodes and what this one found, waits until the others
    have called theirs, and raises InputError on every node where they found different things, or
    where one of them failed before. An InputError within ends the other nodes too.
    """
    if node is None:
        yield lambda count, found: None
        return
    meeting = _Meeting(node)
    try:
        yield meeting.compare
    except InputError as error:
        meeting.tell_failure(str(error))
        raise


class _Meeting:
    """One comparison of all nodes, over the store through which their processes find each other."""

    def __init__(self, node: Node) -> None:
        global _meetings
        _meetings += 1
        self._node = node
        self._count = node.number or 1
        self._prefix = f"lightning_seg/start/{_meetings}"
        self._store: Any = None
        self._ended = False

    def compare(self, count: int, found: Mapping[str, Found]) -> None:
        """Tell the others what was found; InputError where it is not what they found."""
        self._count = count
        if self._ended or count == 1:
            return
        self._post({"found": found})
        told = [self._wait_for(rank) for rank in range(count)]
        self._ended = True
        problem = _failure(told) or _difference(told)
        if problem:
            self._leave_together()
            raise InputError(problem)

    def tell_failure(self, sentence: str) -> None:
        """Tell the nodes that wait why this one cannot begin."""
        if self._ended:
            return
        self._ended = True
        with suppress(InputError):  # nobody listens
            self._post({"error": sentence}, _FAREWELL)
            self._leave_together()

    def _post(self, content: Mapping[str, Any], patience: timedelta = PATIENCE) -> None:
        self._store = self._store or _connect(self._node, patience)
        content = {"host": socket.gethostname(), **content}
        self._store.set(f"{self._prefix}/{self._node.rank}", json.dumps(content))

    def _wait_for(self, rank: int) -> dict[str, Any]:
        key = f"{self._prefix}/{rank}"
        failed = self._look(lambda: self._has(key) or self._any_failure(), PATIENCE)
        if failed is None:
            minutes = int(PATIENCE.total_seconds() / 60)
            raise InputError(
                f"node {rank} of this run has not come within {minutes} minutes; start the command "
                "on all nodes at the same time, with the same trainer.num_nodes."
            )
        return json.loads(self._store.get(key)) if self._has(key) else {}

    def _any_failure(self) -> bool:
        return any("error" in told for told in self._told())

    def _told(self) -> list[dict[str, Any]]:
        keys = [f"{self._prefix}/{rank}" for rank in range(self._count)]
        return [json.loads(self._store.get(key)) for key in keys if self._has(key)]

    def _has(self, key: str) -> bool:
        try:
            return bool(self._store.check([key]))
        except (RuntimeError, dist.DistError) as error:
            raise InputError(
                f"node 0 of this run has ended ({str(error).splitlines()[0]})."
            ) from error

    def _leave_together(self) -> None:
        """Node 0 holds the store: it stays until the others have read why they end."""
        with suppress(InputError, RuntimeError):
            self._store.set(f"{self._prefix}/left/{self._node.rank}", "")
            if self._node.rank == 0:
                others = [f"{self._prefix}/left/{rank}" for rank in range(1, max(self._count, 2))]
                self._look(lambda: all(self._has(key) for key in others), _FAREWELL)

    def _look(self, until: Callable[[], bool], patience: timedelta) -> bool | None:
        """True once ``until`` holds, None where it does not within ``patience``."""
        end = time.monotonic() + patience.total_seconds()
        while not until():
            if time.monotonic() > end:
                return None
            time.sleep(_PERIOD)
        return True


def _connect(node: Node, patience: timedelta) -> Any:
    """The store at which processes meet: node 0 opens it, and torch finds it there later."""
    place = f"{node.address}:{node.port}"
    opens = node.rank == 0 and not node.hosted
    try:
        store = dist.TCPStore(
            node.address,
            node.port,
            None,
            opens,
            patience,
            wait_for_workers=False,
            multi_tenant=True,
        )
    except (RuntimeError, dist.DistError) as error:
        reason = str(error).splitlines()[0]
        cure = "give another MASTER_PORT" if opens else "see whether node 0 has started"
        raise InputError(f"the nodes cannot meet at {place} ({reason}); {cure}.") from error
    _servers.append(store)
    return store


def _failure(told: Sequence[Mapping[str, Any]]) -> str:
    """The sentence about the first node that cannot begin, or an empty text."""
    for rank, content in enumerate(told):
        if "error" in content:
            return f"node {rank} ({content['host']}) cannot begin: {content['error']}"
    return ""


def _difference(told: Sequence[Mapping[str, Any]]) -> str:
    """The sentence about the first thing that is not the same on all nodes, or an empty text."""
    for name in dict.fromkeys(name for content in told for name in content.get("found", {})):
        each = [Found(*content["found"].get(name, ("", ""))) for content in told]
        if len({found.digest for found in each}) > 1:
            nodes = ", ".join(
                f"node {rank} ({content['host']}): {found}"
                for rank, (content, found) in enumerate(zip(told, each, strict=True))
            )
            return f"the nodes of this run do not have the same {name}: {nodes}; {_CURE}."
    return ""


def common_settings(config: Any) -> Found:
    """The options that decide what is computed, which must be the same on all nodes."""
    data = {key: value for key, value in dict(config.data).items() if key not in _PLACES}
    plain = bool | int | float | str
    trainer = {
        key: value
        for key, value in dict(config.trainer).items()
        if isinstance(value, plain) and key != "default_root_dir"
    }
    model = dict(config.model)
    return Found.of_settings({"model": model, "data": data, "trainer": trainer})


class SameImages(L.Callback):
    """Holds that all nodes have the same images and masks in each split, before the first step."""

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if trainer.num_nodes == 1 or stage not in _STAGES:
            return
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        splits = {
            f"images of the {split} split": _found_images(data.fingerprint(split))
            for split in _STAGES[stage]
        }
        own = {"host": socket.gethostname(), "found": splits, "node": trainer.node_rank}
        told: list[Any] = [None] * trainer.world_size
        dist.all_gather_object(told, own)
        nodes = {each["node"]: each for each in told}
        problem = _difference([nodes[rank] for rank in sorted(nodes)])
        if problem:
            raise InputError(problem)


def _found_images(images: Fingerprint) -> Found:
    # by id and in their order, in which they are divided among the processes
    digest = Found.of_settings({"contents": list(images.contents.items())}).digest
    return Found(f"{len(images.contents)} images", digest)
