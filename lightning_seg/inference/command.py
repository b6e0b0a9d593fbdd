"""What ``lightning-seg predict`` does: every kind of input goes through one pipeline into one
folder of results."""

import argparse
import hashlib
import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from lightning_seg.errors import InputError, printable
from lightning_seg.files import whole, write_whole
from lightning_seg.inference.coco import coco_content
from lightning_seg.inference.device_work import (
    FULL,
    DeviceProcesses,
    DeviceWork,
    Kind,
    Piece,
    device_places,
    picture_portions,
    scan_portions,
)
from lightning_seg.inference.dicom_seg import require_highdicom
from lightning_seg.inference.ensemble import Ensemble
from lightning_seg.inference.images import PICTURE_COLUMNS, FinishedInput, image_results
from lightning_seg.inference.inputs import FoundInputs, Input, find_inputs
from lightning_seg.inference.label_maps import write_label_names
from lightning_seg.inference.look_first import FILE, uncalibrated_words, write_order
from lightning_seg.inference.options import HOLD_FOR, SETTINGS
from lightning_seg.inference.output_names import check_outputs_apart, mask_files, safe_path
from lightning_seg.inference.pictures import EXAMPLES
from lightning_seg.inference.pipeline import FailedInput
from lightning_seg.inference.progress import WorkProgress
from lightning_seg.inference.results import NAMES, OutputFolder, ResultTable, alone_in
from lightning_seg.inference.split import SheetCell, write_sheet
from lightning_seg.inference.video import video_files
from lightning_seg.inference.volume import VOLUME_COLUMNS
from lightning_seg.inference.volume_files import volume_results
from lightning_seg.runs import Run
from lightning_seg.runs.checkpoints import read_checkpoint
from lightning_seg.runs.naming import named_checkpoints, named_cross_validations
from lightning_seg.tables import count_text

GUARANTEE = "guarantee.txt"
SHOWN = 20  # failures that are named one by one
Failures = list[FailedInput]


class _Job:
    """What all inputs of one command share.

    Args:
        here: the work of this process.
        places: the devices, each of which gets a process where there are several.
        output: where the results lie.
    """

    def __init__(
        self,
        given: argparse.Namespace,
        checkpoints: Sequence[Path],
        here: DeviceWork,
        places: Sequence[str],
        output: OutputFolder,
    ) -> None:
        self.rule, self.options, self.output = here.rule, here.options, output
        self.folder, self.is_shared = output.path, len(places) > 1
        several = DeviceProcesses(given, checkpoints, here, places)
        self._crew = several if self.is_shared else here
        if self.rule.exclusive:
            write_label_names(output.path, self.rule.classes)
        self._checkpoints, self._calibrated = checkpoints, here.network.calibrated
        if here.guarantee_note:
            print(f"note: {here.guarantee_note}", file=sys.stderr)
        self._promise = [] if self.rule.guarantee is None else self.rule.guarantee.sentences()
        if self._promise:
            write_whole(output.path / GUARANTEE, ("\n".join(self._promise) + "\n").encode())

    def table(self, name: str, columns: Sequence[str]) -> ResultTable:
        """A table of the results."""
        return ResultTable(self.folder / name, columns)

    def say_of_pictures(self, table: ResultTable) -> None:
        """Which pictures to look at first, and what their contours promise."""
        first = write_order(table.read_rows(), self.folder)
        if first:
            contents = (read_checkpoint(file, weights=False) for file in self._checkpoints)
            doubt = "" if self._calibrated else f"; {uncalibrated_words(contents)}"
            print(f"look at these first (expected Dice{doubt}): {first}; all in order: {FILE}")
        for sentence in self._promise:
            print(f"guarantee: {sentence}")

    def do(self, kind: Kind, contents: Sequence[Any]) -> "closing[Any]":
        """A context with the outcomes of pieces of one kind, in their order."""
        return closing(self._crew.do([Piece(kind, content) for content in contents]))


def predict_command(given: argparse.Namespace) -> None:
    """Predict what the options of `read_arguments` name."""
    checkpoints, places = named_checkpoints(given), device_places(given.devices)
    _say_of_ensembles(given)
    here = DeviceWork(given, checkpoints, Path(given.output or ""), places[0])
    if given.input is None:
        here.folder = Path(given.output or _split_folder(checkpoints[0], given, here.network))
        _predict_split(given, checkpoints, here, places)
    else:
        _predict_input(given, checkpoints, here, places)


def _say_of_ensembles(given: argparse.Namespace) -> None:
    """Say that a cross-validation is an ensemble; InputError for the images that trained it."""
    for validation in named_cross_validations(given):
        print(f"network:  {validation.ensemble_text}; probabilities are averaged")
        if given.input is None and not given.data:
            raise InputError(
                f"{validation.folder} is an ensemble of networks, most of which were trained on "
                "each image of their data set; give other images with --input."
            )


def _predict_split(
    given: argparse.Namespace,
    checkpoints: Sequence[Path],
    here: DeviceWork,
    places: Sequence[str],
) -> None:
    source, folder = here.source, here.folder
    data = json.loads(json.dumps(given.data, default=str))
    place = {"input": source.describe(), "data": data}
    output = OutputFolder(folder, place | _settings(given, checkpoints))
    check_outputs_apart(source.ids, folder)
    scans, size = source.scans, here.options.batch_size
    portions = scan_portions(scans) if scans else picture_portions(source.ids, size)
    failures, cells = Failures(), list[SheetCell]()
    job = _Job(given, checkpoints, here, places, output)
    with _writing(folder), WorkProgress("images", len(source.ids)) as progress:
        table = job.table("predictions.csv", PICTURE_COLUMNS)
        table.keep(set())  # images of data sets have no stamp: all are predicted again
        with job.do("images", portions) as outcomes:
            for found in outcomes:
                if isinstance(found, FailedInput):
                    failures.append(found)
                else:
                    table.add(found.rows)
                    cells += [found.cell] if found.cell and len(cells) < EXAMPLES else []
                progress.tick()
        job.say_of_pictures(table)
        write_sheet(cells, bool(scans), folder / "contact_sheet.png")
        if given.coco:
            _write_coco({id: safe_path(id) for id in source.ids}, job.rule.classes, folder)
    print(f"images:         {source.describe()}{source.cautions()}")
    print(f"masks:          {folder / 'masks'}")
    print(f"contact sheet:  {folder / 'contact_sheet.png'}  (image, truth, prediction)")
    _print_engine(here)
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
    here: DeviceWork,
    places: Sequence[str],
) -> None:
    folder = here.folder
    found = find_inputs(given.input, folder)
    images = [one for one in found.inputs if one.kind == "image"]
    videos = [one for one in found.inputs if one.kind == "video"]
    volumes = [one for one in found.inputs if one.kind in ("volume", "dicom")]
    if volumes:
        _ = here.view  # an InputError before anything is done
    if given.dicom_seg and any(one.kind == "dicom" for one in volumes):
        require_highdicom()
    if images or videos:
        _check_pictures(here.network, found)
    place = {"input": str(Path(given.input).expanduser().absolute())}
    output = OutputFolder(folder, place | _settings(given, checkpoints))
    check_outputs_apart([one.name for one in found.inputs], folder)
    print(f"inputs:   {found.describe()}")
    for note in _unused(given, found):
        print(f"note: {note}", file=sys.stderr)
    job = _Job(given, checkpoints, here, places, output)
    with _writing(folder):
        failures = _predict_images(images, job)
        lacking, more = _predict_videos(videos, job)
        failures += more
        if volumes:
            failures += _predict_volumes(volumes, job)
        if given.coco and images:
            names = {one.file: one.name for one in images}
            _write_coco(names, job.rule.classes, folder)
    _print_engine(here)
    if given.profile:
        _print_profile(here, len(places))
    report_results(failures, lacking, len(found.inputs), folder)


def _unused(given: argparse.Namespace, found: FoundInputs) -> Iterator[str]:
    """Say which of the given options do nothing for some of the inputs."""
    for option, kinds in HOLD_FOR.items():
        others = [one for one in found.inputs if one.kind not in kinds]
        if others and getattr(given, option) not in (None, False, "native"):
            yield f"--{option} does nothing for {FoundInputs(others, Counter()).describe()}"


def _check_pictures(network: Ensemble, found: FoundInputs) -> None:
    try:
        network.trained.check_pictures()
    except InputError as error:
        raise InputError(f"{error} Found were {found.describe()}.") from error


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


def _print_engine(here: DeviceWork) -> None:
    for note in here.network.engine_notes:
        print(f"engine:   {note}")


def _print_profile(here: DeviceWork, processes: int) -> None:
    if processes > 1:
        print("note: --profile is of one process; give one of --devices", file=sys.stderr)
        return
    for line in here.workers.clock.lines():
        print(f"profile:  {line}")


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
    made = image_results(job.folder, inputs, job.rule, job.options)
    finished = job.output.finished(inputs, made, table)
    left = [one for one in inputs if one.file not in finished]
    if finished:
        print(f"{len(finished)} of {len(inputs)} pictures are done already")
    portions = picture_portions(left, job.options.batch_size)
    with (
        WorkProgress("pictures", len(left)) as progress,
        job.do("pictures", portions) as outcomes,
    ):
        failures = _enter(outcomes, job, table, progress)[1]
    job.say_of_pictures(table)
    _say_of_pictures([one.file for one in inputs], job.output.notes)
    return failures


def _say_of_pictures(files: Sequence[str], notes: Mapping[str, str]) -> None:
    """One line for each thing that is said of pictures."""
    for note in sorted({*filter(None, map(notes.get, files))}):
        told = [file for file in files if notes.get(file) == note]
        more = f" and {len(told) - 1} more" if len(told) > 1 else ""
        print(f"note: {printable(told[0])}{more}: {note}", file=sys.stderr)


def _predict_videos(inputs: list[Input], job: _Job) -> tuple[list[str], Failures]:
    """Predict videos; return what they lack in words, and those that could not be predicted."""
    made = {one.file: video_files(job.folder, one) for one in inputs}
    finished = job.output.finished(inputs, dict(made), None)
    lacking = [job.output.notes[file] for file in sorted(finished)]
    done, failures = _one_by_one("videos", inputs, finished, job, None)
    return [note for note in lacking + [one.note for one in done] if note], failures


def _predict_volumes(inputs: list[Input], job: _Job) -> Failures:
    table = job.table("volumes.csv", VOLUME_COLUMNS)
    made = volume_results(job.folder, inputs, job.rule, job.options)
    finished = job.output.finished(inputs, made, table)
    _warn_of_volumes([(one, job.output.notes[one.file]) for one in inputs if one.file in finished])
    done, failures = _one_by_one("volumes", inputs, finished, job, table)
    _warn_of_volumes([(volume.input, volume.note) for volume in done])
    return failures


def _warn_of_volumes(notes: Sequence[tuple[Input, str]]) -> None:
    """One line for each thing that is said of volumes."""
    alike: dict[str, list[str]] = {}
    for one, note in notes:
        alike.setdefault(note.replace(str(one.path), ""), []).append(note)
    for first, *more in filter(lambda notes: notes[0], alike.values()):
        _warn(first + (f" ({count_text(len(more), 'more volume')} alike)" if more else ""))


def _warn(doubt: str) -> None:
    if doubt:
        print(f"warning: {printable(doubt)}", file=sys.stderr)


def _one_by_one(
    kind: Kind, inputs: Sequence[Input], finished: set[str], job: _Job, table: ResultTable | None
) -> tuple[list[FinishedInput], Failures]:
    """Do what is not finished."""
    for one in inputs:
        if one.file in finished:
            print(f"{one.file} is done already")
    left = [one for one in inputs if one.file not in finished]
    with (
        WorkProgress(kind, len(left), job.is_shared) as progress,
        job.do(kind, left) as outcomes,
    ):
        return _enter(outcomes, job, table, progress)


def _enter(
    outcomes: Iterator[FinishedInput | FailedInput],
    job: _Job,
    table: ResultTable | None,
    progress: WorkProgress,
) -> tuple[list[FinishedInput], Failures]:
    """Enter what is finished into the tables as it comes."""
    done, failures = list[FinishedInput](), Failures()
    for found in outcomes:
        if isinstance(found, FailedInput):
            failures.append(found)
        else:
            if table is not None:
                table.add(found.rows)
            job.output.record(found.input, found.stamp, found.note)
            done.append(found._replace(rows=[]))
        progress.tick()
    return done, failures


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
    """The settings that the results depend on besides the input, and the names of the checkpoints."""
    digests = [hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in checkpoints]
    found = {key: getattr(given, key) for key in SETTINGS}
    # as results were written before there were these
    found |= {key: True for key in ("frame_masks", "dicom_seg") if getattr(given, key)}
    if given.engine == "torch":
        del found["engine"]
    return {"checkpoints": digests, NAMES: list(map(str, checkpoints))} | found
