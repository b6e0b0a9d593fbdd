"""Videos to overlays: decoding and encoding in threads beside the network."""

import errno
import os
import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch

from lightning_seg.data.reading.conversion import COLOURS_LOST
from lightning_seg.data.reading.pictures import as_picture
from lightning_seg.errors import InputError
from lightning_seg.inference.inputs import Input
from lightning_seg.inference.label_maps import label_file, label_map
from lightning_seg.inference.mask_rule import MaskRule
from lightning_seg.inference.options import PredictOptions
from lightning_seg.inference.output_names import mask_files
from lightning_seg.inference.pictures import overlay, write_png
from lightning_seg.inference.pipeline import (
    Loaded,
    Probability,
    loaded,
    must_succeed,
    predicted,
)
from lightning_seg.inference.prediction import Prediction
from lightning_seg.inference.prefetch import in_background, prefetched
from lightning_seg.inference.results import ResultTable, Row
from lightning_seg.inference.workers import Workers

FRAME_COLUMNS = (
    "frame",
    "seconds",
    "class",
    "area",
    "share",
    "components",
    "confidence",
    "expected_dice",
)
_AHEAD = 16  # frames that are decoded, or drawn, beside the network


class VideoHead(NamedTuple):
    """The head of a video file."""

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
        self.head = VideoHead(
            int(get(cv2.CAP_PROP_FRAME_HEIGHT)),
            int(get(cv2.CAP_PROP_FRAME_WIDTH)),
            get(cv2.CAP_PROP_FPS) or 25.0,
            max(0, int(get(cv2.CAP_PROP_FRAME_COUNT))),
        )
        if not self._capture.isOpened() or 0 in self.head[:2]:
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
    """The overlays and the table of a video: ``videos/<name>.mp4`` (``.avi`` of an ``.avi``) and
    ``videos/<name>.csv``."""
    suffix = ".avi" if one.path.suffix.lower() == ".avi" else ".mp4"
    bare = folder / "videos" / one.name
    return bare.with_name(f"{bare.name}{suffix}"), bare.with_name(f"{bare.name}.csv")


def predict_video(
    one: Input,
    workers: Workers,
    rule: MaskRule,
    options: PredictOptions,
    folder: Path,
    tick: Callable[[], None] = lambda: None,
) -> str:
    """Write the frames with outlines as a video, and a table of frames; both appear when the video
    is complete.

    Args:
        tick: called after each frame.

    Returns what is missing, in words, where fewer frames can be decoded than the file says it has,
    and whether the network does not see its colours.
    """
    video = Video(one.path)
    target, listing = video_files(folder, one)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".part-{secrets.token_hex(4)}{target.suffix}")
    rows = part.with_suffix(".csv")
    try:
        table = ResultTable(rows, FRAME_COLUMNS)
        masks = one.name if options.frame_masks else None
        count, note = _write_video(video, part, table, workers, rule, options, tick, masks)
        if count == 0:
            raise InputError(
                f"{one.path} holds no frame that can be decoded; fetch or copy this file again."
            )
        part.replace(target)
        rows.replace(listing)
    finally:
        part.unlink(missing_ok=True)
        rows.unlink(missing_ok=True)
    return "; ".join(filter(None, (_missing(one.path, count, video.head.frames), note)))


def _missing(path: Path, decoded: int, claimed: int) -> str:
    if decoded >= claimed:
        return ""
    return (
        f"{path} says it has {claimed} frames, of which {decoded} could be decoded; the results "
        "are "
        "of these alone. If the video was cut off, fetch or copy it again."
    )


def _write_video(
    video: Video,
    target: Path,
    table: ResultTable,
    workers: Workers,
    rule: MaskRule,
    options: PredictOptions,
    tick: Callable[[], None],
    masks: str | None = None,
) -> tuple[int, str]:
    """The number of frames, and what is said of them; an OSError where they are not all in the
    file."""
    head, network = video.head, workers.first
    size = (head.width, head.height)
    writer = cv2.VideoWriter(str(target), _codec(target), head.per_second, size)

    def draw(outcome: tuple[Loaded, Probability]) -> list[Row]:
        item, probability = outcome
        prediction = rule(probability, item.size)
        drawn = _drawn_frame(_frame(item), prediction)
        if masks is not None:
            home = target.parents[masks.count("/")]  # the folder videos/
            _write_masks(home, f"{masks}/frame_{item.key:06d}", prediction, rule)
        writer.write(_of_size(cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR), size))
        return _frame_rows(item.key, item.key / head.per_second, prediction)

    count, note, form = 0, "", network.trained.picture

    def grey_or_coloured(frame: np.ndarray) -> np.ndarray:
        nonlocal note
        if not note and form.loses_colours(frame):
            note = f"{video.path}: {COLOURS_LOST}"
        return as_picture(frame, form.channels)

    frames = (grey_or_coloured(frame) for frame in in_background(video, _AHEAD))
    items = (
        loaded(video.path, number, frame, network, options, keep=True)
        for number, frame in enumerate(frames)
    )
    found = must_succeed(predicted(items, workers, options))
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
    return count, note


def _write_masks(home: Path, name: str, prediction: Prediction, rule: MaskRule) -> None:
    """Write the mask of each class of one frame, 0 and 255, as `mask_files` names them; of
    exclusive classes also their label map."""
    files = mask_files(home, name, rule.classes).values()
    for mask, file in zip(prediction.mask, files, strict=True):
        write_png(file, mask.astype(np.uint8) * 255)
    if rule.exclusive:
        write_png(label_file(home, name, ".png"), label_map(prediction.mask))


def _frame(item: Loaded) -> np.ndarray:
    assert item.picture is not None
    return item.picture


def _of_size(
    frame: np.ndarray,
    size: tuple[int, int],
) -> np.ndarray:
    """A frame at the size of the video; the encoder drops others, such as those at the network's
    size."""
    return frame if frame.shape[1::-1] == size else cv2.resize(frame, size)


def _codec(target: Path) -> int:
    return cv2.VideoWriter.fourcc(*("MJPG" if target.suffix == ".avi" else "mp4v"))


def _drawn_frame(frame: np.ndarray, prediction: Prediction) -> np.ndarray:
    height, width = prediction.mask.shape[1:]
    if frame.shape[:2] != (height, width):
        frame = cv2.resize(frame, (width, height)).reshape(height, width, -1)
    return overlay(torch.from_numpy(frame.transpose(2, 0, 1)), torch.from_numpy(prediction.mask))


def _frame_rows(
    number: int,
    seconds: float,
    prediction: Prediction,
) -> list[Row]:
    return [
        {
            "frame": number,
            "seconds": f"{seconds:.3f}",
            **found.columns(),
        }
        for found in prediction.findings()
    ]
