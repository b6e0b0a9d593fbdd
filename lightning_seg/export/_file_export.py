"""What all exports into one file share: options, the opened checkpoint with pictures that verify
it, how it is written."""

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning_seg.errors import InputError
from lightning_seg.export._facts import SIDES, check_output, export_facts, guarantee_note
from lightning_seg.export._pictures import Pictures, choose_pictures
from lightning_seg.files import whole
from lightning_seg.inference.ensemble import Ensemble, load_ensemble
from lightning_seg.options import OptionParser, add_model_options
from lightning_seg.runs.cross_validation import CrossValidation, find_checkpoints

Model = str | Path | Sequence[str | Path]
NATIVE = 96  # side of the example for a network that takes images as they are


@dataclass(frozen=True)
class FileExport:
    """A checkpoint that is to become a file.

    Attributes:
        checkpoint: its file, the first one of an ensemble.
        facts: what the exported file says of itself.
        pictures: those that verify it.
        side: height and width of the example that is traced.
    """

    checkpoint: Path
    network: Ensemble
    facts: dict[str, Any]
    pictures: Pictures
    side: int


def export_parser(kind: str, description: str, ensemble: bool = False) -> argparse.ArgumentParser:
    """A parser of ``lightning-seg export <kind>`` with the options that all kinds have.

    Args:
        ensemble: whether the kind takes several checkpoints.
    """
    parser = OptionParser(prog=f"lightning-seg export {kind}", description=description)
    add_model_options(parser, ensemble)
    return parser


def add_file_options(parser: argparse.ArgumentParser, suffix: str) -> None:
    """The options of all exports into one file."""
    add = parser.add_argument
    add("--output", required=True, type=Path, metavar="FILE", help=f"such as model{suffix}")
    size = "the only height and width; dynamic (default): any, where the network allows"
    add("--size", default="dynamic", help=size)
    images = "that verify it (default: of the validation split, or phantoms)"
    add("--images", metavar="FOLDER", help=images)


def check_side(size: int | None) -> None:
    """InputError for a height and width that no export takes; None is any."""
    if size is not None and size not in SIDES:
        raise InputError(f"size {size} is out of range; give one from {SIDES[0]} to {SIDES[-1]}.")


def open_export(
    checkpoint: Model,
    size: int | None,
    images: str | None,
    count: int,
    trust_code: bool,
) -> FileExport:
    """Load a checkpoint, and ``count`` pictures that verify its file.

    Args:
        checkpoint: a ``.ckpt`` file, a run: its best one, a cross-validation, or several of these:
            an ensemble.
        size: the only height and width; None: free.
        images: a folder; None: of the validation split, or phantoms.
        trust_code: see `read_network`.
    """
    named = [checkpoint] if isinstance(checkpoint, str | Path) else checkpoint
    files = [file for each in named for file in find_checkpoints(each)]
    network = load_ensemble(files, trust_code=trust_code)
    pictures = choose_pictures(network, files[0], images, count)
    side = size or network.trained.size or network.trained.crop or NATIVE
    return FileExport(files[0], network, export_facts(network, files), pictures, side)


def say_of_networks(checkpoints: Sequence[Path], validations: Sequence[CrossValidation]) -> None:
    """Say that several networks become one file, of which folds they are, and what is left out."""
    for validation in validations:
        print(f"network:   {validation.ensemble_text}; probabilities are averaged")
    if len(checkpoints) > 1 and not validations:
        print(f"network:   an ensemble of {len(checkpoints)} networks; probabilities are averaged")
    if note := guarantee_note(checkpoints):
        print(f"note:      {note}")


@contextmanager
def written(output: Path, suffix: str) -> Iterator[Path]:
    """A name to write under; the file appears as ``output`` at the end, or not at all."""
    check_output(output, suffix)
    with writable(output), whole(output) as part:
        yield part


@contextmanager
def writable(output: Path) -> Iterator[None]:
    """Work that writes into ``output``: where the disk refuses it is one sentence."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{output} cannot be written ({error.strerror or error}); give another place, or free "
            "space and permissions there."
        ) from error
