"""``lightning-seg score``: the predictions of any tool, held against a split or a folder of masks."""

import argparse
import hashlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import yaml
from numpy.typing import NDArray

from lightning_seg.data import SegmentationDataModule
from lightning_seg.data.reading.folders import walk_files
from lightning_seg.data.sources.base import Sample
from lightning_seg.data.store.sized import resize_sample
from lightning_seg.errors import InputError
from lightning_seg.evaluation.findings import find_scores_of
from lightning_seg.evaluation.measures import FAMILIES
from lightning_seg.evaluation.scored_table import table_digest
from lightning_seg.evaluation.scoring import ScoredEpoch, Scorer, Scoring
from lightning_seg.evaluation.summary import FROM_FILES, Summary
from lightning_seg.files import real_path
from lightning_seg.inference.output_names import safe_part
from lightning_seg.inference.prediction_files import (
    Predicted,
    PredictionFiles,
    SliceFiles,
    is_volume,
)
from lightning_seg.inference.whole_scans import scans_of
from lightning_seg.options import OptionParser, shell_command
from lightning_seg.reports.file_doubts import FileDoubts
from lightning_seg.reports.printing import print_scores
from lightning_seg.reports.truth import FolderTruth, SplitTruth, Truth
from lightning_seg.runs.ledger import enter_look
from lightning_seg.tables import count_text

MASK_FAMILIES = ("boundary", "topology")  # measures that masks without probabilities have
_SHOWN = 5


@dataclass(frozen=True)
class FileScoring:
    """The way in which files are scored.

    Attributes:
        size: side to which truth and predictions are scaled as `test` does; None: each truth as
            it is.
        threshold: a probability above it is predicted.
        missing: ``refuse``, or ``empty``: an image without a file counts as an empty prediction.
    """

    size: int | None = None
    threshold: float = 0.5
    missing: str = "refuse"


class FileScores:
    """The scores of prediction files, and what was done to them on the way.

    Attributes:
        scored: the table and what was measured.
        scoring: with the families of measures that these files allow.
        scaled: how many predictions had another size than their truth.
        doubts: what is strange of all images together.
        digest: 8 hex digits of all predictions.
    """

    def __init__(
        self, truth: Truth, files: PredictionFiles | SliceFiles, options: FileScoring
    ) -> None:
        self._truth, self._files, self._options = truth, files, options
        self.scaled = 0
        self._digest = hashlib.sha256()
        self.scoring = Scoring(threshold=options.threshold, families=self._families())
        exclusive = len(truth.classes) > 1 and self._first().exclusive
        scorer = Scorer(truth.classes, self.scoring, exclusive=exclusive)
        self.doubts = FileDoubts(scorer.cut)
        scorer.begin(torch.device("cpu"), len(truth.ids))
        for batch in self._batches():
            probability = batch.pop("probability")
            # what no network made has no loss
            scorer.add("test", probability, batch, torch.zeros(()), None)
        self.scored: ScoredEpoch = scorer.finish("test", truth.ids, truth.groups, truth.columns)

    @property
    def digest(self) -> str:
        return self._digest.hexdigest()[:8]

    def _families(self) -> tuple[str, ...]:
        """All, where the files hold probabilities; else those that masks have."""
        # masks are not read for this
        graded = self._files.may_be_graded and any(
            self._files.read(id).graded for id in self._files.files
        )
        return tuple(FAMILIES) if graded else MASK_FAMILIES

    def _first(self) -> Predicted:
        """The first image's prediction."""
        return self._files.read(next(iter(self._files.files)))

    def _batches(self) -> Iterator[dict[str, Any]]:
        for index, id in enumerate(self._truth.ids):
            sample, shape = self._sample(id)
            maps = self._maps(id, sample.mask.shape[:2], shape)
            self.doubts.add(maps, sample.mask)
            self._digest.update(np.ascontiguousarray(maps).tobytes())
            batch: dict[str, Any] = {
                "probability": torch.from_numpy(maps)[None],
                "mask": torch.from_numpy(sample.mask.transpose(2, 0, 1).copy())[None],
                "index": torch.tensor([index]),
                "id": [id],
            }
            if sample.region is not None:
                batch["region"] = torch.from_numpy(sample.region)[None, None]
            yield batch

    def _sample(self, id: str) -> tuple[Sample, tuple[int, ...]]:
        """The sample at the scored size, and the shape of its own mask."""
        sample, side = self._truth.read(id), self._options.size
        shape = sample.mask.shape[:2]
        if side is None:
            return sample, shape
        placeholder = np.zeros((*shape, 1), np.uint8)
        return resize_sample(sample._replace(image=placeholder), (side, side)), shape

    def _maps(
        self,
        id: str,
        size: Sequence[int],
        own: Sequence[int],
    ) -> NDArray[np.float32]:
        if id not in self._files.files:
            return np.zeros((len(self._truth.classes), *size), np.float32)
        found = self._files.read(id)
        if found.maps.ndim > 3:
            raise InputError(
                f"the prediction of {id} is a volume, and its truth is a picture; write masks of "
                "pictures as PNG or NPY, since a volume does not say which axis its rows are."
            )
        if tuple(found.maps.shape[-2:]) == tuple(own[::-1]) != tuple(own):
            raise InputError(
                f"the prediction of {id} has {own[1]} rows and {own[0]} columns, and its truth "
                f"{own[0]} rows and {own[1]} columns, as if they were exchanged; turn it."
            )
        self.scaled += tuple(found.maps.shape[-2:]) not in {tuple(size), tuple(own)}
        return scaled_maps(found, size)


def scaled_maps(found: Predicted, size: Sequence[int]) -> NDArray[np.float32]:
    """The maps (K, H, W) at ``size`` (height, width): masks by the nearest pixel, probabilities
    bilinearly."""
    if found.maps.shape[-2:] == tuple(size):
        return found.maps
    how = cv2.INTER_LINEAR if found.graded else cv2.INTER_NEAREST_EXACT
    target = size[1], size[0]
    return np.stack([cv2.resize(one, target, interpolation=how) for one in found.maps])


def main(args: list[str]) -> None:
    """``lightning-seg score PREDICTIONS [TRUTH] --name X``."""
    given = _parser().parse_args(args)
    truth = _truth(given)
    options = FileScoring(given.size, given.threshold, given.missing)
    folder = Path(given.predictions).expanduser()
    files = _find_files(folder, truth, given)
    _say_leftovers(files, folder, options)
    found = FileScores(truth, files, options)
    if found.scaled:
        how = "masks by the nearest pixel, probabilities bilinearly"
        print(
            f"{count_text(found.scaled, 'prediction')} had another size than the truth and were "
            f"scaled to it ({how})",
            file=sys.stderr,
        )
    for doubt in found.doubts.sentences():
        print(f"warning: {doubt}", file=sys.stderr)
    _keep(given, truth, folder, found)


def _find_files(
    folder: Path, truth: Truth, given: argparse.Namespace
) -> PredictionFiles | SliceFiles:
    """Files of the images, or volumes of the scans whose slices they are."""
    scans = scans_of(truth.data, truth.split) if isinstance(truth, SplitTruth) else {}
    volumes = bool(scans) and any(is_volume(file.name) for file in walk_files(folder))
    ids = tuple(scans) if volumes else truth.ids
    found = PredictionFiles.find(folder, ids, truth.numbers, given.pattern, given.values)
    return SliceFiles(found, scans) if volumes else found


def _truth(given: argparse.Namespace) -> Truth:
    if (given.truth is None) == (given.dataset is None):
        raise InputError(
            "the truth is a folder of masks, lightning-seg score PREDICTIONS TRUTH, or the split "
            "of a data set, --dataset kvasir_seg [--protocol P] [--split test]; give one of them."
        )
    if given.truth is not None:
        folder = Path(given.truth).expanduser()
        if not folder.is_dir():
            raise InputError(f"there is no folder {str(folder)!r}; give that of the true masks.")
        return FolderTruth(folder, tuple(given.classes or ("foreground",)))
    data = SegmentationDataModule(
        dataset=given.dataset,
        root=given.root,
        protocol=given.protocol,
        size=given.size,
        dataset_options=_dataset_options(given.dataset_options),
    )
    if not data.ids(given.split):
        raise InputError(f"protocol {data.protocol_name} has no {given.split} ids.")
    return SplitTruth(data, given.split)


def _dataset_options(text: str) -> dict[str, Any]:
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(
            f"--dataset_options is {text!r}, which is not YAML; correct it."
        ) from error
    if not isinstance(found, dict):
        raise InputError(f"--dataset_options is {text!r}; give a mapping, such as '{{labels: 1}}'.")
    return found


def _say_leftovers(files: PredictionFiles | SliceFiles, folder: Path, options: FileScoring) -> None:
    for sentence in files.aside.sentences():
        print(f"{folder}: left aside: {sentence}", file=sys.stderr)
    if not files.missing:
        return
    names = ", ".join(files.missing[:_SHOWN]) + (", ..." if files.missing[_SHOWN:] else "")
    total = len(files.missing) + len(files.files)
    what = f"{len(files.missing)} of {total} images have no prediction ({names})"
    if options.missing == "refuse":
        raise InputError(f"{folder}: {what}; add them, or count them as empty by --missing empty.")
    print(f"{folder}: {what}; they count as empty", file=sys.stderr)


def _keep(given: argparse.Namespace, truth: Truth, folder: Path, found: FileScores) -> None:
    """Write the table and its summary into the run's folder, and print them."""
    native = given.size is None
    facts = truth.facts()
    summary = Summary(
        predictions=str(real_path(folder)),
        size="native" if native else given.size,
        scored_at="native size of each mask" if native else "network size",
        **facts,
        **find_scores_of(found.scored, found.scoring),
    )
    runs = Path(given.runs).expanduser()
    label = f"{FROM_FILES}{found.digest}-{summary.size}"
    name = "/".join(map(safe_part, given.name.strip("/").split("/")))
    place = runs / name / "version_0" / f"{summary.split}-{safe_part(summary.protocol)}" / label
    if summary.split == "test":
        looked = vars(summary) | {"content": summary.data["digest"], "checkpoint": str(folder)}
        summary = replace(summary, looks=enter_look(runs, looked))
    found.scored.table.write(place / "scores.csv")
    summary = replace(summary, table_digest=table_digest(place / "scores.csv"))
    summary.write(place)
    print_scores(summary)
    print(f"per-image table:  {place / 'scores.csv'} (and scores.parquet)")
    if summary.looks is not None:
        print(f"looks at this test split by the runs of this folder: {summary.looks} (ledger.csv)")
    print(f"next: {shell_command('lightning-seg', 'compare', place, 'runs/ANOTHER')}")


def _parser() -> argparse.ArgumentParser:
    parser = OptionParser(
        prog="lightning-seg score",
        description="Scores of predictions that any tool wrote, with the same measures, intervals "
        "and tables as test. They stand in compare, report and the leaderboard, marked as scored "
        "from files.",
    )
    add = parser.add_argument
    add("predictions", help="a folder of masks or probabilities: PNG, NPY, NPZ, NIfTI")
    add("truth", nargs="?", help="a folder of true masks, in place of --dataset")
    add("--name", required=True, help="of the run below --runs under which the scores are kept")
    add("--dataset", help="whose masks are the truth (lightning-seg data protocols lists them)")
    add("--root", help="where its files lie; default: in $LIGHTNING_SEG_DATA")
    add("--dataset_options", default="{}", metavar="YAML", help="further ones of the data set")
    add("--protocol", help="default: the data set's own")
    add("--split", choices=("test", "val", "train"), default="test", help="default %(default)s")
    add("--classes", nargs="+", help="of a folder of true masks; default: foreground")
    sides = "scale truth and predictions to this side, as test does; default: each truth's own size"
    add("--size", type=int, help=sides)
    cut = "a probability above it is predicted, default %(default)s"
    add("--threshold", type=float, default=0.5, help=cut)
    meaning = "what numbers mean that are no masks: probabilities in pictures, or logits"
    add("--values", choices=("auto", "probability", "logit"), default="auto", help=meaning)
    names = "of the files below PREDICTIONS, such as '{id}_mask.png'; default: learnt from them"
    add("--pattern", default="", help=names)
    lack = "an image without a file: refuse (default), or count it as empty"
    add("--missing", choices=("refuse", "empty"), default="refuse", help=lack)
    add("--runs", default="runs", metavar="DIR", help="folder of all runs (default runs)")
    return parser
