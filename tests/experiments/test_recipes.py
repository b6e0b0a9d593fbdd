"""Every recipe builds through the real command line; the table of published numbers is sound."""

import csv
import re
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import timm
import torch
import yaml
from torch import nn

from lightning_seg import cli
from lightning_seg.analysis.profiling import parse
from lightning_seg.cli.arguments import Given
from lightning_seg.data.augment.pipeline import Augmentation, transforms_of
from lightning_seg.data.splits import protocol_names
from lightning_seg.models import create, names
from lightning_seg.training.module import SegmentationModule

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
# a campaign lists fits and is no recipe
RECIPES = sorted(
    file
    for file in EXPERIMENTS.glob("*.yaml")
    if "model" in yaml.safe_load(file.read_text(encoding="utf-8"))
)
CONVENTIONS = {"pooled", "image", "image_fov", "image_two_class", "unclear"}
# (height, width) where a recipe keeps the size of the images
NATIVE = {"drive": (584, 565), "stare": (605, 700)}
COSTS = {"parameters", "gflops", "seconds", "loss"}
COLUMNS = [
    "model",
    "options",
    "dataset",
    "protocol",
    "nearest",
    "convention",
    "score",
    "value",
    "source",
    "note",
]
RUN = (
    "model",
    "options",
    "dataset",
    "protocol",
    "convention",
    "source",
)  # what the scores of one evaluation share

# What headers offer in words beside the commands that they spell out, and what is published of the size of a variant.
VARIANTS: list[tuple[str, dict[str, str], int | None]] = [
    ("dca_unet_kvasir", {}, 8_747_905),
    ("dca_unet_kvasir", {"options": "{skip: null}"}, 8_637_345),
    ("dca_unet_kvasir", {"architecture": "r2unet"}, 9_892_289),
    ("dca_unet_kvasir", {"architecture": "vnet"}, 36_080_666),
    ("dca_unet_kvasir", {"architecture": "multires_unet"}, 7_354_630),
    ("dca_unet_kvasir", {"architecture": "double_unet", "normalization": "imagenet"}, 30_584_516),
    (
        "dca_unet_kvasir",
        {"architecture": "resunet_plus_plus", "options": "{form: dca, skip: dca}"},
        13_121_668,
    ),
    ("nanonet_kvasir", {"options": "{variant: c}", "pretrained": "false"}, None),
    ("pam_unet_kvasir", {"options": "{attention: cross, regularizer: 0.01}"}, None),
    ("pam_unet_kvasir", {"options": "{attention: additive}"}, None),
    ("pam_unet_kvasir", {"options": "{encoder_only: true}"}, None),
    ("pefnet_kvasir", {}, 129_340_000),
    (
        "pefnet_kvasir",
        {"encoder": "convnext_tiny.fb_in22k_ft_in1k", "options": "{mpe: false}"},
        37_660_000,
    ),
    ("resunet_plus_plus_kvasir", {}, 4_062_993),
    ("ddanet_kvasir", {}, 6_835_638),
    ("sa_unet_v2_drive", {}, 260_521),
    ("sa_unet_v2_drive", {"loss": "{mcc: 1}"}, None),
]


def header(recipe: Path) -> str:
    return " ".join(
        line[1:].strip()
        for line in recipe.read_text(encoding="utf-8").splitlines()
        if line.startswith("#")
    )


def commands(recipe: Path) -> list[dict[str, str]]:
    """The overrides that a recipe's header spells out, flags that follow each other as one command."""
    flag = r"--model\.(\w+) (?:'([^']*)'|([\w.]*\w))"
    runs = re.finditer(rf"{flag}(?: {flag})*", header(recipe))
    return [{key: quoted or bare for key, quoted, bare in re.findall(flag, run[0])} for run in runs]


COMMANDS = [(recipe.stem, overrides, None) for recipe in RECIPES for overrides in commands(recipe)]


class Builder(cli.CLI):
    """Everything up to the run, with weights that take no memory."""

    def instantiate_classes(self) -> None:
        with torch.device("meta"):
            super().instantiate_classes()

    def _run_subcommand(self, subcommand: str) -> None:
        """Not in a test."""


def build(recipe: Path, tmp_path: Path, *overrides: str) -> Builder:
    args = [
        "fit",
        "-c",
        str(recipe),
        "--runs",
        str(tmp_path),
        "--trainer.accelerator",
        "cpu",
        *overrides,
    ]
    return Builder(args, Given())


@pytest.fixture(autouse=True)
def no_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """A recipe is built without a look at the data or the weights."""
    monkeypatch.delenv("LIGHTNING_SEG_DATA", raising=False)
    monkeypatch.delenv("LIGHTNING_SEG_WEIGHTS", raising=False)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_builds_network_loss_optimizer_and_data(recipe: Path, tmp_path: Path) -> None:
    built = build(recipe, tmp_path)
    module: SegmentationModule = built.model
    module._trainer = SimpleNamespace(
        gradient_clip_val=None, estimated_stepping_batches=1000
    )  # all that the schedule asks of it
    optimizer = module.configure_optimizers()["optimizer"]
    module._trainer = None
    content = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    assert optimizer.param_groups[0]["lr"] > 0
    assert weights_exist(module)
    assert module.hparams["architecture"] == content["model"]["architecture"]
    assert tuple(module.classes) == built.datamodule.classes
    assert built.datamodule.protocol_name == content["data"]["protocol"]
    assert built.trainer.max_epochs == content["trainer"]["max_epochs"]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_the_augmentation_of_a_recipe_keeps_the_size_and_moves_image_and_mask_alike(
    recipe: Path,
) -> None:
    data = yaml.safe_load(recipe.read_text(encoding="utf-8"))["data"]
    height, width = (data["size"],) * 2 if data["size"] else NATIVE[data["dataset"]]
    mask = np.zeros((height, width, 1), np.uint8)
    mask[height // 4 : height // 2, width // 3 : width // 2] = 1
    image = np.repeat(mask * 200, 3, 2)
    augment = Augmentation(transforms_of(data["augment"]), seed=0)
    for number in range(13):  # as epochs, or as copies
        changed, moved = augment(image, mask, (number, number, "id"))
        assert changed.shape == image.shape
        assert moved.shape == mask.shape
        assert set(np.unique(moved)) <= {0, 1}
        apart = (changed[..., 0] > 60) != (moved[..., 0] > 0)
        assert apart.mean() < 0.02  # the outline, which interpolation blurs


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_states_its_command(recipe: Path) -> None:
    head = [
        line for line in recipe.read_text(encoding="utf-8").splitlines() if line.startswith("#")
    ]
    assert any(f"lightning-seg fit -c experiments/{recipe.name}" in line for line in head)


@pytest.mark.parametrize(("recipe", "overrides", "parameters"), VARIANTS + COMMANDS)
def test_the_variants_that_a_header_names_build(
    recipe: str, overrides: dict[str, str], parameters: int | None, tmp_path: Path
) -> None:
    args = [part for key, value in overrides.items() for part in (f"--model.{key}", value)]
    module = build(EXPERIMENTS / f"{recipe}.yaml", tmp_path, *args).model
    for key, value in overrides.items():
        assert module.hparams[key] == yaml.safe_load(
            value
        )  # in place of the recipe's, not merged into it
    assert weights_exist(module)
    if parameters is not None:
        rounding = 0 if parameters % 1000 else 1e-3
        assert sum(p.numel() for p in module.net.parameters()) == pytest.approx(
            parameters, rel=rounding
        )


def weights_exist(module: SegmentationModule) -> bool:
    """timm has the weights that ``pretrained`` asks for."""
    return not module.hparams["pretrained"] or bool(
        timm.get_pretrained_cfg(module.encoder.name).has_weights
    )


def test_no_dictionary_of_a_header_goes_unbuilt() -> None:
    assert ("nanonet_kvasir", {"pretrained": "false", "options": "{variant: b}"}, None) in COMMANDS
    built = {
        (recipe, value)
        for recipe, overrides, _ in VARIANTS + COMMANDS
        for value in overrides.values()
    }
    for recipe in RECIPES:
        assert {
            (recipe.stem, value) for value in re.findall(r"'(\{[^']*\})'", header(recipe))
        } <= built


def reported() -> list[dict[str, str]]:
    with (EXPERIMENTS / "results" / "reported.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def pairs() -> dict[Any, dict[str, float]]:
    """The scores of each evaluation by name."""
    found: dict[Any, dict[str, float]] = defaultdict(dict)
    for row in reported():
        found[tuple(row[c] for c in RUN)][row["score"]] = float(row["value"])
    return found


def excess(scores: dict[str, float]) -> float:
    """IoU - D / (2 - D): zero for pooled pixels, at least zero for means."""
    return scores["iou"] - scores["dice"] / (2 - scores["dice"])


def test_each_published_number_stands_once_with_its_convention_and_source() -> None:
    rows = reported()
    assert {tuple(row) for row in rows} == {tuple(COLUMNS)}
    assert all(
        row[column]
        for row in rows
        for column in COLUMNS
        if column not in ("options", "nearest", "note")
    )
    keys = [tuple(row[c] for c in (*RUN, "score")) for row in rows]
    assert len(keys) == len(set(keys))
    assert all(
        row["note"] for row in rows if row["convention"] == "unclear" and row["score"] not in COSTS
    )


def test_published_scores_are_shares_under_a_known_convention() -> None:
    scores = [row for row in reported() if row["score"] not in COSTS]
    assert all(0 < float(row["value"]) < 1 for row in scores)
    unknown = {row["convention"] for row in scores} - CONVENTIONS
    assert all(name.startswith("batch") and name[5:].isdigit() for name in unknown)


@pytest.fixture(scope="module")
def networks() -> dict[tuple[str, str], nn.Module]:
    """Every network of the table that is ours, by model and options as `lightning-seg profile` takes them."""
    known = sorted(
        {(row["model"], row["options"]) for row in reported() if row["model"] in names()}
    )
    with torch.device("meta"):
        return {
            (model, text): create(model, **parse(f"{model}:{text}" if text else model)[1])
            for model, text in known
        }


def test_a_published_model_is_a_network_here_with_options_or_said_to_be_none(
    networks: dict[Any, nn.Module],
) -> None:
    absent = "not among our networks"
    for row in reported():
        assert ((row["model"], row["options"]) in networks) != (absent in row["note"]), row
    assert len(networks) > 50


def test_published_parameters_are_ours_or_the_note_says_why_not(
    networks: dict[Any, nn.Module],
) -> None:
    checked = 0
    for row in reported():
        if row["score"] != "parameters" or re.search(
            "another form|misprint|older run|not among", row["note"]
        ):
            continue
        net = networks[row["model"], row["options"]]
        numbers = list(net.parameters())
        if "statistics" in row["convention"]:
            numbers += [
                b
                for name, b in net.named_buffers()
                if name.endswith(("running_mean", "running_var"))
            ]
        zeros = len(row["value"]) - len(row["value"].rstrip("0"))
        assert abs(sum(n.numel() for n in numbers) - int(row["value"])) <= 10**zeros / 2, row
        checked += 1
    assert checked >= 20


def test_no_published_split_passes_for_a_protocol_of_ours() -> None:
    for row in reported():
        assert row["protocol"] not in protocol_names()
        assert row["nearest"] in {"", *protocol_names()}


def test_pooled_pairs_obey_the_identity_of_dice_and_iou_and_the_others_exceed_it() -> None:
    checked = 0
    for (*_, convention, _source), scores in pairs().items():
        if {"dice", "iou"} <= set(scores) and convention != "unclear":
            assert (
                (abs(excess(scores)) < 2e-4) if convention == "pooled" else (excess(scores) > -1e-3)
            )
            checked += 1
    assert checked > 60


def test_a_note_states_by_how_much_a_pair_of_unclear_convention_departs_from_the_identity() -> None:
    evaluations, checked = pairs(), 0
    for row in reported():
        scores = evaluations[tuple(row[c] for c in RUN)]
        if (
            row["convention"] != "unclear"
            or row["score"] not in ("dice", "iou")
            or not {"dice", "iou"} <= set(scores)
        ):
            assert not re.search(r"D / \(2 - D\) by", row["note"])
            continue
        verb, figure = re.findall(
            r"IoU (exceeds|falls short of) D / \(2 - D\) by (\.\d{3})\b", row["note"]
        )[0]
        assert f"{excess(scores):+.3f}" == ("+0" if verb == "exceeds" else "-0") + figure, row
        checked += 1
    assert checked > 80
