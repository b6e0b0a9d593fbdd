"""``lightning-seg predict --ckpt_path X --input Y --output DIR``: masks of anyone's pictures, videos and volumes."""

import argparse
import errno
import hashlib
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from lightning_seg.errors import InputError, one_sentence
from lightning_seg.files import whole
from lightning_seg.inference.ensemble import PRECISIONS, Ensemble, load_ensemble
from lightning_seg.inference.images import COLUMNS, Failure, Options, mask_files, predict_images
from lightning_seg.inference.inputs import (
    MAX_PIXELS,
    Input,
    allow_pixels,
    check_channels,
    find_inputs,
)
from lightning_seg.inference.mask_rule import MaskRule
from lightning_seg.inference.postprocess import STEPS
from lightning_seg.inference.progress import Progress
from lightning_seg.inference.results import Table, coco, open_folder
from lightning_seg.inference.tta import PASSES
from lightning_seg.inference.video import Video, predict_video, video_files
from lightning_seg.inference.volume import COLUMNS as VOLUME_COLUMNS
from lightning_seg.inference.volume import View, predict_volume, view_of, volume_files
from lightning_seg.inference.workers import Workers, find_devices
from lightning_seg.runs import find_checkpoint

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EROFS, errno.EPERM)


def main(args: list[str]) -> None:
    """Predict what ``--input`` names. Exit code 1 where some of it could not be, 2 for an error."""
    given = _parser().parse_args(args)
    output = Path(given.output)
    allow_pixels(given.max_pixels)
    options = Options(
        given.probabilities,
        given.overlays,
        given.tile,
        given.overlap,
        _batch_size(given.batch_size),
    )
    torch.set_float32_matmul_precision("high")  # as `test` computes
    checkpoints = [find_checkpoint(path) for path in given.ckpt_path]
    network = load_ensemble(checkpoints, given.tta, given.precision, given.trust_code)
    classes = network.trained.classes
    rule = MaskRule(
        classes,
        given.threshold,
        given.postprocess,
        given.masks_at == "native",
    )
    inputs = find_inputs(given.input, output)
    kinds = {
        kind: [one for one in inputs if one.kind in kind]
        for kind in ("image", "video", "volume dicom")
    }
    view = _view(given, network) if kinds["volume dicom"] else None
    workers = Workers(network, find_devices(given.devices))
    open_folder(output, _settings(given, checkpoints))
    try:
        failures = _images(kinds["image"], workers, rule, options, output)
        failures += _videos(kinds["video"], workers, rule, options, output)
        if view is not None:
            failures += _volumes(kinds["volume dicom"], workers, rule, options, view, output)
        if given.coco:
            _write_coco(kinds["image"], classes, output)
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise InputError(
            f"cannot write into {output}: {error.strerror}; what was finished before is kept, and the same command goes on "
            "from there once there is room."
        ) from error
    report(failures, len(inputs), output)


def _view(given: argparse.Namespace, network: Ensemble) -> View:
    if given.masks_at == "network":
        raise InputError(
            "the masks of volumes are always those of its voxels; leave out --masks_at network."
        )
    return view_of(network.trained, given.window)


def report(failures: Sequence[Failure], count: int, output: Path) -> None:
    """Where the results are, and what is missing; exit code 1 if something is."""
    print(f"results:  {output}  ({count - len(failures)} of {count} inputs)")
    for failure in failures:
        print(f"error: {failure.reason}", file=sys.stderr)
    if failures:
        print(
            f"{len(failures)} of {count} inputs could not be predicted, see above", file=sys.stderr
        )
        raise SystemExit(1)


def _images(
    inputs: list[Input], workers: Workers, rule: MaskRule, options: Options, output: Path
) -> list[Failure]:
    if not inputs:
        return []
    check_channels(workers.first.trained.in_channels)
    table = Table(output / "predictions.csv", COLUMNS)
    finished = done(
        inputs, table, rule.classes, lambda one: mask_files(output, one.name, rule.classes).values()
    )
    table.keep(finished)
    left = [one for one in inputs if one.file not in finished]
    if finished:
        print(f"{len(finished)} of {len(inputs)} pictures are done already")
    with Progress("pictures", len(left)) as progress:
        return predict_images(left, workers, rule, options, output, table, progress.tick)


def done(
    inputs: Sequence[Input],
    table: Table,
    classes: Sequence[str],
    masks: Callable[[Input], Iterable[Path]],
) -> set[str]:
    """The files whose rows and masks are all there, and which have not changed since."""
    listed: dict[str, set[str]] = {}
    for row in table.rows:
        listed.setdefault(row["file"], set()).add(row["class"])

    def is_done(one: Input) -> bool:
        changed = one.path.stat().st_mtime
        return listed.get(one.file) == set(classes) and all(
            mask.is_file() and mask.stat().st_mtime >= changed for mask in masks(one)
        )

    return {one.file for one in inputs if is_done(one)}


def _videos(
    inputs: list[Input], workers: Workers, rule: MaskRule, options: Options, output: Path
) -> list[Failure]:
    failures = []
    for one in inputs:
        if all(
            file.is_file() and file.stat().st_mtime >= one.path.stat().st_mtime
            for file in video_files(output, one)
        ):
            print(f"{one.file} is done already")
            continue
        try:
            with Progress(
                f"frames of {one.file}", Video(one.path).facts.frames or None
            ) as progress:
                predict_video(one, workers, rule, options, output, progress.tick)
        except InputError as error:
            failures.append(Failure(one.path, str(error)))
    return failures


def _volumes(
    inputs: list[Input],
    workers: Workers,
    rule: MaskRule,
    options: Options,
    view: View,
    output: Path,
) -> list[Failure]:
    table, failures = Table(output / "volumes.csv", VOLUME_COLUMNS), []
    finished = done(
        inputs,
        table,
        rule.classes,
        lambda one: volume_files(output, one.name, rule.classes).values(),
    )
    table.keep(finished)
    for one in inputs:
        if one.file in finished:
            print(f"{one.file} is done already")
            continue
        try:
            with Progress(f"slices of {one.file}", None) as progress:
                table.add(predict_volume(one, workers, rule, options, view, output, progress.tick))
        except InputError as error:
            failures.append(Failure(one.path, str(error)))
    return failures


def _write_coco(inputs: Sequence[Input], classes: Sequence[str], output: Path) -> None:
    """``coco.json`` of all pictures in the table."""
    table = Table(output / "predictions.csv", COLUMNS)
    confidence: dict[str, dict[str, float]] = {}
    for row in table.rows:
        confidence.setdefault(row["file"], {})[row["class"]] = float(row["confidence"])
    names = {one.file: one.name for one in inputs}
    pictures = (
        (file, mask_files(output, names[file], classes), scores)
        for file, scores in confidence.items()
    )
    with whole(output / "coco.json") as part:
        part.write_text(json.dumps(coco(pictures, classes)), encoding="utf-8")


def _settings(given: argparse.Namespace, checkpoints: Sequence[Path]) -> dict[str, Any]:
    """What the results depend on."""
    keys = (
        "tta",
        "threshold",
        "postprocess",
        "tile",
        "overlap",
        "masks_at",
        "precision",
        "probabilities",
        "overlays",
        "window",
    )
    digests = [hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in checkpoints]
    place = str(Path(given.input).expanduser().absolute())
    return {"input": place, "checkpoints": digests} | {key: getattr(given, key) for key in keys}


def _batch_size(text: str) -> int | None:
    if text != "auto" and not text.isdecimal():
        raise InputError(f"--batch_size is {text!r}; give auto, or a whole number from 1.")
    return None if text == "auto" else int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lightning-seg predict",
        description="Masks of pictures, videos and CT volumes. Without --input: of the test split of the checkpoint's data.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add(
        "--ckpt_path",
        action="append",
        required=True,
        help="a .ckpt file or the folder of a run; several: an ensemble",
    )
    add(
        "--input",
        required=True,
        help="a file, a folder and all below it, a DICOM folder, or a pattern in quotes",
    )
    add(
        "--output",
        required=True,
        help="folder of the results; what is finished in it is not done again",
    )
    add(
        "--probabilities",
        action="store_true",
        help="also maps of probability: PNG of 16 bits, 65535 is 1; NIfTI of float",
    )
    add("--overlays", action="store_true", help="also pictures with the outlines drawn in")
    add("--coco", action="store_true", help="also the contours of all pictures, coco.json")
    add("--tta", default="none", help=f"test-time augmentation: {', '.join(PASSES)}")
    add(
        "--threshold",
        type=float,
        default=0.5,
        help="a probability above it belongs to the mask (default 0.5)",
    )
    add(
        "--postprocess",
        default="",
        metavar="STEPS",
        help=f"a chain such as fill_holes,min_area=50, of {', '.join(STEPS)}",
    )
    add(
        "--masks_at",
        choices=("native", "network"),
        default="native",
        help="size of the masks: of the input, or as scored",
    )
    add(
        "--tile",
        type=int,
        metavar="N",
        help="predict windows of N pixels at the input's own resolution, and blend them",
    )
    add("--overlap", type=float, default=0.5, help="of neighbouring windows (default 0.5)")
    add(
        "--window",
        type=float,
        nargs=2,
        metavar=("LOW", "HIGH"),
        help="HU, where the checkpoint's data set has none",
    )
    add("--batch_size", default="auto", help="pictures at once (default: found)")
    add(
        "--devices",
        default="auto",
        help="such as cpu or cuda:0,cuda:1 (default: all GPUs, or the CPU)",
    )
    add(
        "--precision",
        default="32",
        help=f"{', '.join(PRECISIONS)}: mixed precision may move single pixels (default 32)",
    )
    add(
        "--trust_code",
        action="store_true",
        help="let a network outside lightning_seg, package.module:Class, run its code",
    )
    add(
        "--max_pixels",
        type=int,
        default=MAX_PIXELS,
        help=f"a larger picture is refused (default {MAX_PIXELS})",
    )
    return parser


if __name__ == "__main__":
    with one_sentence():
        main(sys.argv[1:])
