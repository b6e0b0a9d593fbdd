"""Outlines that annotation programs wrote: COCO, labelme, CVAT and Aperio ImageScope.

Each file becomes drawings of named pictures. Polygons, ellipses and masks count; boxes, lines and
points mark no area and are counted as left out.
"""

import base64
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath
from typing import Any
from xml.etree import ElementTree

import numpy as np
from PIL import Image

from lightning_seg.data.reading.outlines import outlines, rasterise
from lightning_seg.errors import InputError

Painter = Callable[[tuple[int, int]], np.ndarray]  # (height, width) -> (H, W) uint8 in {0, 1}
_CORNERS = 72  # of the polygon that stands for an ellipse


@dataclass
class DrawnPicture:
    """What one file draws about one picture.

    Attributes:
        picture: its name as the file has it.
        shapes: class and area of each object.
        split: as the file says; '' where it does not.
        boxes: marks that are no areas.
    """

    picture: str
    shapes: list[tuple[str, Painter]] = field(default_factory=list)
    split: str = ""
    boxes: int = 0


def read_drawings(path: Path, program: str) -> list[DrawnPicture]:
    """The drawings of a file; InputError for one that cannot be read."""
    readers = {"coco": _coco, "labelme": _labelme, "cvat": _cvat, "aperio": _aperio}
    try:
        return list(readers[program](path))
    except InputError:
        raise
    except (KeyError, ValueError, TypeError, IndexError, ElementTree.ParseError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise InputError(
            f"{path} holds no readable outlines ({reason}); export it again."
        ) from error


def _polygon(points: Any) -> Painter:
    corners = np.asarray(points, np.float64).reshape(-1, 2)
    return lambda shape: rasterise([corners], shape)


def _ellipse(centre: tuple[float, float], radii: tuple[float, float]) -> Painter:
    turn = np.linspace(0, 2 * np.pi, _CORNERS, endpoint=False)
    circle = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    return _polygon(np.array(centre) + circle * np.array(radii))


def _patch(patch: np.ndarray, left: int, top: int) -> Painter:
    """A small mask at its place."""

    def paint(shape: tuple[int, int]) -> np.ndarray:
        mask = np.zeros(shape, np.uint8)
        window = mask[max(top, 0) : top + patch.shape[0], max(left, 0) : left + patch.shape[1]]
        window |= patch[max(-top, 0) :, max(-left, 0) :][: window.shape[0], : window.shape[1]]
        return mask

    return paint


def _runs(counts: list[int], height: int, width: int, order: Any) -> np.ndarray:
    """Alternating lengths of background and foreground as a mask."""
    values = np.repeat(np.arange(len(counts)) % 2, counts)
    if values.size != height * width:
        raise ValueError(f"runs of {values.size} pixels for {width} x {height}")
    return values.reshape((height, width), order=order).astype(np.uint8)


def _coco(path: Path) -> Iterator[DrawnPicture]:
    content = json.loads(path.read_text(encoding="utf-8-sig"))
    names = {entry["id"]: str(entry["name"]) for entry in content["categories"]}
    found = {entry["id"]: DrawnPicture(str(entry["file_name"])) for entry in content["images"]}
    for entry in content["annotations"]:
        drawn = found.get(entry["image_id"])
        if drawn is None:
            continue
        area = entry.get("segmentation")
        if not area:
            drawn.boxes += 1
            continue
        name = names[entry["category_id"]]
        if isinstance(area, dict):
            drawn.shapes.append((name, _coco_runs(area, path)))
        else:
            drawn.shapes += [(name, _polygon(points)) for points in area]
    yield from found.values()


def _coco_runs(area: dict[str, Any], path: Path) -> Painter:
    height, width = (int(side) for side in area["size"])
    counts = area["counts"]
    if isinstance(counts, list):
        return _patch(_runs(counts, height, width, "F"), 0, 0)
    try:
        from pycocotools import mask as coco_mask
    except ImportError:
        raise InputError(
            f"{path} holds compressed masks, which pycocotools reads: pip install pycocotools."
        ) from None
    return _patch(coco_mask.decode(area), 0, 0)


def _labelme(path: Path) -> Iterator[DrawnPicture]:
    content = json.loads(path.read_text(encoding="utf-8-sig"))
    name = PureWindowsPath(content["imagePath"]).name
    drawn = DrawnPicture(str(path.parent / name))
    for shape in content["shapes"]:
        painter = _labelme_area(shape)
        if painter is None:
            drawn.boxes += 1
        else:
            drawn.shapes.append((str(shape["label"]), painter))
    yield drawn


def _labelme_area(shape: dict[str, Any]) -> Painter | None:
    kind, points = shape.get("shape_type") or "polygon", shape["points"]
    if kind == "polygon":
        return _polygon(points)
    if kind == "circle":
        radius = float(np.hypot(*np.subtract(points[1], points[0])))
        return _ellipse(tuple(points[0]), (radius, radius))
    if kind == "mask":
        with Image.open(io.BytesIO(base64.b64decode(shape["mask"])), formats=("PNG",)) as picture:
            patch = (np.array(picture.convert("L")) > 0).astype(np.uint8)
        return _patch(patch, round(points[0][0]), round(points[0][1]))
    return None


def _cvat(path: Path) -> Iterator[DrawnPicture]:
    for image in ElementTree.parse(path).getroot().iter("image"):
        drawn = DrawnPicture(image.attrib["name"], split=image.attrib.get("subset", ""))
        for shape in image:
            painter = _cvat_area(shape)
            if painter is not None:
                drawn.shapes.append((shape.attrib["label"], painter))
            elif shape.tag != "tag":
                drawn.boxes += 1
        yield drawn


def _cvat_area(shape: ElementTree.Element) -> Painter | None:
    at = shape.attrib
    if shape.tag == "polygon":
        return _polygon([[float(x) for x in pair.split(",")] for pair in at["points"].split(";")])
    if shape.tag == "ellipse":
        numbers = [float(at[name]) for name in ("cx", "cy", "rx", "ry")]
        return _ellipse((numbers[0], numbers[1]), (numbers[2], numbers[3]))
    if shape.tag == "mask":
        counts = [int(count) for count in at["rle"].split(",")]
        patch = _runs(counts, int(at["height"]), int(at["width"]), "C")
        return _patch(patch, int(at["left"]), int(at["top"]))
    return None


def _aperio(path: Path) -> Iterator[DrawnPicture]:
    shapes = [("foreground", _polygon(corners)) for corners in outlines(path)]
    yield DrawnPicture(path.stem, shapes)
