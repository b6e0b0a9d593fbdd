"""Every recipe builds through the real command line; the table of published numbers is sound."""

import csv
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from lightning_seg import cli
from lightning_seg.data.augment import Augmentation, transforms_of
from lightning_seg.module import SegmentationModule

EXPERIMENTS = Path(__file__).parent.parent / "experiments"
RECIPES = sorted(EXPERIMENTS.glob("*.yaml"))
HOSTS = ["r2unet", "vnet", "multires_unet", "double_unet"]
CONVENTIONS = {"pooled", "image", "image_fov", "image_two_class", "unclear"}
NATIVE = {"drive": (584, 565)}  # (height, width) where a recipe keeps the size of the images
COSTS = {"parameters", "gflops", "seconds", "loss"}


class Builder(cli.CLI):
    """Everything up to the run, with weights that take no memory."""

    def instantiate_classes(self) -> None:
        with torch.device("meta"):
            super().instantiate_classes()

    def _run_subcommand(self, subcommand: str) -> None:
        """Not in a test."""


def build(recipe: Path, tmp_path: Path, *overrides: str) -> Builder:
    args = ["fit", "-c", str(recipe), "--runs", str(tmp_path), "--trainer.accelerator", "cpu", *overrides]
    return Builder(args, None)


@pytest.fixture(autouse=True)
def no_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """A recipe is built without a look at the data or the weights."""
    monkeypatch.delenv("LIGHTNING_SEG_DATA", raising=False)
    monkeypatch.delenv("LIGHTNING_SEG_WEIGHTS", raising=False)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_builds_network_loss_optimizer_and_data(recipe: Path, tmp_path: Path) -> None:
    built = build(recipe, tmp_path)
    module: SegmentationModule = built.model
    module._trainer = SimpleNamespace(estimated_stepping_batches=1000)  # all that the schedule asks of it
    optimizer = module.configure_optimizers()["optimizer"]
    module._trainer = None
    content = yaml.safe_load(recipe.read_text())
    assert optimizer.param_groups[0]["lr"] > 0
    assert module.hparams["architecture"] == content["model"]["architecture"]
    assert tuple(module.classes) == built.datamodule.classes
    assert built.datamodule.protocol_name == content["data"]["protocol"]
    assert built.trainer.max_epochs == content["trainer"]["max_epochs"]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_the_augmentation_of_a_recipe_keeps_the_size_and_moves_image_and_mask_alike(recipe: Path) -> None:
    data = yaml.safe_load(recipe.read_text())["data"]
    height, width = (data["size"],) * 2 if data["size"] else NATIVE[data["dataset"]]
    mask = np.zeros((height, width, 1), np.uint8)
    mask[height // 4 : height // 2, width // 3 : width // 2] = 1
    image = np.repeat(mask * 200, 3, 2)
    augment = Augmentation(transforms_of(data["augment"]), seed=0)
    for epoch in range(6):
        changed, moved = augment(image, mask, (epoch, 0, "id"))
        assert changed.shape == image.shape
        assert moved.shape == mask.shape
        assert set(np.unique(moved)) <= {0, 1}
        apart = (changed[..., 0] > 60) != (moved[..., 0] > 0)
        assert apart.mean() < 0.02  # the outline, which interpolation blurs


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_states_its_command(recipe: Path) -> None:
    head = [line for line in recipe.read_text().splitlines() if line.startswith("#")]
    assert any(f"lightning-seg fit -c experiments/{recipe.name}" in line for line in head)


@pytest.mark.parametrize("host", HOSTS)
def test_the_dca_recipe_serves_the_other_hosts(host: str, tmp_path: Path) -> None:
    net = build(EXPERIMENTS / "dca_unet_kvasir.yaml", tmp_path, "--model.architecture", host).model.net
    assert any("DualCrossAttention" in type(m).__name__ for m in net.modules())


@pytest.mark.parametrize(
    ("recipe", "overrides", "parameters"),
    [
        ("dca_unet_kvasir", {}, 8_747_905),
        ("dca_unet_kvasir", {"options": "{skip: null}"}, 8_637_345),
        ("dca_unet_kvasir", {"architecture": "resunet_plus_plus", "options": "{form: dca, skip: dca}"}, 13_121_668),
        ("nanonet_kvasir", {"options": "{variant: b}"}, None),
        ("pam_unet_kvasir", {"options": "{encoder_only: true}"}, None),
        ("pefnet_kvasir", {"encoder": "convnext_tiny.fb_in22k_ft_in1k", "options": "{mpe: false}"}, 37_660_000),
        ("resunet_plus_plus_kvasir", {}, 4_062_993),
        ("ddanet_kvasir", {}, 6_835_638),
        ("sa_unet_v2_drive", {}, 260_521),
    ],
)
def test_the_variants_that_a_header_names_build(
    recipe: str, overrides: dict[str, str], parameters: int | None, tmp_path: Path
) -> None:
    args = [part for key, value in overrides.items() for part in (f"--model.{key}", value)]
    net = build(EXPERIMENTS / f"{recipe}.yaml", tmp_path, *args).model.net
    if parameters is not None:
        assert sum(p.numel() for p in net.parameters()) == pytest.approx(
            parameters, rel=0 if parameters % 1000 else 1e-3
        )


def reported() -> list[dict[str, str]]:
    with (EXPERIMENTS / "results" / "reported.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_each_published_number_stands_once_with_its_convention_and_source() -> None:
    rows = reported()
    columns = ["model", "dataset", "protocol", "convention", "score", "value", "source", "note"]
    assert {tuple(row) for row in rows} == {tuple(columns)}
    assert all(row[column] for row in rows for column in columns[:-1])
    keys = [tuple(row[c] for c in (*columns[:5], "source")) for row in rows]
    assert len(keys) == len(set(keys))
    assert all(row["note"] for row in rows if row["convention"] == "unclear" and row["score"] not in COSTS)


def test_published_scores_are_shares_under_a_known_convention() -> None:
    scores = [row for row in reported() if row["score"] not in COSTS]
    assert all(0 < float(row["value"]) < 1 for row in scores)
    unknown = {row["convention"] for row in scores} - CONVENTIONS
    assert all(name.startswith("batch") and name[5:].isdigit() for name in unknown)


def test_pooled_pairs_obey_the_identity_of_dice_and_iou_and_the_others_exceed_it() -> None:
    pairs: dict[Any, dict[str, float]] = defaultdict(dict)
    for row in reported():
        pairs[row["model"], row["dataset"], row["protocol"], row["convention"], row["source"]][row["score"]] = float(
            row["value"]
        )
    checked = 0
    for (*_, convention, _source), scores in pairs.items():
        if {"dice", "iou"} <= set(scores) and convention != "unclear":
            excess = scores["iou"] - scores["dice"] / (2 - scores["dice"])
            assert (abs(excess) < 2e-4) if convention == "pooled" else (excess > -1e-3)
            checked += 1
    assert checked > 60
