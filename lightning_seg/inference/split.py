"""A data set's split to masks, through the same pipeline as files, with a contact sheet of image,
truth and prediction."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from lightning_seg.data import SegmentationDataModule
from lightning_seg.data.sources.base import Sample
from lightning_seg.data.store.sized import resize_sample
from lightning_seg.errors import InputError
from lightning_seg.inference.images import READERS, WRITERS, picture_rows, write_prediction
from lightning_seg.inference.mask_rule import MaskRule, resized
from lightning_seg.inference.options import PredictOptions
from lightning_seg.inference.output_names import safe_path
from lightning_seg.inference.pictures import EXAMPLES, contact_sheet, write_png
from lightning_seg.inference.pipeline import (
    FailedInput,
    Loaded,
    Outcome,
    Probability,
    loaded,
    predicted,
)
from lightning_seg.inference.prediction import Prediction
from lightning_seg.inference.prefetch import prefetched
from lightning_seg.inference.results import Row
from lightning_seg.inference.whole_scans import WholeScans, scans_of
from lightning_seg.inference.workers import Workers
from lightning_seg.runs import Run
from lightning_seg.runs.checkpoints import check_data_fit, read_checkpoint
from lightning_seg.runs.ledger import enter_look

_AHEAD = 16  # images that are read, or written, beside the network
_LONGEST = 512  # side of a cell of the contact sheet


@dataclass(frozen=True)
class DataSplit:
    """The images of a split that a checkpoint's network may predict."""

    data: SegmentationDataModule
    split: str

    @property
    def ids(self) -> tuple[str, ...]:
        """Its images, or slices."""
        return self.data.ids(self.split)

    @property
    def scans(self) -> list[Sequence[str]]:
        """The slices of each scan; empty where its images are no slices."""
        return list(scans_of(self.data, self.split).values())

    def describe(self) -> str:
        """``kvasir_seg, test split of kvasir-unet-a (0123456789ab)``."""
        data = self.data
        protocol = f"{data.protocol_name} ({data.protocol_digest})"
        return f"{data.hparams['dataset']}, {self.split} split of {protocol}"

    def cautions(self) -> str:
        """The warnings about these images wherever they are shown."""
        data = self.data
        synthetic = " (SYNTHETIC)" if data.synthetic else ""
        return synthetic + (" (LEAKS)" if data.leaks else "")


class _Image(NamedTuple):
    id: str
    sample: Sample


_Predicted = tuple[Loaded, Prediction] | FailedInput


class SheetCell(NamedTuple):
    """A row of the contact sheet; tensors (C, H, W) and (K, H, W)."""

    image: torch.Tensor
    truth: torch.Tensor
    prediction: torch.Tensor
    title: str


class FinishedImage(NamedTuple):
    """An image whose results are on disk: its rows of the table, and for the contact sheet."""

    rows: list[Row]
    cell: SheetCell | None


def open_split(
    checkpoint: Path,
    split: str,
    changes: dict[str, Any],
) -> DataSplit:
    """The split of a checkpoint's data.

    Args:
        changes: arguments of `SegmentationDataModule` in place of the checkpoint's.

    Errors: InputError for data that are not there, or do not fit the network.
    """
    content = read_checkpoint(checkpoint)
    settings = data_settings(content) | changes
    try:
        data = SegmentationDataModule(**settings)
    except TypeError as error:
        raise InputError(f"--data holds an unknown option: {error}; correct its name.") from error
    check_data_fit(data, content, checkpoint)
    if not data.ids(split):
        raise InputError(f"protocol {data.protocol_name} has no {split} ids; name another --split.")
    return DataSplit(data, split)


def count_look(home: DataSplit, checkpoint: Path) -> int:
    """Enter a look at a test split into the ledger of a checkpoint's run; how many there were, this
    one included.

    Errors: InputError for a checkpoint that lies in no run.
    """
    run = Run.holding(checkpoint)
    if run is None:
        raise InputError(f"{checkpoint} lies in no run, whose ledger counts looks at test splits.")
    images = home.data.fingerprint(home.split)
    facts = {
        "protocol": home.data.protocol_name,
        "protocol_digest": home.data.protocol_digest,
        "dataset": images.dataset,
        "checkpoint": str(checkpoint),
        "content": images.to_json()["digest"],
    }
    return enter_look(run.root, facts)


def data_settings(content: dict[str, Any]) -> dict[str, Any]:
    """The arguments of `SegmentationDataModule` that a checkpoint holds."""
    saved = content["datamodule_hyper_parameters"]
    return {name: value for name, value in saved.items() if not name.startswith("_")}


def finished_images(
    source: DataSplit,
    ids: Sequence[str],
    workers: Workers,
    rule: MaskRule,
    options: PredictOptions,
    folder: Path,
) -> Iterator[FinishedImage | FailedInput]:
    """Write the masks of some of a split's images; of scans those of all slices.

    Slices of scans are post-processed in three dimensions. InputError for an image that cannot be
    read: the data set is damaged. Gives an image that could not be predicted as a failure.
    """
    scans = scans_of(source.data, source.split)

    def finish(one: tuple[_Predicted, bool]) -> FinishedImage | FailedInput:
        found, shown = one
        if isinstance(found, FailedInput):
            return found
        item, prediction = found
        name = safe_path(item.key.id)
        write_prediction(name, prediction, item, options, folder, bool(scans))
        cell = _sheet_cell(item, prediction, source.data.synthetic) if shown else None
        return FinishedImage(picture_rows(item.key.id, prediction), cell)

    # a scan stays decoded while its slices are read one after the other
    with (
        ThreadPoolExecutor(1 if scans else READERS) as readers,
        ThreadPoolExecutor(WRITERS) as writers,
    ):
        items = prefetched(
            readers, lambda id: _load_sample(source, id, workers, options), ids, _AHEAD
        )
        outcomes = predicted(items, workers, options)
        found = _predictions(outcomes, rule, WholeScans(rule, scans))
        yield from prefetched(writers, finish, _with_shown(found), _AHEAD)


def write_sheet(cells: Sequence[SheetCell], slices: bool, file: Path) -> None:
    """Write the contact sheet of the first of some images, if there are any."""
    columns: list[Any] = [list(column) for column in zip(*cells[:EXAMPLES], strict=True)]
    if columns:
        write_png(file, contact_sheet(*columns, slices=slices))  # type: ignore[misc]


def _load_sample(
    source: DataSplit,
    id: str,
    workers: Workers,
    options: PredictOptions,
) -> Loaded:
    sample = source.data.source.read(id)
    key = _Image(id, sample)
    return loaded(Path(id), key, sample.image, workers.first, options, options.overlays)


def _with_shown(items: Iterator[_Predicted]) -> Iterator[tuple[_Predicted, bool]]:
    """Each outcome, and whether it is one of the first images, which the contact sheet shows."""
    cells = 0
    for one in items:
        yield one, cells < EXAMPLES
        cells += not isinstance(one, FailedInput)


def _predictions(
    outcomes: Iterator[Outcome], rule: MaskRule, scans: "WholeScans[tuple[Loaded, Probability]]"
) -> Iterator[_Predicted]:
    """Masks by the rule, of scans when they are whole."""
    for outcome in outcomes:
        if isinstance(outcome, FailedInput):
            yield outcome
            continue
        item, probability = outcome
        if rule.native:
            probability = resized(probability, item.size)
        whole = scans.add(item.key.id, (item, probability), probability)
        yield from _cut(whole, rule)
    yield from _cut(scans.rest(), rule)


def _cut(
    whole: Iterable[tuple[tuple[Loaded, Probability], Probability]], rule: MaskRule
) -> Iterator[tuple[Loaded, Prediction]]:
    for (item, plain), refined in whole:
        yield item, rule.prediction(rule.above(refined), plain)


def _sheet_cell(item: Loaded, prediction: Prediction, synthetic: bool) -> SheetCell:
    """A row of the contact sheet, at the size that the network saw, or smaller."""
    height, width = item.seen.shape[:2]
    scale = min(1.0, _LONGEST / max(height, width))
    size = max(1, round(height * scale)), max(1, round(width * scale))
    small = resize_sample(Sample(item.key.sample.image, item.key.sample.mask), size)
    masks = [_resized_nearest(plane, size) for plane in prediction.mask]
    title = f"{item.key.id}{' (synthetic)' if synthetic else ''}"
    image, truth = (torch.from_numpy(one.transpose(2, 0, 1)) for one in small[:2])
    return SheetCell(image, truth, torch.from_numpy(np.stack(masks)), title)


def _resized_nearest(
    mask: NDArray[np.bool_],
    size: tuple[int, int],
) -> NDArray[np.uint8]:
    found = cv2.resize(mask.astype(np.uint8), size[::-1], interpolation=cv2.INTER_NEAREST)
    return np.asarray(found, np.uint8)
