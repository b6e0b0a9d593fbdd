"""Other ways to cut probabilities into masks: the rows of ``cuts.csv``."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from trust_tables import Row, opened

from lightning_seg.analysis.guarantee import split_groups
from lightning_seg.evaluation import bca
from lightning_seg.evaluation.conventions import positions
from lightning_seg.evaluation.intervals import mean_of
from lightning_seg.inference.predictor import load
from lightning_seg.inference.split import DataSplit
from lightning_seg.runs import find_checkpoint
from lightning_seg.runs.chosen_threshold import resolve_threshold


def cut_rows(names: str) -> Iterator[Row]:
    """The mean Dice of the test images under each way to cut, at the network's size.

    Args:
        names: of a run; a calibrated twin may follow behind a colon.
    """
    plain, _, scaled = names.partition(":")
    file = find_checkpoint(plain)
    home = opened(file)
    chosen = resolve_threshold("val", [file])
    dice = {f"{label}": found for label, found in _dice_by_cut(file, home, chosen, "")}
    if scaled:
        dice |= dict(_dice_by_cut(find_checkpoint(scaled), home, None, ", calibrated"))
    groups = split_groups(home.data, "test")
    members = positions(groups)
    base = mean_of(dice["threshold .5"][:, None], members)
    for label, values in dice.items():
        score = mean_of(values[:, None], members)
        change = score.minus(base)
        bounds = *bca(score), *bca(change)
        numbers = score.value, *bounds[:2], change.value, *bounds[2:]
        names_of = ("dice", "low", "high", "difference", "difference_low", "difference_high")
        yield {
            "dataset": home.data.hparams["dataset"],
            "protocol": home.data.protocol_name,
            "size": home.data.hparams["size"],
            "images": len(groups),
            "groups": len(set(groups)),
            "cut": f"{label} ({chosen:g})" if label == "threshold of val" else label,
            **{key: f"{value:.5f}" for key, value in zip(names_of, numbers, strict=True)},
        }


def _dice_by_cut(
    file: Path, home: DataSplit, chosen: float | None, suffix: str
) -> Iterator[tuple[str, NDArray[np.float64]]]:
    from rankseg import RankSEG

    solvers = {
        "RankDice, BA+TRNA": RankSEG(output_mode="multilabel", solver="BA+TRNA"),
        "RankDice, RMA": RankSEG(output_mode="multilabel", solver="RMA"),
    }
    ways: dict[str, Any] = {"threshold .5": lambda maps: maps > 0.5} if not suffix else {}
    if chosen is not None:
        ways["threshold of val"] = lambda maps: maps > chosen
    ways |= {f"{name}{suffix}": solver.predict for name, solver in solvers.items()}
    network, data = load(file).network, home.data
    data.setup("test")
    found: dict[str, list[float]] = {name: [] for name in ways}
    for batch in data.test_dataloader():
        maps = network.probabilities(batch["image"])
        counted = batch["region"] > 0 if "region" in batch else torch.ones_like(maps) > 0
        truth = (batch["mask"] > 0) & counted
        for name, way in ways.items():
            masks = (way(maps) > 0) & counted
            found[name] += _dice(masks.flatten(1), truth.flatten(1))
    for name, values in found.items():
        yield name, np.array(values)


def _dice(masks: torch.Tensor, truth: torch.Tensor) -> list[float]:
    """Of (B, pixels); 1 where both are empty."""
    both, sizes = (masks & truth).sum(1), masks.sum(1) + truth.sum(1)
    values: list[float] = torch.where(sizes > 0, 2 * both / sizes.clamp(1), 1.0).tolist()
    return values
