"""``lightning-seg calibrate``: a trained network whose probabilities mean what they say, and
masks that keep a promise."""

import argparse
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from lightning_seg.analysis.guarantee import (
    fit_guarantee,
    measure_coverage,
    show_coverage,
    show_guarantee,
)
from lightning_seg.data import SegmentationDataModule
from lightning_seg.data.crops import windows_batch
from lightning_seg.data.sliding import centred, window_starts
from lightning_seg.data.split_sizes import FEWEST_CALIBRATING
from lightning_seg.data.store.windows import Picture
from lightning_seg.errors import InputError
from lightning_seg.evaluation.temperature import Method, PixelSample, fit_scaling
from lightning_seg.files import whole, write_whole
from lightning_seg.inference.split import open_split
from lightning_seg.inference.workers import find_devices
from lightning_seg.models.frame.normalization import ImageNetwork
from lightning_seg.options import OptionParser, add_model_options, shell_command
from lightning_seg.runs import Run
from lightning_seg.runs.checkpoints import read_checkpoint
from lightning_seg.runs.environment import FILE
from lightning_seg.runs.guarantees import guarantee_of
from lightning_seg.runs.naming import named_checkpoint
from lightning_seg.runs.trained_network import read_network
from lightning_seg.tables import Table, count_text, number_text

PIXELS = 4096  # of each image, drawn at random
WINDOWS = 16  # of each picture, of a network of crops


@dataclass(frozen=True)
class Calibration:
    """What was fitted to the validation split.

    Attributes:
        scale, shift: of each map of logits.
        before, after: the sampled pixels with the logits of both.
    """

    method: Method
    images: int
    scale: Tensor
    shift: Tensor
    before: PixelSample
    after: PixelSample


def main(args: list[str]) -> None:
    """``lightning-seg calibrate --ckpt_path best --name demo``."""
    given = _parser().parse_args(args)
    file = named_checkpoint(given)
    rates = given.fnr, given.fpr
    if given.coverage:
        if given.method or any(rate is not None for rate in rates) or given.output:
            raise InputError("--coverage measures what a checkpoint holds; give it alone.")
        show_coverage(*measure_coverage(file, given.devices, given.trust_code))
    elif any(rate is not None for rate in rates):
        _guarantee(given, file)
    else:
        _scale(given, file)


def _guarantee(given: argparse.Namespace, file: Path) -> None:
    """Write the checkpoint with a guarantee."""
    if given.method:
        raise InputError(
            "--method scales probabilities and --fnr bounds masks of them; calibrate by --method "
            "first, then give --fnr and the run that it wrote."
        )
    content = read_checkpoint(file)
    if guarantee_of(content) is not None:
        raise InputError(f"{file} holds a guarantee already; give the checkpoint without it.")
    place = _place(file, given.output, "guaranteed")
    found = fit_guarantee(file, given.fnr, given.fpr, given.devices, given.trust_code)
    facts = content["lightning_seg"] | {"guarantee": found.to_json()}
    _write(place, file, content | {"lightning_seg": facts}, {})
    show_guarantee(found)
    print(f"checkpoint with guarantee:  {place}")
    again = "lightning-seg", "calibrate", "--ckpt_path", place, "--coverage"
    print(f"next:  {shell_command(*again)}")


def _scale(given: argparse.Namespace, file: Path) -> None:
    """Write the checkpoint with scaled probabilities."""
    content = read_checkpoint(file)
    if content["hyper_parameters"].get("calibration"):
        raise InputError(f"{file} is calibrated already; give the checkpoint that `fit` wrote.")
    if guarantee_of(content) is not None:
        raise InputError(
            f"{file} holds a guarantee, which is of its probabilities as they are; calibrate the "
            "checkpoint that `fit` wrote, then give --fnr again."
        )
    place = _place(file, given.output, "calibrated")
    data = open_split(file, "val", {}).data
    _check_count(data)
    network = read_network(file, given.trust_code).to(find_devices(given.devices)[0])
    found = calibrate(network, data, given.method or "temperature")
    # the threshold of the validation split was found with other probabilities
    facts = content.get("lightning_seg", {}) | {"threshold": None}
    values = {"scale": found.scale.tolist(), "shift": found.shift.tolist()}
    _write(place, file, content | {"lightning_seg": facts}, {"calibration": values})
    _print(found, network.classes, place, given.output is not None)


def calibrate(
    network: ImageNetwork, data: SegmentationDataModule, method: Method = "temperature"
) -> Calibration:
    """Fit the scaling of a network's logits to the validation split of its data."""
    before = sample_pixels(network, data)
    scale, shift = fit_scaling(before, method)
    after = before.scaled(scale.float(), shift.float())
    return Calibration(method, len(data.ids("val")), scale, shift, before, after)


def _check_count(data: SegmentationDataModule) -> None:
    """InputError where the validation images are too few, before any is read."""
    images = len(data.ids("val"))
    if images < FEWEST_CALIBRATING:
        raise InputError(
            f"the validation split of {data.protocol_name!r} holds {count_text(images, 'image')}; "
            f"a calibration needs {FEWEST_CALIBRATING} or more."
        )


@torch.inference_mode()
def sample_pixels(network: ImageNetwork, data: SegmentationDataModule) -> PixelSample:
    """`PIXELS` counted pixels of each validation image, the same at every call.

    Of a network of crops they lie in some windows of each picture, each window by itself, as the
    scaling is of each.
    """
    data.setup("validate")
    device = network.mean.device
    logits, truths = [], []
    for batch in data.val_dataloader():
        for draw, part in _each_image(batch, data):
            maps = network(part["image"].to(device)).logits.float().cpu()
            regions = part.get("region")
            counted = None if regions is None else regions.flatten() > 0
            chosen = _chosen_pixels(maps[:, 0].numel(), counted, draw)
            logits.append(maps.transpose(0, 1).flatten(1)[:, chosen].T)
            truths.append(part["mask"].transpose(0, 1).flatten(1)[:, chosen].T.float())
    return PixelSample(torch.cat(logits), torch.cat(truths), network.form.exclusive)


def _each_image(
    batch: dict[str, Any], data: SegmentationDataModule
) -> Iterator[tuple[torch.Generator, dict[str, Any]]]:
    """Each image of a batch as a batch of its own, or of its windows, with its random numbers."""
    for place, index in enumerate(batch["index"].tolist()):
        draw = torch.Generator().manual_seed(index)
        if "picture" in batch:
            yield draw, _some_windows(batch["picture"][place], data, draw)
            continue
        names = (name for name in ("image", "mask", "region") if name in batch)
        yield draw, {name: batch[name][place, None] for name in names}


def _some_windows(
    picture: Picture, data: SegmentationDataModule, draw: torch.Generator
) -> dict[str, Any]:
    """At most `WINDOWS` windows of a picture, beside each other."""
    assert data.crops is not None
    side = data.crops.side
    axes = [
        [-centred(length, side)] if length <= side else window_starts(length, side, 0)
        for length in picture.shape
    ]
    corners = list(product(*axes))
    chosen = torch.randperm(len(corners), generator=draw)[:WINDOWS].tolist()
    return windows_batch(picture, [corners[place] for place in chosen], side)


def _chosen_pixels(pixels: int, counted: Tensor | None, draw: torch.Generator) -> Tensor:
    order = torch.randperm(pixels, generator=draw)
    return (order if counted is None else order[counted[order]])[:PIXELS]


def _place(file: Path, output: Path | None, kind: str) -> Path:
    """Where the new checkpoint goes: into a run of its own, unless a file is named."""
    if output is not None:
        place = output.expanduser()
    else:
        run = Run.holding(file)
        if run is None:
            raise InputError(f"{file} lies in no run; give --output, the file to write.")
        folder = run.root / f"{run.name}-{kind}" / "version_0"
        place = folder / "checkpoints" / file.name
    if place.exists():
        raise InputError(f"{place} exists; remove it, or give another --output.")
    return place


def _write(
    place: Path, file: Path, content: dict[str, Any], model_settings: dict[str, Any]
) -> None:
    """A checkpoint with further settings of its network; a run's configuration and environment
    beside it."""
    parameters = content["hyper_parameters"] | model_settings
    kept = {name: part for name, part in content.items() if name not in _TRAINING}
    place.parent.mkdir(parents=True, exist_ok=True)
    source, folder = Run.holding(file), Run.holding(place)
    if source is not None and folder is not None:
        if source.config:
            config = source.config
            config["model"] = config.get("model", {}) | model_settings
            write_whole(folder.config_file, yaml.safe_dump(config, sort_keys=False).encode())
        if (source.folder / FILE).is_file():
            shutil.copyfile(source.folder / FILE, folder.folder / FILE)
    # last: where it exists, nothing else is lacking, and a killed command can be given again
    with whole(place) as part, part.open("wb") as opened:
        torch.save(kept | {"hyper_parameters": parameters}, opened)


# parts of a checkpoint with which a training goes on
_TRAINING = ("optimizer_states", "lr_schedulers", "loops", "callbacks")


def _print(found: Calibration, classes: list[str], place: Path, single: bool) -> None:
    rows = []
    errors = zip(found.before.expected_errors(), found.after.expected_errors(), strict=True)
    background = int(found.before.exclusive)
    for number, (name, (before, after)) in enumerate(zip(classes, errors, strict=True), background):
        scale, shift = float(found.scale[number]), float(found.shift[number])
        rows.append((name, f"{scale:.3f}", f"{shift:+.3f}", *map(number_text, (before, after))))
    losses = [float(each.likelihood_loss) for each in (found.before, found.after)]
    table = Table(
        ("class", "scale", "shift", "ECE before", "after"),
        rows,
        title=f"{found.method} scaling fitted to {count_text(found.images, 'validation image')}",
        caption=f"negative log-likelihood of a pixel {losses[0]:.4f} before, {losses[1]:.4f} after; "
        "all of these are of the images that it was fitted to: test tells what it is worth",
        left=("class",),
    )
    table.show()
    print(f"calibrated checkpoint:  {place}")
    print(f"next:  {shell_command('lightning-seg', 'test', '--ckpt_path', place)}")


def _parser() -> argparse.ArgumentParser:
    parser = OptionParser(
        prog="lightning-seg calibrate",
        description="Scale the logits of a trained network so that its probabilities fit the "
        "validation split; test, predict, serve and exports of the new checkpoint follow it. With "
        "--fnr or --fpr: masks whose expected error is bounded (conformal risk control), by images "
        "that the protocol of the training reserved (reserve-42-of-...); predict, serve and the "
        "report draw them.",
    )
    add_model_options(parser)
    add = parser.add_argument
    kinds = "temperature (default) moves no mask at .5; vector also shifts, which may"
    add("--method", choices=("temperature", "vector"), help=kinds)
    missed = "an outer contour that misses on average at most this share of the true pixels: 0.1"
    add("--fnr", type=float, metavar="RATE", help=missed)
    alarms = "an inner contour that covers on average at most this share of other pixels: 0.01"
    add("--fpr", type=float, metavar="RATE", help=alarms)
    kept = "measure on the test split whether a guarantee is kept; the ledger counts the look"
    add("--coverage", action="store_true", help=kept)
    place = "the file to write; default: a run of its own, <run>-calibrated or <run>-guaranteed"
    add("--output", type=Path, metavar="FILE", help=place)
    add("--devices", default="auto", help="cpu, cuda:0 or auto (default)")
    return parser
