"""The devices of a run: which there are, who starts its processes, and what they share."""

import os
from collections.abc import Sequence
from typing import Any

import torch
from lightning.fabric.plugins import CheckpointIO, ClusterEnvironment
from lightning.fabric.plugins.environments import (
    LightningEnvironment,
    LSFEnvironment,
    MPIEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)
from lightning.pytorch.plugins.layer_sync import LayerSync, TorchSyncBatchNorm
from lightning.pytorch.strategies import Strategy
from torch import nn

from lightning_seg.data.cores import usable_cores
from lightning_seg.errors import InputError
from lightning_seg.models.frame.synced_norms import batch_norms, restore_norms, synchronize_norms
from lightning_seg.runs.gpus import check_gpus_usable
from lightning_seg.training.checkpointing import AtomicCheckpointIO
from lightning_seg.training.processes import joint_strategy

_FEW_PROCESSES = 16  # that any machine may be tried with
_ON_GPU = ("auto", "gpu", "cuda")  # accelerators that may be GPUs


class SyncedBatchNorm(TorchSyncBatchNorm):
    """Lightning's plugin for ``trainer.sync_batchnorm``, in a form that keeps fused activations.

    Lightning applies it as a strategy of several processes starts, and reverts it at the end.
    """

    def __init__(self) -> None:
        self._originals: dict[str, Any] = {}

    def apply(self, model: nn.Module) -> nn.Module:
        self._originals = batch_norms(model)
        return synchronize_norms(model)

    def revert(self, model: nn.Module) -> nn.Module:
        return restore_norms(model, self._originals)


def check_layer_sync(strategy: Strategy) -> None:
    """InputError where Lightning's own plugin would take activations out of timm's norms."""
    if type(getattr(strategy, "_layer_sync", None)) is TorchSyncBatchNorm:
        raise InputError(
            "Trainer(sync_batchnorm=True) removes the activations that timm's encoders keep in "
            "their norms; add plugins=[lightning_seg.training.devices.SyncedBatchNorm()]."
        )


def device_options(trainer: Any) -> dict[str, Any]:
    """Arguments of Lightning's Trainer in place of those given: its strategy and its plugins.

    Args:
        trainer: the section ``trainer`` of a configuration, instantiated.

    Errors: InputError where the processes that were started, the devices and the nodes do not
    fit together, and for GPUs that torch cannot use.
    """
    if trainer.accelerator in _ON_GPU:
        check_gpus_usable()
    devices = count_devices(trainer.accelerator, trainer.devices)
    world_size = devices * trainer.num_nodes
    on_gpu = trainer.accelerator in _ON_GPU and torch.cuda.is_available()
    if trainer.sync_batchnorm and world_size > 1 and not on_gpu:
        raise InputError(
            "trainer.sync_batchnorm is true, but torch synchronizes batch norm on GPUs only; "
            "set it to false on the CPU."
        )
    plugins = _trainer_plugins(trainer.plugins, trainer.sync_batchnorm)
    environment = next(p for p in plugins if isinstance(p, ClusterEnvironment))
    check_world_size(environment, devices, trainer.num_nodes)
    if isinstance(environment, LightningEnvironment) and not on_gpu:
        check_cores(devices)
    return {"plugins": plugins, "strategy": joint_strategy(trainer.strategy, world_size)}


def check_cores(devices: int) -> None:
    """InputError where more processes would be started on the CPU than a machine bears."""
    most = max(_FEW_PROCESSES, usable_cores())
    if devices > most:
        raise InputError(
            f"trainer.devices is {devices}, as many processes on the CPU; give at most {most} here."
        )


def count_devices(accelerator: Any, devices: Any) -> int:
    """The number of devices of one node that Lightning takes for these values of its arguments."""
    if isinstance(devices, list | tuple):
        return len(devices)
    if devices in ("auto", -1, "-1"):
        on_gpu = accelerator in _ON_GPU
        return max(1, torch.cuda.device_count()) if on_gpu else 1
    if isinstance(devices, str) and "," in devices:
        return len([part for part in devices.split(",") if part.strip()])
    try:
        return int(devices)
    except (TypeError, ValueError):  # Lightning says better what is wrong with it
        return 1


def spare_devices(used: int) -> str:
    """A line about GPUs that a run leaves alone, or an empty string."""
    there = torch.cuda.device_count()
    if not torch.cuda.is_available() or used >= there:
        return ""
    return f"devices: {used} of {there} GPUs (--trainer.devices {there} takes all of them)"


def _trainer_plugins(given: Any, sync_batchnorm: bool) -> list[Any]:
    """The plugins of a trainer: those that were ``given``, and ours of the kinds they lack."""
    many = isinstance(given, list | tuple)
    plugins = list(given) if many else [given] if given else []
    ours: list[tuple[type, Any]] = [
        (CheckpointIO, AtomicCheckpointIO),
        (ClusterEnvironment, cluster_environment),
    ]
    if sync_batchnorm:
        ours.append((LayerSync, SyncedBatchNorm))
    lacking = [make() for kind, make in ours if not _holds(plugins, kind)]
    return [*plugins, *lacking]


def _holds(plugins: Sequence[Any], kind: type) -> bool:
    return any(isinstance(plugin, kind) for plugin in plugins)


def cluster_environment() -> ClusterEnvironment:
    """The starter of the processes of this run: torchrun, srun, LSF, MPI, or Lightning itself.

    Lightning takes any Slurm job for one whose processes srun has started. In a batch script
    without srun, or with one task, it would then train on one device and score its part alone.
    """
    if TorchElasticEnvironment.detect():
        return TorchElasticEnvironment()
    if _slurm_tasks() > 1:
        try:
            # Slurm's automatic requeue would let jobs find each other's checkpoints
            return SLURMEnvironment(auto_requeue=False)
        except RuntimeError as error:
            raise InputError(" ".join(str(error).split())) from error
    for kind in (LSFEnvironment, MPIEnvironment):
        if kind.detect():
            return kind()
    return LightningEnvironment()


def _slurm_tasks() -> int:
    """The processes that srun has started with this one: 1 outside of its steps.

    Lightning tells a session from a step by the job's name, which is ``bash`` for the tasks of
    ``srun bash script`` and ``interactive`` for those of ``salloc srun``: each would train alone.
    """
    if "SLURM_STEP_ID" not in os.environ or _in_session():
        return 1
    step = os.environ.get("SLURM_STEP_NUM_TASKS")
    return int(step or os.environ.get("SLURM_NTASKS", "1"))


def _in_session() -> bool:
    """Tell whether somebody types commands here, in ``srun --pty bash``.

    The steps that are started from there inherit its variables, but not its terminal.
    """
    return "SLURM_PTY_PORT" in os.environ and _has_terminal()


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


def check_world_size(environment: ClusterEnvironment, devices: int, nodes: int) -> None:
    """InputError where other processes were started than the run is divided among."""
    wanted = devices * nodes
    if isinstance(environment, LightningEnvironment):
        placed = {"MASTER_ADDR", "NODE_RANK"} <= os.environ.keys()
        if nodes > 1 and not placed:
            raise InputError(
                f"trainer.num_nodes is {nodes}, but one process was started, which cannot reach "
                "other nodes; start the command on all of them by srun or torchrun, or give "
                "--trainer.num_nodes 1."
            )
        return
    started = environment.world_size()
    if started != wanted:
        raise InputError(
            f"{started} processes were started ({type(environment).__name__}), but trainer.num_nodes "
            f"{nodes} x trainer.devices {devices} makes {wanted}; start {wanted}, or give "
            "--trainer.num_nodes and --trainer.devices that fit."
        )
