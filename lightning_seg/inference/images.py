"""Picture files to mask files: decoding and writing in threads beside the network."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from lightning_seg.errors import InputError
from lightning_seg.inference.inputs import Input
from lightning_seg.inference.label_maps import label_file
from lightning_seg.inference.mask_rule import MaskRule
from lightning_seg.inference.options import PredictOptions
from lightning_seg.inference.output_names import mask_files
from lightning_seg.inference.pictures import overlay, with_contours, write_png
from lightning_seg.inference.pipeline import FailedInput, Loaded, Outcome, loaded, predicted
from lightning_seg.inference.prediction import Prediction
from lightning_seg.inference.prefetch import prefetched
from lightning_seg.inference.results import Row
from lightning_seg.inference.workers import Workers

PICTURE_COLUMNS = (
    "file",
    "height",
    "width",
    "class",
    "area",
    "share",
    "components",
    "confidence",
    "expected_dice",
)
READERS = WRITERS = max(2, min(16, os.cpu_count() or 1))
_AHEAD = 16  # pictures that are decoded, or written, beside the network


class _StampedFile(NamedTuple):
    """A picture file and its stamp from before it was read; what is said of it."""

    input: Input
    stamp: str
    note: str = ""


class FinishedInput(NamedTuple):
    """An input whose results are on disk.

    Attributes:
        stamp: of before it was read.
        rows: of a table of results.
        note: what the results lack, or are doubtful in, in words.
    """

    input: Input
    stamp: str
    rows: list[Row]
    note: str = ""


def finished_pictures(
    portions: Iterable[Sequence[Input]],
    workers: Workers,
    rule: MaskRule,
    options: PredictOptions,
    folder: Path,
) -> Iterator[FinishedInput | FailedInput]:
    """Write the masks of pictures, and what ``options`` says, in order.

    Args:
        portions: of pictures; those of different ones share no batch.
        workers: copies of the network.

    Gives a picture that cannot be read or predicted as a failure. An OSError of writing ends it.
    """

    def load(one: tuple[int, Input]) -> Loaded | FailedInput:
        return _load_picture(*one, workers, options)

    def finish(outcome: Outcome) -> FinishedInput | FailedInput:
        return _finish(outcome, rule, options, folder)

    inputs = ((number, one) for number, portion in enumerate(portions) for one in portion)
    with ThreadPoolExecutor(READERS) as readers, ThreadPoolExecutor(WRITERS) as writers:
        read = workers.clock.timed("reading", READERS, load)
        write = workers.clock.timed("writing", WRITERS, finish)
        outcomes = predicted(prefetched(readers, read, inputs, _AHEAD), workers, options)
        yield from prefetched(writers, write, outcomes, _AHEAD)


def reading_failure(path: Path, error: Exception) -> FailedInput:
    """Whatever reading a file raised, as a sentence: it is that file's failure, not that of the
    others."""
    if isinstance(error, InputError):
        return FailedInput(path, str(error))
    if isinstance(error, MemoryError):
        return FailedInput(path, f"{path} is too large for the memory; give a smaller one.")
    reason = (str(error).splitlines() or ["no reason given"])[0]
    text = f"{path} cannot be read ({type(error).__name__}: {reason}); fetch or copy it again."
    return FailedInput(path, text)


def _load_picture(
    portion: int, one: Input, workers: Workers, options: PredictOptions
) -> Loaded | FailedInput:
    network = workers.first
    try:
        read = _StampedFile(one, one.stamp())
        form = network.trained.picture
        picture = form.read_checked(one.path)
        read = read._replace(note=form.doubt(one.path, picture))
        item = loaded(one.path, read, picture, network, options, options.overlays)
        return item._replace(portion=portion)
    except Exception as error:
        return reading_failure(one.path, error)


def _finish(
    outcome: Outcome, rule: MaskRule, options: PredictOptions, folder: Path
) -> FinishedInput | FailedInput:
    if isinstance(outcome, FailedInput):
        return outcome
    item, probability = outcome
    one = item.key.input
    try:
        prediction = rule(probability, item.size)
        write_prediction(one.name, prediction, item, options, folder)
        rows = picture_rows(one.file, prediction)
        return FinishedInput(one, item.key.stamp, rows, item.key.note)
    except MemoryError:
        reason = f"{one.path} is too large for the memory at {item.size} pixels"
        return FailedInput(one.path, reason)


def picture_rows(file: str, prediction: Prediction) -> list[Row]:
    """The rows of a picture in the table, one for each class."""
    height, width = prediction.mask.shape[1:]
    place = {"file": file, "height": height, "width": width}
    return [place | found.columns() for found in prediction.findings()]


def write_prediction(
    name: str,
    prediction: Prediction,
    item: Loaded,
    options: PredictOptions,
    folder: Path,
    slices: bool = False,
) -> None:
    """Write the masks of a picture, and its maps and overlay where they are asked for.

    Args:
        slices: see `pictures.as_seen`.
    """
    masks = mask_files(folder, name, prediction.classes)
    planes = zip(masks.values(), prediction.mask, prediction.probability, strict=True)
    for file, mask, probability in planes:
        write_png(file, mask.astype(np.uint8) * 255)
        if options.probabilities:
            levels = np.rint(probability * 65535).astype(np.uint16)
            write_png(folder / "probabilities" / file.relative_to(folder / "masks"), levels)
    for kind, plain in prediction.contours.items():
        for file, mask in zip(contour_files(masks, folder, kind), plain, strict=True):
            write_png(file, mask.astype(np.uint8) * 255)
    if prediction.exclusive:
        write_png(label_file(folder, name), prediction.labels)
    if item.picture is not None:
        at_network = prediction.mask.shape[1:] != item.size
        picture = item.seen if at_network else item.picture
        drawn = overlay(_channels_first(picture), torch.from_numpy(prediction.mask), slices)
        write_png(folder / "overlays" / f"{name}.jpg", with_contours(drawn, prediction.contours))


def contour_files(masks: Mapping[str, Path], folder: Path, kind: str) -> list[Path]:
    """Where the guaranteed masks of a kind lie: ``outer/<name>.png`` as ``masks/<name>.png``."""
    return [folder / kind / file.relative_to(folder / "masks") for file in masks.values()]


def _channels_first(picture: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(picture.transpose(2, 0, 1))


def image_results(
    folder: Path,
    inputs: Iterable[Input],
    rule: MaskRule,
    options: PredictOptions,
) -> dict[str, Sequence[Path]]:
    """file -> where all its results lie."""
    found: dict[str, Sequence[Path]] = {}
    for one in inputs:
        named = mask_files(folder, one.name, rule.classes)
        masks = list(named.values())
        for kind in () if rule.guarantee is None else rule.guarantee.bounds:
            masks += contour_files(named, folder, kind)
        more = [folder / "overlays" / f"{one.name}.jpg"] if options.overlays else []
        labels = [label_file(folder, one.name)] if rule.exclusive else []
        found[one.file] = masks + labels + more
    return found
