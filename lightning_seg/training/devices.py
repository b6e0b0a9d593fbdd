"""The devices of a run: which there are, who starts its processes, and what they share."""

from collections.abc import Sequence
from typing import Any

from lightning.fabric.plugins import CheckpointIO, ClusterEnvironment
from lightning.fabric.plugins.environments import SLURMEnvironment
from lightning.pytorch.plugins.layer_sync import LayerSync, TorchSyncBatchNorm
from lightning.pytorch.strategies import Strategy
from torch import nn

from lightning_seg.errors import InputError
from lightning_seg.models.frame.synced_norms import batch_norms, restore_norms, synchronize_norms
from lightning_seg.runs.checkpoints import AtomicCheckpointIO


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


def trainer_plugins(given: Any, sync_batchnorm: bool) -> list[Any]:
    """The plugins of a trainer: those that were ``given``, and ours of the kinds they lack."""
    plugins = list(given) if isinstance(given, Sequence) else [given] if given else []
    ours: list[tuple[type, Any]] = [(CheckpointIO, AtomicCheckpointIO())]
    if SLURMEnvironment.detect():
        # Slurm's automatic requeue would let jobs find each other's checkpoints
        ours.append((ClusterEnvironment, SLURMEnvironment(auto_requeue=False)))
    if sync_batchnorm:
        ours.append((LayerSync, SyncedBatchNorm()))
    lacking = [plugin for kind, plugin in ours if not _holds(plugins, kind)]
    return [*plugins, *lacking]


def _holds(plugins: Sequence[Any], kind: type) -> bool:
    return any(isinstance(plugin, kind) for plugin in plugins)
