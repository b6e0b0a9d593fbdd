"""Published results, from ``results/reported.csv``: which of ours each can be held against, and the
fit that would reproduce it."""

import csv
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from experiments.facts import RECIPES, RESULTS, RunFacts, words
from lightning_seg.analysis.profiling import parse
from lightning_seg.errors import InputError
from lightning_seg.models import names
from lightning_seg.models.frame.registry import options as constructor_options

COSTS = ("parameters", "gflops", "seconds", "loss")
# Published divisions whose test images are exactly those of a protocol of ours, by data set. Of all others at most the counts agree.
SAME_TEST_IMAGES = {
    ("drive", "owners' 20/20"): "drive",
    ("glas", "owners' train/test"): "glas",
    ("monuseg", "owners' train/test"): "monuseg",
    ("kvasir_seg", "owners' 880/120"): "kvasir-880-120",
}
# by the scores of one evaluation
SHARED = ("model", "options", "dataset", "protocol", "nearest", "convention", "source")
_FIELDS = tuple("published_protocol" if column == "protocol" else column for column in SHARED)
OTHER_FORM = "another form than ours"  # in the note of a row: it names no network that is here
LOSS_OPTIONS = ("regularizer", "reconstruction")  # model options that only training knows
_SCRATCH = {
    ("nanonet", "b"),
    ("nanonet", "c"),
}  # variants of whose encoder there are no weights anywhere


@dataclass(frozen=True)
class Paper:
    """The way to train the results of one source here."""

    recipes: tuple[str, ...]  # the first is the one to run; the others are parts of it
    pretrained: bool = False  # the timm encoders of its networks
    changes: dict[str, Any] = field(default_factory=dict)
    elsewhere: dict[str, str] = field(default_factory=dict)  # data set -> its own recipe


PAPERS = {  # by the beginning of the source; the longest one that fits counts
    "model card of Attention U-Net ConvNeXt (UNet-A)": Paper(
        ("unet_a", "attention_unet_convnext"), pretrained=True
    ),
    "PEFNet, RIVF 2022, Table IV": Paper(("pefnet_kvasir",), pretrained=True),
    "PAM-UNet, 2024": Paper(("pam_unet_kvasir",), elsewhere={"lits": "pam_unet_lits"}),
    "Dual Cross-Attention": Paper(("dca_unet_kvasir",)),
    "SA-UNet": Paper(("sa_unet_v2_drive",)),
    "SA-UNetv2, 2025, loss ablation, BCE": Paper(
        ("sa_unet_v2_drive",), changes={"model.loss": {"bce": 1}}
    ),
    "SA-UNetv2, 2025, loss ablation, MCC": Paper(
        ("sa_unet_v2_drive",), changes={"model.loss": {"mcc": 1}}
    ),
    "SA-UNetv2, 2025, loss ablation, BCE + MCC": Paper(("sa_unet_v2_drive",)),
    "NanoNet, CBMS 2021": Paper(("nanonet_kvasir",), pretrained=True),
    "DDANet, ICPR 2020": Paper(("ddanet_kvasir",)),
    "ResUNet++, ISM 2019": Paper(("resunet_plus_plus_kvasir",)),
}


@dataclass(frozen=True)
class Evaluation:
    """The scores that a source gives for one network on one set of images."""

    model: str
    options: str  # as `lightning-seg profile` takes them
    dataset: str
    published_protocol: str
    nearest: str
    convention: str
    source: str
    scores: dict[str, float]
    note: str

    @property
    def name(self) -> str:
        return f"{self.model}, {self.options.replace(',', ', ')}" if self.options else self.model

    @property
    def same_images(self) -> bool:
        """True where a protocol of ours tests on the very images of the source."""
        return (self.dataset, self.published_protocol) in SAME_TEST_IMAGES

    @property
    def protocol(self) -> str:
        """The protocol of ours that tests on the same images, else the nearest one; empty where
        there is none."""
        return SAME_TEST_IMAGES.get((self.dataset, self.published_protocol), self.nearest)

    @property
    def protocols(self) -> tuple[str, ...]:
        """Those whose results stand beside it: of a nearest one of version 2 the first version
        too."""
        first = self.protocol.removesuffix("-v2")
        return (self.protocol,) if self.same_images else (self.protocol, first)

    @property
    def paper(self) -> Paper | None:
        known = [start for start in PAPERS if self.source.startswith(start)]
        return PAPERS[max(known, key=len)] if known else None

    @property
    def recipes(self) -> tuple[str, ...]:
        """The recipes that train as the source does, the one to run first."""
        if self.paper is None:
            return ()
        own = self.paper.elsewhere.get(self.dataset)
        return (own,) if own else self.paper.recipes

    def reproduced_by(self, facts: RunFacts) -> bool:
        """True where a run trained and tested the same network, alone, by the recipe of this source
        under its nearest protocol."""
        return (
            self.paper is not None
            and self.model in names()
            and OTHER_FORM not in self.note
            and not (facts.trained_on or facts.inference)
            and facts.recipe in self.recipes
            and facts.dataset == self.dataset
            and facts.protocol in self.protocols
            and facts.changes.get("model.loss") == self.paper.changes.get("model.loss")
            and _same_network(self, facts)
        )


def read_evaluations(file: Path = RESULTS / "reported.csv") -> list[Evaluation]:
    """All published evaluations, in the order of the table; what is no score of a network is left
    out."""
    found: dict[tuple[str, ...], list[dict[str, str]]] = {}
    with file.open(newline="", encoding="utf-8") as content:
        for row in csv.DictReader(content):
            if row["score"] not in COSTS and row["dataset"] != "-":
                found.setdefault(tuple(row[column] for column in SHARED), []).append(row)
    return [_evaluation(rows) for rows in found.values()]


def unscored_systems() -> list[Evaluation]:
    """The networks of UNet-A's grid of 24 of which its card gives no score; the grid is inferred
    from its code."""
    sweep = yaml.safe_load((RECIPES / "sweeps" / "unet_a.yaml").read_text(encoding="utf-8"))
    card = "model card of Attention U-Net ConvNeXt (UNet-A)"
    scored = [e for e in read_evaluations() if e.source.startswith(card)]
    known = {(e.model, _stem(_options(e).get("encoder"))) for e in scored}
    found = []
    for model in sweep["models"]:
        given = model["overrides"]
        name, encoder = given["model.architecture"], given.get("model.encoder")
        if (name, _stem(encoder)) not in known:
            where = ("kvasir_seg", "own 800/100/100", "kvasir-unet-a", "pooled", card)
            options = f"encoder={encoder}" if encoder else ""
            found.append(Evaluation(name, options, *where, {}, "one of 24; no score is published"))
    return found


def _stem(encoder: str | None) -> str:
    """``efficientnet_b0`` of ``efficientnet_b0.ra_in1k``."""
    return (encoder or "").partition(".")[0]


def _evaluation(rows: list[dict[str, str]]) -> Evaluation:
    shared = {name: rows[0][column] for name, column in zip(_FIELDS, SHARED, strict=True)}
    scores = {row["score"]: float(row["value"]) for row in rows}
    return Evaluation(**shared, scores=scores, note=rows[0]["note"])


SAME_SCORE = {"f1": "dice"}


def published_score(evaluation: Evaluation, score: str = "dice") -> float | None:
    """The published value of a score, whatever its name there."""
    names = [score, *(name for name, ours in SAME_SCORE.items() if ours == score)]
    return next((evaluation.scores[name] for name in names if name in evaluation.scores), None)


def recipe_overrides(evaluation: Evaluation) -> dict[str, Any]:
    """dotted key -> value that turns the recipe of the evaluation's paper into its row.

    Raises:
        InputError: there is no such recipe, network, protocol or option; the sentence is the
            reason.
    """
    paper = evaluation.paper
    if evaluation.model not in names():
        raise InputError(f"{evaluation.model} is not among our networks.")
    if OTHER_FORM in evaluation.note:
        raise InputError(
            f"the {evaluation.model} of {evaluation.source} is another network than ours of that "
            f"name ({evaluation.note.rpartition('; ')[2]})."
        )
    if paper is None:
        raise InputError("its source does not say how it was trained.")
    if not evaluation.protocol:
        raise InputError(
            f"no protocol of ours is near {evaluation.published_protocol!r} of {evaluation.dataset}."
        )
    recipe = yaml.safe_load((RECIPES / f"{evaluation.recipes[0]}.yaml").read_text(encoding="utf-8"))
    options = _options(evaluation)
    encoder = options.pop("encoder", None)
    pretrained = paper.pretrained and (evaluation.model, options.get("variant")) not in _SCRATCH
    pretrained &= bool(encoder) or evaluation.model == "nanonet"
    if evaluation.model == recipe["model"]["architecture"]:
        kept = {
            k: v for k, v in (recipe["model"].get("options") or {}).items() if k in LOSS_OPTIONS
        }
        has_map = options.get("attention") in (None, "pla", "self", "cross")
        options |= kept if has_map and not options.get("encoder_only") else {}
    wanted = {
        "data.dataset": evaluation.dataset,
        "data.protocol": evaluation.protocol,
        "model.architecture": evaluation.model,
        "model.encoder": encoder,
        "model.pretrained": pretrained,
        "model.options": options,
    } | paper.changes
    if (evaluation.model, evaluation.recipes[0]) == ("double_unet", "dca_unet_kvasir"):
        wanted["model.normalization"] = "imagenet"  # as its code normalises
    return {key: value for key, value in wanted.items() if value != _get(recipe, key)}


def _get(recipe: dict[str, Any], key: str) -> Any:
    part, _, name = key.partition(".")
    empty: Any = {"model.pretrained": False, "model.options": {}}.get(key)
    return recipe.get(part, {}).get(name, empty)


def override_arguments(changes: dict[str, Any]) -> list[str]:
    """``--model.encoder resnet34 ...``: overrides as `lightning-seg fit` takes them."""
    return [part for key, value in changes.items() for part in (f"--{key}", yaml_words(value))]


def yaml_words(value: Any) -> str:
    """A value as one argument of the command line."""
    return value if isinstance(value, str) else words(value)


def _options(evaluation: Evaluation) -> dict[str, Any]:
    return parse(
        f"{evaluation.model}:{evaluation.options}" if evaluation.options else evaluation.model
    )[1]


def _same_network(evaluation: Evaluation, facts: RunFacts) -> bool:
    ours = ({"encoder": facts.encoder} if facts.encoder else {}) | facts.options
    complete = [
        _complete(evaluation.model, _options(evaluation)),
        _complete(facts.architecture, ours),
    ]
    return evaluation.model == facts.architecture and complete[0] == complete[1]


def _complete(architecture: str, given: dict[str, Any]) -> dict[str, Any]:
    """The options with the defaults of those that are not given, without those that only training
    knows."""
    return {k: v for k, v in (_defaults(architecture) | given).items() if k not in LOSS_OPTIONS}


@cache
def _defaults(architecture: str) -> dict[str, Any]:
    found = constructor_options(architecture)
    return {
        k: list(p.default) if isinstance(p.default, tuple) else p.default for k, p in found.items()
    }
