"""Batch norm whose statistics are those of all devices; timm's fused norms keep their
activation."""

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from lightning_seg.errors import InputError

STATE = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def batch_norms(net: nn.Module) -> dict[str, _BatchNorm]:
    """Every batch norm of ``net`` by its name; a shared one stands under each of its names."""
    modules = net.named_modules(remove_duplicate=False)
    return {name: module for name, module in modules if isinstance(module, _BatchNorm)}


def synchronize_norms(net: nn.Module) -> nn.Module:
    """``net`` with synchronized norms, in place, by timm's own conversion.

    torch's conversion knows nothing of timm's `BatchNormAct2d`, a norm and its activation in one
    module, and leaves the activation out.

    Errors: InputError for a norm of another kind that computes in its own way.
    """
    from timm.layers import BatchNormAct2d, convert_sync_batchnorm

    for name, norm in batch_norms(net).items():
        own_forward = type(norm).forward is not _BatchNorm.forward
        if own_forward and not isinstance(norm, BatchNormAct2d | nn.SyncBatchNorm):
            raise InputError(
                f"{name} is a {type(norm).__name__}, which computes in its own way and has no "
                "synchronized form; set trainer.sync_batchnorm: false."
            )
    return convert_sync_batchnorm(net)


def restore_norms(
    net: nn.Module,
    originals: dict[str, _BatchNorm],
) -> nn.Module:
    """``net`` with the norms that `batch_norms` found before, in place, in their present state."""
    for name, original in originals.items():
        synced = net.get_submodule(name)
        for key in STATE:
            setattr(original, key, getattr(synced, key))
        original.train(synced.training)
        net.set_submodule(name, original)
    return net
