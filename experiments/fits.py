"""The trainings behind published results: which recipe with which changes answers to which rows,
and what each takes."""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from experiments.facts import RECIPES, RESULTS, slug, words
from experiments.published import Evaluation, published_score, recipe_overrides
from hpo.weights import built_encoder
from lightning_seg.data.splits import load_protocol
from lightning_seg.errors import InputError
from lightning_seg.files import write_whole
from lightning_seg.models.frame.listing import count

PASSES = 3  # forward and backward of an image, in forward passes


@dataclass
class Fit:
    """A recipe with overrides, and the published results that it answers to."""

    recipe: str
    changes: dict[str, Any]
    evaluations: list[Evaluation] = field(default_factory=list)
    missing: str = ""  # why it cannot be run here; empty: it can
    minutes: float | None = None  # of one seed on this machine, estimated

    @property
    def name(self) -> str:
        """``dca_unet-skip=null``: the network, and the data set where it is not the recipe's."""
        e = self.evaluations[0]
        loss = (
            "loss=" + "+".join(self.changes["model.loss"]) if "model.loss" in self.changes else ""
        )
        dataset = self.changes.get("data.dataset", "")
        return slug("-".join(filter(None, (e.model, e.options, loss, dataset))))

    @property
    def point(self) -> str:
        """The name by which ``--only`` chooses it: ``dca_unet_kvasir/dca_unet-skip=null``."""
        return f"{self.recipe}/{self.name}"

    @property
    def published(self) -> str:
        values = {
            f"{v:.4f} {e.convention}"
            for e in self.evaluations
            if (v := published_score(e)) is not None
        }
        return ", ".join(sorted(values))


def plan(
    evaluations: Sequence[Evaluation],
) -> tuple[list[Fit], dict[str, list[Evaluation]]]:
    """The distinct fits behind published evaluations, and by reason those that no fit of ours
    answers to."""
    fits: dict[str, Fit] = {}
    refused: dict[str, list[Evaluation]] = {}
    for evaluation in evaluations:
        try:
            changes = recipe_overrides(evaluation)
        except InputError as error:
            refused.setdefault(str(error), []).append(evaluation)
            continue
        recipe = evaluation.recipes[0]
        fits.setdefault(f"{recipe} {words(changes)}", Fit(recipe, changes)).evaluations.append(
            evaluation
        )
    return list(fits.values()), refused


def recipe_with(recipe: str, changes: dict[str, Any]) -> dict[str, Any]:
    """The content of a recipe of ours with ``changes``: dotted key -> value."""
    config: dict[str, Any] = yaml.safe_load(
        (RECIPES / f"{recipe}.yaml").read_text(encoding="utf-8")
    )
    for key, value in changes.items():
        part, _, name = key.partition(".")
        config[part][name] = value
    return config


def side_of(config: dict[str, Any]) -> int:
    """The side of the images that a recipe trains on, in pixels."""
    native = 568  # only the recipes of DRIVE keep the size of the images
    data = config["data"]
    return data.get("crop") or data.get("size", 256) or native


def training_macs(config: dict[str, Any], images: int, macs: int) -> float:
    """The multiply-adds of a training of so many images, ``macs`` for the forward pass of one."""
    copies = config["data"].get("copies", 1)
    return PASSES * images * copies * config["trainer"]["max_epochs"] * float(macs)


# --- what a training takes, whatever the machine ---

RATE = 50e9  # multiply-adds a second: runs recorded here on two cores reached 37 to 68 billion


@dataclass(frozen=True)
class Effort:
    """The effort of one seed of a fit.

    Attributes:
        weights: the timm encoder that it starts from; empty where it starts from scratch.
        images: of the training split; None where the protocol does not count them (slices of
            scans).
        gmacs: of the forward pass of one image.
        hours: at `RATE`.
    """

    point: str
    dataset: str
    protocol: str
    weights: str
    images: int | None
    gmacs: float
    epochs: int
    hours: float | None

    @property
    def text(self) -> str:
        """``kvasir_seg; weights of convnext_tiny.fb_in1k; 39 hours a seed``."""
        known = self.hours is not None
        hours = f"{self.hours:,.1f} hours a seed" if known else "slices are counted with the data"
        weights = f"weights of {self.weights}" if self.weights else "no weights"
        return "; ".join((self.dataset, weights, hours))


def effort_of(fit: Fit) -> Effort:
    """Count what a fit takes, without its data."""
    config = recipe_with(fit.recipe, fit.changes)
    data, model = config["data"], config["model"]
    options = (model.get("options") or {}) | {"encoder": model.get("encoder")}
    weights = ""
    if model.get("pretrained"):
        weights = built_encoder(model["architecture"], json.dumps(options))
    _, macs = count(model["architecture"], side_of(config), **options)
    images = _protocol_images(data["dataset"], data["protocol"])
    hours = None if images is None else training_macs(config, images, macs) / RATE / 3600
    return Effort(
        fit.point,
        data["dataset"],
        data["protocol"],
        weights,
        images,
        round(macs / 1e9, 3),
        config["trainer"]["max_epochs"],
        None if hours is None else round(hours, 1),
    )


def _protocol_images(dataset: str, protocol: str) -> int | None:
    if dataset.startswith(("lits", "synapse", "acdc")):  # whose protocols list scans, not slices
        return None
    try:
        return len(load_protocol(protocol).ids["train"])
    except InputError:
        return None


def read_efforts(file: Path) -> dict[str, Effort]:
    """point -> what it takes, as `write_efforts` kept it."""
    if not file.is_file():
        return {}
    found = {}
    with file.open(newline="", encoding="utf-8") as content:
        for row in csv.DictReader(content):
            found[row["point"]] = Effort(
                row["point"],
                row["dataset"],
                row["protocol"],
                row["weights"],
                int(row["images"]) if row["images"] else None,
                float(row["gmacs"]),
                int(row["epochs"]),
                float(row["hours"]) if row["hours"] else None,
            )
    return found


def write_efforts(efforts: Iterable[Effort], file: Path) -> None:
    """Keep what fits take, so that a leaderboard need not build each network again."""
    text = io.StringIO(newline="")
    names = [each.name for each in fields(Effort)]
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    for effort in sorted(efforts, key=lambda each: each.point):
        known = {name: "" if value is None else value for name, value in asdict(effort).items()}
        writer.writerow(known)
    write_whole(file, text.getvalue().encode())


def efforts_of(
    fits: Iterable[Fit],
    file: Path = RESULTS / "effort.csv",
) -> dict[str, Effort]:
    """point -> what each fit takes; what ``file`` does not hold yet is counted and kept there."""
    known = read_efforts(file)
    missing = [fit for fit in fits if fit.point not in known]
    if missing:
        known |= {fit.point: effort_of(fit) for fit in missing}
        write_efforts(known.values(), file)
    return known
