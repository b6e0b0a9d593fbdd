"""What predicts the pieces of a command: this process with its device, or one process for each of
several devices."""

import argparse
import errno
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch

from lightning_seg.data.reading.pictures import allow_pixels
from lightning_seg.data.side_processes import SideProcesses
from lightning_seg.errors import InputError
from lightning_seg.inference.ensemble import Trained, load_ensemble
from lightning_seg.inference.images import FinishedInput, finished_pictures, reading_failure
from lightning_seg.inference.inputs import Input
from lightning_seg.inference.mask_rule import MaskRule
from lightning_seg.inference.options import PredictOptions, predict_options
from lightning_seg.inference.pipeline import FailedInput
from lightning_seg.inference.prefetch import prefetched
from lightning_seg.inference.progress import WorkProgress
from lightning_seg.inference.split import DataSplit, finished_images, open_split
from lightning_seg.inference.video import Video, predict_video
from lightning_seg.inference.volume import SliceView, VolumeResult, predict_volume, view_of
from lightning_seg.inference.workers import Workers, find_devices
from lightning_seg.runs.chosen_threshold import resolve_threshold
from lightning_seg.runs.guarantees import probabilities_otherwise, usable_guarantee

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EROFS, errno.EPERM)
PORTION = 256  # pictures that one process takes at a time, at least
Kind = Literal["pictures", "videos", "volumes", "images"]


class Piece(NamedTuple):
    """What one process takes at a time: some pictures, a video, a volume, or ids of a split."""

    kind: Kind
    content: Any


class DeviceWork:
    """The work of one process with its device: from pieces to results on disk.

    Args:
        given: the options of the command.
        checkpoints: of the networks.
        folder: of the results; what stands in tables is returned instead.
        place: the device, as `find_devices` takes it.
        shows: whether progress within a video or volume is printed.
    """

    def __init__(
        self,
        given: argparse.Namespace,
        checkpoints: Sequence[Path],
        folder: Path,
        place: str,
        shows: bool = True,
    ) -> None:
        allow_pixels(given.max_pixels)
        torch.set_float32_matmul_precision("high")  # as `test` computes
        options = predict_options(given)
        network = load_ensemble(
            checkpoints, given.tta, given.precision, given.trust_code, given.engine
        )
        if "size" in given.data:
            network.trained = network.trained._replace(size=given.data["size"])
        self.options = _as_trained(options, network.trained)
        guarantee, self.guarantee_note = usable_guarantee(
            checkpoints, _otherwise(given, self.options, network.trained)
        )
        self.rule = replace(_mask_rule(given, checkpoints, network.trained), guarantee=guarantee)
        given.tile, given.overlap = self.options.tile, self.options.overlap
        self.network, self.folder = network, folder
        self._given, self._checkpoints = given, checkpoints
        self._place, self._shows = place, shows

    @cached_property
    def source(self) -> DataSplit:
        """The split of the checkpoint's data that is to be predicted."""
        return open_split(self._checkpoints[0], self._given.split, self._given.data)

    @cached_property
    def view(self) -> SliceView:
        """The way from slices of volumes to pictures."""
        if self._given.masks_at == "network":
            raise InputError(
                "the masks of volumes are always those of its voxels; leave out --masks_at network."
            )
        return view_of(self.network.trained, self._given.window)

    @cached_property
    def workers(self) -> Workers:
        """The networks on the device."""
        return Workers(self.network, find_devices(self._place))

    def do(self, pieces: Sequence[Piece]) -> Iterator[Any]:
        """The outcomes of pieces of one kind, in order: what was finished, or a `FailedInput`.

        An OSError where the results cannot be written.
        """
        if pieces:
            yield from getattr(self, f"_{pieces[0].kind}")([piece.content for piece in pieces])

    def _pictures(self, portions: Sequence[Sequence[Input]]) -> Iterator[Any]:
        return finished_pictures(portions, self.workers, self.rule, self.options, self.folder)

    def _images(self, portions: Sequence[Sequence[str]]) -> Iterator[Any]:
        setting = self.workers, self.rule, self.options, self.folder
        for ids in portions:
            yield from finished_images(self.source, ids, *setting)

    def _videos(self, inputs: Sequence[Input]) -> Iterator[Any]:
        return map(self._attempt, inputs)

    _volumes = _videos

    def _attempt(self, one: Input) -> FinishedInput | FailedInput:
        """Whatever an input raises is its own failure, but a full disk ends all."""
        try:
            stamp = one.stamp()
            rows, note = self._video(one) if one.kind == "video" else self._volume(one)
            return FinishedInput(one, stamp, rows, note)
        except Exception as error:
            if _is_full(error, one):
                raise
            return reading_failure(one.path, error)

    def _video(self, one: Input) -> tuple[list[Any], str]:
        total = Video(one.path).head.frames or None
        setting = self.workers, self.rule, self.options, self.folder
        with WorkProgress(f"frames of {one.file}", total, self._shows) as progress:
            return [], predict_video(one, *setting, progress.tick)

    def _volume(self, one: Input) -> VolumeResult:
        setting = self.workers, self.rule, self.options, self.view, self.folder
        with WorkProgress(f"slices of {one.file}", None, self._shows) as progress:
            return predict_volume(one, *setting, progress.tick)


def _mask_rule(
    given: argparse.Namespace, checkpoints: Sequence[Path], trained: Trained
) -> MaskRule:
    given.threshold = resolve_threshold(given.threshold, checkpoints)
    native, cut, steps = given.masks_at == "native", given.threshold, given.postprocess
    return MaskRule(trained.classes, cut, steps, native, trained.exclusive)


def _otherwise(given: argparse.Namespace, options: PredictOptions, trained: Trained) -> list[str]:
    """How the options make other masks than a guarantee is of, in words."""
    return [
        *probabilities_otherwise(given.tta, given.precision),
        *(["at another data.size"] if "size" in given.data else []),
        *([f"in windows of {options.tile} pixels"] if options.tile != trained.crop else []),
        *(["at the network's size"] if given.masks_at == "network" else []),
    ]


def _as_trained(options: PredictOptions, trained: Trained) -> PredictOptions:
    """The options with the windows of the training where none are given."""
    if options.tile is None:
        options = replace(options, tile=trained.crop)
    if options.overlap is None:
        options = replace(options, overlap=trained.crop_overlap)
    return options


def _is_full(error: Exception, one: Input) -> bool:
    """Tell whether results cannot be written, rather than the input be read."""
    if not isinstance(error, OSError) or error.errno not in FULL:
        return False
    file = Path(str(error.filename or ""))
    return file != one.path and one.path not in file.parents


class DeviceProcesses:
    """One process for each of several devices; they share the pieces of a command.

    Args:
        given: the options of the command.
        checkpoints: of the networks.
        here: the work of this process, which does a single piece.
        places: the devices, each as `find_devices` takes it.
    """

    def __init__(
        self,
        given: argparse.Namespace,
        checkpoints: Sequence[Path],
        here: DeviceWork,
        places: Sequence[str],
    ) -> None:
        self._here, self._places = here, places
        self._common = given, checkpoints, here.folder

    def do(self, pieces: Sequence[Piece]) -> Iterator[Any]:
        """The outcomes of pieces, as `DeviceWork.do` gives them.

        The processes end with this generator, which is to be closed where it is left early.
        """
        places = self._places[: len(pieces)]
        if len(places) < 2:
            yield from self._here.do(pieces)
            return
        threads = max(1, torch.get_num_threads() // len(places))
        arguments = [(*self._common, place, threads) for place in places]
        # the threads wait for the processes, which therefore end first
        with (
            ThreadPoolExecutor(len(places)) as pool,
            SideProcesses(_device_worker, arguments) as processes,
        ):
            for found in prefetched(pool, processes, pieces, 2 * len(places)):
                yield from found


def _device_worker(
    given: argparse.Namespace, checkpoints: Sequence[Path], folder: Path, place: str, threads: int
) -> Any:
    """What a process does with a piece."""
    torch.set_num_threads(threads)
    if place.startswith("cuda"):
        torch.cuda.set_device(place)
    work = DeviceWork(given, checkpoints, folder, place, shows=False)
    return lambda piece: list(work.do([piece]))


def device_places(text: str) -> list[str]:
    """``--devices`` as the devices of one process each; InputError for one that is not there.

    All threads of the CPU are of one process; ``cpu,cpu`` are two.
    """
    devices = find_devices(text)
    return ["cpu"] if text in ("auto", "cpu") and devices[0].type == "cpu" else [*map(str, devices)]


def picture_portions(items: Sequence[Any], batch_size: int | None) -> list[Sequence[Any]]:
    """Neighbours that one process predicts: whole batches, so that their number changes none."""
    size = batch_size or 1
    length = size * math.ceil(PORTION / size)
    return [items[start : start + length] for start in range(0, len(items), length)]


def scan_portions(scans: Sequence[Sequence[str]]) -> list[Sequence[str]]:
    """Neighbouring scans together, as the ids of their slices; no scan is divided."""
    portions: list[list[str]] = [[]]
    for slices in scans:
        if len(portions[-1]) >= PORTION:
            portions.append([])
        portions[-1] += slices
    return [*filter(None, portions)]
