"""The folder of results: a table that grows by whole rows, settings that a restart must share, pictures, contours as COCO."""

import csv
import errno
import io
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from lightning_seg.errors import InputError
from lightning_seg.files import whole

Row = dict[str, Any]


class Table:
    """A CSV file to which groups of rows are added, each group whole or not at all; what stands in it is kept.

    Args:
        path: of the file; it is made with the first rows.
        columns: its first line.
    """

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self.path, self.columns = path, list(columns)
        self.rows: list[dict[str, str]] = []
        if path.exists():
            text = path.read_text(encoding="utf-8")
            whole = text[: text.rfind("\n") + 1]  # a line cut off by a kill is done again
            if whole != text:
                os.truncate(path, len(whole.encode()))
            self.rows = list(csv.DictReader(io.StringIO(whole)))

    def keep(self, files: set[str]) -> None:
        """Remove the rows of all other files."""
        kept = [row for row in self.rows if row["file"] in files]
        if len(kept) == len(self.rows):
            return
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(kept)
        with whole(self.path) as part:
            part.write_text(text.getvalue(), encoding="utf-8")
        self.rows = kept

    def add(self, rows: Iterable[Row]) -> None:
        """Append rows; an OSError leaves the file as it was."""
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns, lineterminator="\n")
        with open(self.path, "ab", buffering=0) as file:
            size = file.tell()
            if size == 0:
                writer.writeheader()
            writer.writerows(rows)
            content = text.getvalue().encode()
            try:
                written = file.write(content)
                if written != len(content):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
            except OSError:
                file.truncate(size)
                raise


def open_folder(folder: Path, settings: dict[str, Any]) -> None:
    """Make the folder of results, with the settings in it; InputError where it cannot be, or holds those of others."""
    file = folder / "settings.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if file.exists():
            _check_same(json.loads(file.read_text(encoding="utf-8")), settings, folder)
        with whole(file) as part:
            part.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
    except json.JSONDecodeError as error:
        raise InputError(
            f"{file} is damaged; remove {folder}, or give another --output."
        ) from error
    except OSError as error:
        raise InputError(
            f"cannot write into the output {str(folder)!r}: {error.strerror}; give another --output."
        ) from error


def _check_same(old: dict[str, Any], new: dict[str, Any], folder: Path) -> None:
    for key in old.keys() | new.keys():
        if old.get(key) != new.get(key):
            raise InputError(
                f"{str(folder)!r} holds results made with {key} = {old.get(key)!r}, not {new.get(key)!r}; give another "
                "--output, or the same settings to go on."
            )


def coco(
    pictures: Iterable[tuple[str, dict[str, Path], dict[str, float]]], classes: Sequence[str]
) -> dict[str, Any]:
    """Annotations in COCO's format, one for each connected part of each mask.

    Args:
        pictures: file name, class -> its mask as PNG, class -> confidence, which is the ``score`` of its annotations.
        classes: names of the categories, numbered from 1.
    """
    images: list[Row] = []
    annotations: list[Row] = []
    for number, (name, masks, confidence) in enumerate(pictures, start=1):
        size: tuple[int, ...] = (0, 0)
        for category, label in enumerate(classes, start=1):
            mask = read_mask(masks[label])
            size = mask.shape
            for part in contours(mask):
                ids = {"id": len(annotations) + 1, "image_id": number, "category_id": category}
                annotations.append(ids | part | {"iscrowd": 0, "score": confidence[label]})
        images.append({"id": number, "file_name": name, "height": size[0], "width": size[1]})
    categories = [{"id": number, "name": label} for number, label in enumerate(classes, start=1)]
    return {"images": images, "categories": categories, "annotations": annotations}


def contours(mask: np.ndarray) -> list[Row]:
    """segmentation, area and bbox of each connected part of a mask (H, W), as COCO has them, in pixels from the corner.

    The segmentation is a polygon along the edges of pixels, and encloses exactly the mask. Of a part with holes, which a
    polygon of COCO cannot have, it is a run-length encoding.
    """
    _count, labels, boxes, _ = cv2.connectedComponentsWithStats(
        mask.astype(np.uint8), connectivity=8
    )
    found = []
    for label, (x, y, width, height, area) in enumerate(boxes[1:].tolist(), start=1):
        part = labels[y : y + height, x : x + width] == label
        doubled = (
            part.repeat(2, 0).repeat(2, 1).astype(np.uint8)
        )  # of a pixel's two halves one lies on either edge
        outlines, _tree = cv2.findContours(doubled, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
        if len(outlines) == 1:
            corners = (outlines[0][:, 0] + 1) // 2 + (x, y)
            shape: Any = [_without_repeats(corners).ravel().tolist()]
        else:
            whole = np.zeros(mask.shape, bool)
            whole[y : y + height, x : x + width] = part
            shape = {"size": list(mask.shape), "counts": run_lengths(whole)}
        found.append({"segmentation": shape, "area": area, "bbox": [x, y, width, height]})
    return found


def _without_repeats(corners: np.ndarray) -> np.ndarray:
    """(N, 2) without points equal to the one before."""
    return corners[(corners != np.roll(corners, 1, axis=0)).any(1)]


def read_mask(path: Path) -> np.ndarray:
    """(H, W) bool of a mask that was written as PNG."""
    picture = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_GRAYSCALE)
    return np.asarray(picture) > 0


def run_lengths(mask: np.ndarray) -> list[int]:
    """The lengths of runs of 0, 1, 0, ... down the columns of a mask (H, W): COCO's uncompressed encoding."""
    flat = np.concatenate([[False], mask.ravel(order="F")])
    starts = np.flatnonzero(flat[1:] != flat[:-1])
    return np.diff([0, *starts, mask.size]).tolist()
