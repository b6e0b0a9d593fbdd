"""What ``lightning-seg predict`` does: every kind of input goes through one pipeline into one
folder of results."""

import argparse
import errno
import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from lightning_seg.data.reading.pictures import allow_pixels
from lightning_seg.errors import InputError
from lightning_seg.files import whole
from lightning_seg.inference.coco import coco_content
from lightning_seg.inference.ensemble import Ensemble, load_ensemble
from lightning_seg.inference.images import (
    PICTURE_COLUMNS,
    image_results,
    predict_images,
    reading_failure,
)
from lightning_seg.inference.inputs import (
    FoundInputs,
    Input,
    find_inputs,
)
from lightning_seg.inference.mask_rule import MaskRule
from lightning_seg.inference.options import SETTINGS, PredictOptions, predict_options
from lightning_seg.inference.output_names import mask_files, printable, safe_path
from lightning_seg.inference.pipeline import FailedInput
from lightning_seg.inference.progress import WorkProgress
from lightning_seg.inference.results import OutputFolder, ResultTable, alone_in
from lightning_seg.inference.split import open_split, predict_split
from lightning_seg.inference.video import Video, predict_video, video_files
from lightning_seg.inference.volume import VOLUME_COLUMNS, SliceView, predict_volume, view_of
from lightning_seg.inference.workers import Workers, find_devices
from lightning_seg.runs import Run
from lightning_seg.runs.chosen_threshold import resolve_threshold
from lightning_seg.runs.naming import named_checkpoints

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EROFS, errno.EPERM)
SHOWN = 20  # failures that are named one by one
Failures = list[FailedInput]


class _Job:
    """The settings that all inputs of one command share."""

    def __init__(
        self, workers: Workers, rule: MaskRule, options: PredictOptions, output: OutputFolder
    ) -> None:
        self.workers, self.rule, self.options, self.output = workers, rule, options, output
        self.folder = output.path

    def table(self, name: str, columns: Sequence[str]) -> ResultTable:
        """A table of the results."""
        return ResultTable(self.folder / name, columns)


def predict_command(given: argparse.Namespace) -> None:
    """Predict what the options of `read_arguments` name."""
    allow_pixels(given.max_pixels)
    options = predict_options(given)
    torch.set_float32_matmul_precision("high")  # as `test` computes
    checkpoints = named_checkpoints(given)
    network = load_ensemble(checkpoints, given.tta, given.precision, given.trust_code)
    native = given.masks_at == "native"
    given.threshold = resolve_threshold(given.threshold, checkpoints)
    trained = network.trained
    cut, steps = given.threshold, given.postprocess
    if options.tile is None:
        options = replace(options, tile=trained.crop)
    if options.overlap is None:
        options = replace(options, overlap=trained.crop_overlap)
    given.tile, given.overlap = options.tile, options.overlap
    rule = MaskRule(trained.classes, cut, steps, native, trained.exclusive)
    if given.input is None:
        _predict_split(given, checkpoints, network, rule, options)
    else:
        _predict_input(given, checkpoints, network, rule, options)


def _predict_split(
    given: argparse.Namespace,
    checkpoints: Sequence[Path],
    network: Ensemble,
    rule: MaskRule,
    options: PredictOptions,
) -> None:
    source = open_split(checkpoints[0], given.split, given.data)
    if "size" in given.data:
        network.trained = network.trained._replace(size=given.data["size"])
    data = json.loads(json.dumps(given.data, default=str))
    place = {"input": source.describe(), "data": data}
    settings = place | _settings(given, checkpoints)
    folder = Path(given.output or _split_folder(checkpoints[0], given, network))
    job = _Job(_workers(given, network), rule, options, OutputFolder(folder, settings))
    table = job.table("predictions.csv", PICTURE_COLUMNS)
    with _writing(folder), WorkProgress("images", len(source.ids)) as progress:
        work = job.workers, job.rule, job.options, job.output
        failures = predict_split(source, *work, table, progress.tick)
        if given.coco:
            _write_coco({id: safe_path(id) for id in source.ids}, rule.classes, folder)
    print(f"images:         {source.describe()}{source.cautions()}")
    print(f"masks:          {folder / 'masks'}")
    print(f"contact sheet:  {folder / 'contact_sheet.png'}  (image, truth, prediction)")
    report_results(failures, [], len(source.ids), folder)


def _split_folder(checkpoint: Path, given: argparse.Namespace, network: Ensemble) -> Path:
    """``<run>/predictions/<checkpoint>-<size>``, as scores of the checkpoint are named."""
    run = Run.holding(checkpoint)
    home = checkpoint.parent if run is None else run.folder
    more = "" if given.split == "test" else f"{given.split}-"
    return home / "predictions" / f"{more}{checkpoint.stem}-{network.trained.size or 'native'}"


def _predict_input(
    given: argparse.Namespace,
    checkpoints: Sequence[Path],
    network: Ensemble,
    rule: MaskRule,
    options: PredictOptions,
) -> None:
    folder = Path(given.output)
    found = find_inputs(given.input, folder)
    images = [one for one in found.inputs if one.kind == "image"]
    videos = [one for one in found.inputs if one.kind == "video"]
    volumes = [one for one in found.inputs if one.kind in ("volume", "dicom")]
    view = _view(given, network) if volumes else None
    if images or videos:
        _check_pictures(network, found)
    place = {"input": str(Path(given.input).expanduser().absolute())}
    output = OutputFolder(folder, place | _settings(given, checkpoints))
    print(f"inputs:   {found.describe()}")
    job = _Job(_workers(given, network), rule, options, output)
    with _writing(folder):
        failures = _predict_images(images, job)
        lacking, more = _videos(videos, job)
        failures += more
        if view is not None:
            failures += _predict_volumes(volumes, job, view)
        if given.coco:
            names = {one.file: one.name for one in images}
            _write_coco(names, rule.classes, folder)
    report_results(failures, lacking, len(found.inputs), folder)


def _workers(given: argparse.Namespace, network: Ensemble) -> Workers:
    return Workers(network, find_devices(given.devices))


def _check_pictures(network: Ensemble, found: FoundInputs) -> None:
    try:
        network.trained.check_pictures()
    except InputError as error:
        raise InputError(f"{error} Found were {found.describe()}.") from error


def _view(given: argparse.Namespace, network: Ensemble) -> SliceView:
    if given.masks_at == "network":
        raise InputError(
            "the masks of volumes are always those of its voxels; leave out --masks_at network."
        )
    return view_of(network.trained, given.window)


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Work that writes: a full disk is one sentence, and what is finished stays."""
    try:
        with alone_in(folder):
            yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise InputError(
            f"cannot write into {folder}: {error.strerror}; what was finished before is kept, and "
            "the same command goes on from there once there is room."
        ) from error


def report_results(
    failures: Failures,
    lacking: Sequence[str],
    count: int,
    output: Path,
) -> None:
    """Say where the results are, and what is missing; exit code 1 if something is."""
    print(f"results:  {output}  ({count - len(failures)} of {count} inputs)")
    for failure in failures[:SHOWN]:
        print(f"error: {printable(failure.reason)}", file=sys.stderr)
    if len(failures) > SHOWN:
        print(f"error: and {len(failures) - SHOWN} more", file=sys.stderr)
    for text in lacking:
        print(f"incomplete: {printable(text)}", file=sys.stderr)
    if failures:
        print(
            f"{len(failures)} of {count} inputs could not be predicted, see above", file=sys.stderr
        )
    if failures or lacking:
        raise SystemExit(1)


def _predict_images(inputs: list[Input], job: _Job) -> Failures:
    if not inputs:
        return []
    table = job.table("predictions.csv", PICTURE_COLUMNS)
    made = image_results(job.folder, inputs, job.rule.classes, job.options)
    finished = job.output.finished(inputs, made, table)
    left = [one for one in inputs if one.file not in finished]
    if finished:
        print(f"{len(finished)} of {len(inputs)} pictures are done already")
    with WorkProgress("pictures", len(left)) as progress:
        work = job.workers, job.rule, job.options, job.output
        return predict_images(left, *work, table, progress.tick)


def _videos(
    inputs: list[Input],
    job: _Job,
) -> tuple[list[str], Failures]:
    """Predict videos; return what they lack in words, and those that could not be predicted."""
    lacking: list[str] = []

    def work(one: Input) -> str:
        total = Video(one.path).head.frames or None
        with WorkProgress(f"frames of {one.file}", total) as progress:
            missing = predict_video(
                one, job.workers, job.rule, job.options, job.folder, progress.tick
            )
        if missing:
            lacking.append(missing)
        return missing

    made = {one.file: video_files(job.folder, one) for one in inputs}
    finished = job.output.finished(inputs, dict(made), None)
    notes = [job.output.notes[file] for file in sorted(finished)]
    lacking += [note for note in notes if note]
    return lacking, _one_by_one(inputs, finished, work, job)


def _predict_volumes(
    inputs: list[Input],
    job: _Job,
    view: SliceView,
) -> Failures:
    table = job.table("volumes.csv", VOLUME_COLUMNS)

    def work(one: Input) -> str:
        with WorkProgress(f"slices of {one.file}", None) as progress:
            found = predict_volume(
                one, job.workers, job.rule, job.options, view, job.folder, progress.tick
            )
        table.add(found.rows)
        _warn(found.doubt)
        return found.doubt

    made: dict[str, Sequence[Path]] = {}
    for one in inputs:
        masks = mask_files(job.folder, one.name, job.rule.classes, ".nii.gz")
        made[one.file] = list(masks.values())
    finished = job.output.finished(inputs, made, table)
    for file in sorted(finished):
        _warn(job.output.notes[file])
    return _one_by_one(inputs, finished, work, job)


def _warn(doubt: str) -> None:
    if doubt:
        print(f"warning: {printable(doubt)}", file=sys.stderr)


def _one_by_one(
    inputs: Sequence[Input],
    finished: set[str],
    work: Callable[[Input], str],
    job: _Job,
) -> Failures:
    """Do what is not finished; whatever an input raises is its own failure, but a full disk ends
    all."""
    failures = []
    for one in inputs:
        if one.file in finished:
            print(f"{one.file} is done already")
            continue
        try:
            stamp = one.stamp()
            job.output.record(one, stamp, note=work(one))
        except Exception as error:
            if _is_full(error, one):
                raise
            failures.append(reading_failure(one.path, error))
    return failures


def _is_full(error: Exception, one: Input) -> bool:
    """Tell whether results cannot be written, rather than the input be read."""
    if not isinstance(error, OSError) or error.errno not in FULL:
        return False
    file = Path(str(error.filename or ""))
    return file != one.path and one.path not in file.parents


def _write_coco(
    names: dict[str, str],
    classes: Sequence[str],
    output: Path,
) -> None:
    """Write ``coco.json`` of all pictures in the table; names: file -> that of its results."""
    table = ResultTable(output / "predictions.csv", PICTURE_COLUMNS)
    confidence: dict[str, dict[str, float]] = {}
    for row in table.rows:
        confidence.setdefault(row["file"], {})[row["class"]] = float(row["confidence"])
    pictures = (
        (file, mask_files(output, names[file], classes), scores)
        for file, scores in confidence.items()
        if file in names  # others were inputs once
    )
    with whole(output / "coco.json") as part:
        part.write_text(json.dumps(coco_content(pictures, classes)), encoding="utf-8")


def _settings(
    given: argparse.Namespace,
    checkpoints: Sequence[Path],
) -> dict[str, Any]:
    """The settings that the results depend on besides the input."""
    digests = [hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in checkpoints]
    return {"checkpoints": digests} | {key: getattr(given, key) for key in SETTINGS}
