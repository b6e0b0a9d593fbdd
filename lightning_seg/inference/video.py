"""Videos to overlays: decoding and encoding in threads beside the network."""

import errno
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch

from lightning_seg.errors import InputError
from lightning_seg.inference.images import Options, predicted
from lightning_seg.inference.inputs import Input, as_picture
from lightning_seg.inference.mask_rule import MaskRule
from lightning_seg.inference.pictures import overlay
from lightning_seg.inference.prediction import Prediction
from lightning_seg.inference.prefetch import background, prefetched
from lightning_seg.inference.results import Row, Table
from lightning_seg.inference.workers import Workers

COLUMNS = ("frame", "seconds", "class", "area", "share", "components", "confidence")
_AHEAD = 16  # frames that are decoded, or drawn, beside the network


class Facts(NamedTuple):
    """What the head of a video says."""

    height: int
    width: int
    per_second: float
    frames: int  # 0 where it is not known, and a guess in many files


class Video:
    """The frames of a file, one after the other; InputError for a file that is no video."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._capture = cv2.VideoCapture(str(path))
        get = self._capture.get
        self.facts = Facts(
            int(get(cv2.CAP_PROP_FRAME_HEIGHT)),
            int(get(cv2.CAP_PROP_FRAME_WIDTH)),
            get(cv2.CAP_PROP_FPS) or 25.0,
            max(0, int(get(cv2.CAP_PROP_FRAME_COUNT))),
        )
        if not self._capture.isOpened() or 0 in self.facts[:2]:
            raise InputError(f"{path} is no readable video; fetch or copy this file again.")

    def __iter__(self) -> Iterator[np.ndarray]:
        """(H, W, 3) RGB uint8."""
        try:
            while True:
                there, frame = self._capture.read()
                if not there:
                    return
                yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
        finally:
            self._capture.release()


def video_files(folder: Path, one: Input) -> tuple[Path, Path]:
    """Where the overlays and the table of a video lie: ``videos/<name>.mp4`` (``.avi`` of an ``.avi``), ``videos/<name>.csv``."""
    suffix = ".avi" if one.path.suffix.lower() == ".avi" else ".mp4"
    bare = folder / "videos" / one.name
    return bare.with_name(f"{bare.name}{suffix}"), bare.with_name(f"{bare.name}.csv")


def predict_video(
    one: Input,
    workers: Workers,
    rule: MaskRule,
    options: Options,
    folder: Path,
    tick: Callable[[], None] = lambda: None,
) -> None:
    """Write the frames with outlines as a video, and a table of frames; both appear when the video is complete.

    Args:
        tick: called after each frame.
    """
    video = Video(one.path)
    target, listing = video_files(folder, one)
    target.parent.mkdir(parents=True, exist_ok=True)
    part, rows = (
        target.with_name(f".part-{target.name}"),
        listing.with_name(f".part-{listing.name}"),
    )
    try:
        rows.unlink(missing_ok=True)
        count = _write(video, part, Table(rows, COLUMNS), workers, rule, options, tick)
        if count == 0:
            raise InputError(
                f"{one.path} holds no frame that can be decoded; fetch or copy this file again."
            )
        part.replace(target)
        rows.replace(listing)
    finally:
        part.unlink(missing_ok=True)
        rows.unlink(missing_ok=True)


def _write(
    video: Video,
    target: Path,
    table: Table,
    workers: Workers,
    rule: MaskRule,
    options: Options,
    tick: Callable[[], None],
) -> int:
    """The number of frames; an OSError where they are not all in the file."""
    facts, channels = video.facts, workers.first.trained.in_channels
    writer = cv2.VideoWriter(
        str(target), _codec(target), facts.per_second, (facts.width, facts.height)
    )

    def draw(numbered: tuple[int, tuple[np.ndarray, np.ndarray]]) -> list[Row]:
        number, (frame, probability) = numbered
        prediction = rule(probability, frame.shape[:2])
        writer.write(cv2.cvtColor(_drawn(frame, prediction), cv2.COLOR_RGB2BGR))
        return _rows(number, number / facts.per_second, prediction)

    count = 0
    pictures = (as_picture(frame, channels) for frame in background(video, _AHEAD))
    found = enumerate(predicted(pictures, workers, options))
    with ThreadPoolExecutor(1) as thread:  # one: frames are encoded in their order
        try:
            for rows in prefetched(thread, draw, found, _AHEAD):
                table.add(rows)
                count += 1
                tick()
        finally:
            thread.shutdown()
            writer.release()
    if count and sum(1 for _ in Video(target)) != count:  # the encoder does not tell
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))
    return count


def _codec(target: Path) -> int:
    return cv2.VideoWriter.fourcc(*("MJPG" if target.suffix == ".avi" else "mp4v"))


def _drawn(frame: np.ndarray, prediction: Prediction) -> np.ndarray:
    return overlay(torch.from_numpy(frame.transpose(2, 0, 1)), torch.from_numpy(prediction.mask))


def _rows(number: int, seconds: float, prediction: Prediction) -> list[Row]:
    return [
        {
            "frame": number,
            "seconds": f"{seconds:.3f}",
            **found.columns(),
        }
        for found in prediction.findings()
    ]
