"""The recipe for a folder: each choice follows from its pictures and the machine, with its
reason."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from lightning_seg.data.adopt.facts import DataFacts
from lightning_seg.data.adopt.finding import FolderFinding
from lightning_seg.data.adopt.machine import Machine

_LARGEST = {"cpu": 256, "gpu": 512}  # side in pixels
_NATIVE = 640  # side up to which pictures of fine structures stay as they are
_MOST_COPIES = 8  # crops of one picture in an epoch
_SMALLEST, _STEP = 64, 32
_FINE = 3.0  # pixels: structures that would become thinner are fine
_BYTES = {"encoder": 4000, "own": 8000}  # for each pixel of a batch, in training
_MEMORY_SHARE = 0.4  # of what is free
_BATCH = 16
_SEEN = {"cpu": 48_000, "gpu": 120_000}  # images that a training sees
_EPOCHS = (30, 300)
_RARE, _VERY_RARE = 0.02, 0.002  # shares of foreground
_WIDTHS = {"cpu": [16, 32, 64, 128], "gpu": [32, 64, 128, 256, 512]}


class PlannedChoice(NamedTuple):
    """One line of the recipe and why it is so."""

    section: str  # '' for the top level
    key: str
    value: Any
    reason: str = ""


class PlanContext(NamedTuple):
    """What the choices follow from.

    Attributes:
        training: samples of the training split.
    """

    finding: FolderFinding
    facts: DataFacts
    machine: Machine
    training: int

    @property
    def kind(self) -> str:
        """``cpu`` or ``gpu``."""
        return "gpu" if self.machine.gpu else "cpu"

    @property
    def side(self) -> int:
        """The median of the pictures' longer sides."""
        return int(np.median(self.facts.sides))


def plan_recipe(context: PlanContext, table: str) -> list[PlannedChoice]:
    """All choices in the order of the recipe."""
    sizes = _size(context)
    pixels = (sizes[0].value or context.side) ** 2
    network = _network(context, _stays_fine(context))
    own = not any(choice.key == "encoder" for choice in network)
    batch = _batch(context, pixels, own)
    copies = next((choice.value for choice in sizes if choice.key == "copies"), 1)
    finding = context.finding
    options = {"classes": list(finding.classes)} | finding.options
    return [
        PlannedChoice("", "seed_everything", 42),
        *_exclusive(context),
        _epochs(context, copies),
        PlannedChoice("data", "dataset", finding.dataset),
        PlannedChoice("data", "root", table, "the table of what was found; edit it freely"),
        PlannedChoice("data", "protocol", "auto", "as the table's column split says"),
        *sizes,
        batch,
        _augmentation(context),
        *_absent(context),
        PlannedChoice("data", "dataset_options", options, " ".join(_option_reasons(finding))),
        *network,
        _loss(context),
    ]


def _round_side(side: float) -> int:
    return max(_SMALLEST, round(side / _STEP) * _STEP)


def _stays_fine(context: PlanContext) -> bool:
    """Tell whether scaling to the usual size would thin structures to almost nothing."""
    thickness = context.facts.thickness
    shrink = max(1.0, context.side / _LARGEST[context.kind])
    return 0 < thickness / shrink < _FINE


def _size(context: PlanContext) -> list[PlannedChoice]:
    """The side to which pictures are scaled, or that of crops at their own resolution."""
    side, largest = context.side, _LARGEST[context.kind]
    thin = f"foreground {context.facts.thickness:.1f} pixels wide"
    if _stays_fine(context) and side > largest:
        if context.facts.one_size and side <= _NATIVE:
            reason = f"as they are: all pictures have one size, and {thin} stays visible"
            return [PlannedChoice("data", "size", None, reason)]
        if context.finding.dataset == "folder":
            return _crops(context, thin)
        kept = min(_NATIVE, _round_side(side))
        reason = f"median side {side}: {thin} should not become thinner"
        return [PlannedChoice("data", "size", kept, reason)]
    chosen = min(largest, _round_side(side))
    device = context.machine.gpu or "a CPU"
    more = "" if chosen < largest else f"; at most {largest}, for {device}"
    reason = f"the pictures' median side is {side}{more}"
    return [PlannedChoice("data", "size", chosen, reason)]


def _crops(context: PlanContext, thin: str) -> list[PlannedChoice]:
    side = _LARGEST[context.kind]
    count = min(_MOST_COPIES, max(1, round((context.side / side) ** 2)))
    reason = f"crops at the pictures' own resolution (median side {context.side}): scaled, {thin} "
    again = f"{count} crops of each picture an epoch, which is about its area"
    return [
        PlannedChoice("data", "crop", side, f"{reason}would all but vanish"),
        PlannedChoice("data", "copies", count, again),
    ]


def _batch(context: PlanContext, pixels: int, own: bool) -> PlannedChoice:
    bytes_each = pixels * _BYTES["own" if own else "encoder"]
    fitting = _MEMORY_SHARE * context.machine.memory / bytes_each
    most = max(1, min(_BATCH, context.training // 4))
    count = max(1, 2 ** int(np.log2(max(1, min(most, fitting)))))
    count = min(max(2, count), max(1, context.training))
    place = context.machine.gpu or "main memory"
    reason = (
        f"{context.training} training images; about {bytes_each * count / 1e9:.1f} GB of "
        f"{context.machine.memory / 1e9:.1f} GB free ({place})"
    )
    return PlannedChoice("data", "batch_size", count, reason)


def _epochs(context: PlanContext, copies: int) -> PlannedChoice:
    low, high = _EPOCHS
    each = max(context.training * copies, 1)
    count = int(np.clip(round(_SEEN[context.kind] / each), low, high))
    reason = f"{each * count:,} images in all, from {context.training} training images"
    return PlannedChoice("trainer", "max_epochs", count, reason)


def _augmentation(context: PlanContext) -> PlannedChoice:
    finding = context.finding
    steps: list[dict[str, Any]] = []
    reasons = []
    if finding.sided:
        reasons.append("left and right are classes, so nothing is mirrored")
    else:
        steps.append({"name": "HorizontalFlip", "p": 0.5})
    upright = finding.dataset == "scans"
    if not (upright or finding.sided):
        steps.append({"name": "VerticalFlip", "p": 0.5})
    steps.append({"name": "Rotate", "limit": 15 if upright else 30, "p": 0.5 if upright else 1.0})
    if finding.in_channels == 3 and not upright:
        colours = {"brightness": 0.2, "contrast": 0.2, "saturation": 0.2, "hue": 0, "p": 1.0}
        steps.append({"name": "ColorJitter", **colours})
        reasons.append("colours vary with light and stain")
    else:
        grey = {"brightness_limit": 0.1, "contrast_limit": 0.1, "p": 0.5}
        steps.append({"name": "RandomBrightnessContrast", **grey})
        reasons.append("slices lie as patients do" if upright else "grey pictures have no colours")
    return PlannedChoice("data", "augment", steps, "; ".join(reasons))


def _absent(context: PlanContext) -> list[PlannedChoice]:
    """Let `fit` begin where a class is in no picture of the training or validation split."""
    splits, shown = context.finding.division.splits, context.facts.shown_classes()
    lacking = []
    for split in ("train", "val"):
        ids = [id for id in shown if splits.get(id) == split]
        seen = set().union(*(shown[id] for id in ids)) if ids else set()
        gone = [name for k, name in enumerate(context.finding.classes) if k not in seen]
        lacking += [f"{split} shows no {name}" for name in gone]
    if not lacking or not context.facts.whole:
        return []
    reason = f"{', '.join(lacking)}: such scores are not defined or not learnt"
    return [PlannedChoice("data", "allow_absent_classes", True, reason)]


def _network(context: PlanContext, fine: bool) -> list[PlannedChoice]:
    encoders = {} if fine else context.machine.encoders
    if encoders:
        name, place = next(iter(encoders.items()))
        return [
            PlannedChoice("model", "architecture", "unet"),
            PlannedChoice("model", "encoder", name, f"its ImageNet weights: {place}"),
            PlannedChoice("model", "pretrained", True),
            PlannedChoice("model", "lr", 0.0005, "usual for a pre-trained encoder"),
        ]
    if fine:
        reason = "from scratch at full resolution: encoders of timm halve fine structures at once"
    else:
        reason = "from scratch: no pre-trained encoder is on this machine, or within reach"
    return [
        PlannedChoice("model", "architecture", "unet", reason),
        PlannedChoice("model", "options", {"widths": _WIDTHS[context.kind]}),
        PlannedChoice("model", "normalization", "unit", "images scaled to 0 to 1"),
        PlannedChoice("model", "lr", 0.002, "usual from scratch"),
    ]


def _exclusive(context: PlanContext) -> list[PlannedChoice]:
    if not context.finding.exclusive:
        return []
    reason = "masks say of each pixel which class it is of: one softmax, and none overlaps"
    return [PlannedChoice("", "classes", "exclusive", reason)]


def _loss(context: PlanContext) -> PlannedChoice:
    shares = context.facts.foreground
    shown = [float(column[column > 0].mean()) for column in shares.T if (column > 0).any()]
    least = min(shown, default=0.0)
    share = f"foreground is {least:.2%} of the pixels where there is some"
    if len(shown) > 1:
        share = f"the rarest class is {least:.2%} of the pixels where there is some"
    entropy = "cross_entropy" if context.finding.exclusive else "bce"
    if least < _VERY_RARE:
        terms = {entropy: 0.2, "tversky": 1.0}
        return PlannedChoice("model", "loss", terms, f"{share}: missed pixels cost more than false")
    if least < _RARE:
        return PlannedChoice(
            "model", "loss", {entropy: 0.5, "dice": 1.0}, f"{share}: overlap leads"
        )
    return PlannedChoice("model", "loss", {entropy: 0.5, "dice": 0.5}, share)


def _option_reasons(finding: FolderFinding) -> Sequence[str]:
    window = finding.options.get("window")
    if window == "percentiles":
        return ["window: each picture's own percentiles, since its black and white are not known"]
    if window is not None:
        return [f"window: {window[0]:g} to {window[1]:g} HU, around what is marked"]
    return ["what the values of masks mean"]
