"""The trained network of a checkpoint, without loss, optimiser or scores."""

from dataclasses import fields
from pathlib import Path
from typing import Any

from lightning_seg.models.frame.normalization import ImageNetwork, NetworkForm
from lightning_seg.runs.checkpoints import check_trust, read_checkpoint
from lightning_seg.runs.network_budget import NetworkBudget


def read_network(path: str | Path, trust_code: bool = False) -> ImageNetwork:
    """The network of a checkpoint file with its weights, in evaluation mode, on the CPU.

    Args:
        trust_code: let an architecture ``package.module:Class`` import its module.
    """
    checkpoint = read_checkpoint(path)
    check_trust(checkpoint, path, trust_code)
    with NetworkBudget(checkpoint["state_dict"], path):
        network = ImageNetwork(network_form(checkpoint["hyper_parameters"]))
    network.load_state_dict(checkpoint["state_dict"])
    return network.eval()


def network_form(hyper_parameters: dict[str, Any]) -> NetworkForm:
    """The part of a checkpoint's hyper-parameters that says which network it holds."""
    known = {field.name for field in fields(NetworkForm)} & hyper_parameters.keys()
    return NetworkForm(**{name: hyper_parameters[name] for name in known})
