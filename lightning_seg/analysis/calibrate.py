"""``lightning-seg calibrate``: a trained network whose probabilities mean what they say."""

import argparse
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from lightning_seg.data import SegmentationDataModule
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
from lightning_seg.runs.naming import named_checkpoint
from lightning_seg.runs.trained_network import read_network
from lightning_seg.tables import Table, count_text, number_text

PIXELS = 4096  # of each image, drawn at random
FEWEST_IMAGES = 10


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
    content = read_checkpoint(file)
    if content["hyper_parameters"].get("calibration"):
        raise InputError(f"{file} is calibrated already; give the checkpoint that `fit` wrote.")
    place = _place(file, given.output)
    data = open_split(file, "val", {}).data
    network = read_network(file, given.trust_code).to(find_devices(given.devices)[0])
    found = calibrate(network, data, given.method)
    _write(place, file, content, found)
    _print(found, network.classes, place, given.output is not None)


def calibrate(
    network: ImageNetwork, data: SegmentationDataModule, method: Method = "temperature"
) -> Calibration:
    """Fit the scaling of a network's logits to the validation split of its data.

    Raises:
        InputError: these images are too few, or training and validation are of crops.
    """
    images = len(data.ids("val"))
    if images < FEWEST_IMAGES:
        raise InputError(
            f"the validation split of {data.protocol_name!r} holds {count_text(images, 'image')}; "
            f"a calibration needs {FEWEST_IMAGES} or more."
        )
    if data.hparams.get("crop"):
        raise InputError("a network of crops cannot be calibrated yet; train it without data.crop.")
    before = sample_pixels(network, data)
    scale, shift = fit_scaling(before, method)
    after = before.scaled(scale.float(), shift.float())
    return Calibration(method, images, scale, shift, before, after)


@torch.inference_mode()
def sample_pixels(network: ImageNetwork, data: SegmentationDataModule) -> PixelSample:
    """`PIXELS` counted pixels of each validation image, the same at every call."""
    data.setup("validate")
    device = network.mean.device
    logits, truths = [], []
    for batch in data.val_dataloader():
        maps = network(batch["image"].to(device)).logits.float().cpu()
        regions = batch.get("region")
        for place, index in enumerate(batch["index"].tolist()):
            draw = torch.Generator().manual_seed(index)
            counted = None if regions is None else regions[place].flatten() > 0
            chosen = _chosen_pixels(maps[place, 0].numel(), counted, draw)
            logits.append(maps[place].flatten(1)[:, chosen].T)
            truths.append(batch["mask"][place].flatten(1)[:, chosen].T.float())
    return PixelSample(torch.cat(logits), torch.cat(truths), network.form.exclusive)


def _chosen_pixels(pixels: int, counted: Tensor | None, draw: torch.Generator) -> Tensor:
    order = torch.randperm(pixels, generator=draw)
    return (order if counted is None else order[counted[order]])[:PIXELS]


def _place(file: Path, output: Path | None) -> Path:
    """Where the calibrated checkpoint goes: into a run of its own, unless a file is named."""
    if output is not None:
        place = output.expanduser()
    else:
        run = Run.holding(file)
        if run is None:
            raise InputError(f"{file} lies in no run; give --output, the file to write.")
        folder = run.root / f"{run.name}-calibrated" / "version_0"
        place = folder / "checkpoints" / file.name
    if place.exists():
        raise InputError(f"{place} exists; remove it, or give another --output.")
    return place


def _write(
    place: Path,
    file: Path,
    content: dict[str, Any],
    found: Calibration,
) -> None:
    """The checkpoint with its calibration; a run's configuration and environment beside it."""
    values = {"scale": found.scale.tolist(), "shift": found.shift.tolist()}
    parameters = content["hyper_parameters"] | {"calibration": values}
    kept = {name: part for name, part in content.items() if name not in _TRAINING}
    # the threshold of the validation split was found with other probabilities
    kept["lightning_seg"] = content.get("lightning_seg", {}) | {"threshold": None}
    place.parent.mkdir(parents=True, exist_ok=True)
    with whole(place) as part, part.open("wb") as opened:
        torch.save(kept | {"hyper_parameters": parameters}, opened)
    source, folder = Run.holding(file), Run.holding(place)
    if source is None or folder is None:
        return
    if source.config:
        config = source.config
        config["model"] = config.get("model", {}) | {"calibration": values}
        write_whole(folder.config_file, yaml.safe_dump(config, sort_keys=False).encode())
    if (source.folder / FILE).is_file():
        shutil.copyfile(source.folder / FILE, folder.folder / FILE)


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
        "validation split; test, predict, serve and exports of the new checkpoint follow it.",
    )
    add_model_options(parser)
    add = parser.add_argument
    kinds = "temperature (default) moves no mask at .5; vector also shifts, which may"
    add("--method", choices=("temperature", "vector"), default="temperature", help=kinds)
    place = "the file to write; default: a run of its own, <run>-calibrated"
    add("--output", type=Path, metavar="FILE", help=place)
    add("--devices", default="auto", help="cpu, cuda:0 or auto (default)")
    return parser
