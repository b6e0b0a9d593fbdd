"""Masks as COCO has them: polygons along the edges of pixels, or run lengths."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

Row = dict[str, Any]


def coco_content(
    pictures: Iterable[tuple[str, dict[str, Path], dict[str, float]]],
    classes: Sequence[str],
) -> dict[str, Any]:
    """Annotations in COCO's format, one for each connected part of each mask.

    Args:
        pictures: file name, class -> its mask as PNG, class -> confidence, which is the ``score``
            of its annotations.
        classes: names of the categories, numbered from 1.
    """
    images: list[Row] = []
    annotations: list[Row] = []
    for number, (name, masks, confidence) in enumerate(pictures, start=1):
        size: tuple[int, ...] = (0, 0)
        for category, label in enumerate(classes, start=1):
            mask = read_mask_file(masks[label])
            size = mask.shape
            for part in contours(mask):
                ids = {"id": len(annotations) + 1, "image_id": number, "category_id": category}
                annotations.append(ids | part | {"iscrowd": 0, "score": confidence[label]})
        images.append({"id": number, "file_name": name, "height": size[0], "width": size[1]})
    categories = [{"id": number, "name": label} for number, label in enumerate(classes, start=1)]
    return {"images": images, "categories": categories, "annotations": annotations}


def contours(mask: np.ndarray) -> list[Row]:
    """segmentation, area and bbox of each connected part of a mask (H, W), as COCO has them, in
    pixels from the corner.

    The segmentation is a polygon along the edges of pixels, and encloses exactly the mask. Of a
    part with holes, which a polygon of COCO cannot have, it is a run-length encoding.
    """
    _count, labels, boxes, _ = cv2.connectedComponentsWithStats(
        mask.astype(np.uint8), connectivity=8
    )
    found = []
    for label, (x, y, width, height, area) in enumerate(boxes[1:].tolist(), start=1):
        part = labels[y : y + height, x : x + width] == label
        # of a pixel's two halves one lies on either edge
        doubled = part.repeat(2, 0).repeat(2, 1).astype(np.uint8)
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


def read_mask_file(path: Path) -> np.ndarray:
    """(H, W) bool of a mask that was written as PNG."""
    picture = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_GRAYSCALE)
    return np.asarray(picture) > 0


def run_lengths(mask: np.ndarray) -> list[int]:
    """The lengths of runs of 0, 1, 0, ... down the columns of a mask (H, W): COCO's uncompressed
    encoding."""
    flat = np.concatenate([[False], mask.ravel(order="F")])
    starts = np.flatnonzero(flat[1:] != flat[:-1])
    return np.diff([0, *starts, mask.size]).tolist()
