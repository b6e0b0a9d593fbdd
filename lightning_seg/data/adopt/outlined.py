"""A folder of pictures with outlines: they are drawn into masks, one file a class and picture."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path, PureWindowsPath

import cv2
import numpy as np

from lightning_seg.data.adopt.annotations import DrawnPicture, read_drawings
from lightning_seg.data.adopt.division import divide
from lightning_seg.data.adopt.finding import AdoptedRow, FolderFinding, unique_ids
from lightning_seg.data.adopt.looks import header_size
from lightning_seg.data.adopt.names import file_stem, plain_identifier, split_named, words_of
from lightning_seg.data.adopt.survey import Survey
from lightning_seg.data.adopt.writing import kept, write_again
from lightning_seg.errors import InputError

_PROGRAMS = {"coco": "COCO", "labelme": "labelme", "cvat": "CVAT", "aperio": "Aperio ImageScope"}


def adopt_outlined(survey: Survey, masks: Path) -> FolderFinding | None:
    """Draw the outlines; None where they hold no area of a picture of the folder.

    Args:
        masks: the folder that takes the masks.
    """
    drawn, splits = _drawings(survey)
    classes = sorted({name for one in drawn.values() for name, _ in one.shapes})
    if not classes:
        for file in survey.polygons:
            survey.aside.add("annotations that hold no areas, but boxes, lines or points", file)
        return None
    columns = _column_names(classes)
    paths = list(drawn)
    ids = unique_ids(paths, [file_stem(path) for path in paths], survey.root)
    _check_masks(masks, ids)
    rows = {}
    for id, path in sorted(zip(ids, paths, strict=True)):
        rows[id] = AdoptedRow(path, _draw(id, path, drawn[path], columns, masks))
    hints = {id: splits[row.image] for id, row in rows.items() if splits.get(row.image)}
    places = {id: row.image for id, row in rows.items()}
    division = divide(places, survey.root, survey.tables, survey.lists, hints)
    empty = sum(not row.mask_files for row in rows.values())
    options = {"negatives": True} if empty else {}
    for path in survey.pictures:
        if path not in drawn:
            survey.aside.add("pictures that no outlines name", path)
    notes = _notes(survey, drawn, masks, empty)
    names = tuple(columns.values())
    return FolderFinding("folder", rows, names, options, division, notes, survey.aside)


def _check_masks(folder: Path, ids: list[str]) -> None:
    """InputError for a folder that holds other files than masks which a kill has left."""
    files = [file for file in folder.rglob("*") if file.is_file() and file.suffix != ".part"]
    if {file.name for file in files} - {f"{id}.png" for id in ids}:
        raise kept(folder)


def _column_names(classes: list[str]) -> dict[str, str]:
    """Name in the files -> class; InputError where two become one."""
    if len(classes) == 1:
        return {classes[0]: plain_identifier(classes[0], "foreground")}
    names = {name: plain_identifier(name, f"class_{i}") for i, name in enumerate(classes)}
    if len({*names.values()}) < len(names):
        raise InputError(
            f"the outlines name {', '.join(classes)}, of which some differ only in their signs; "
            "rename them in the program that wrote them."
        )
    return names


def _drawings(survey: Survey) -> tuple[dict[Path, DrawnPicture], dict[Path, str]]:
    """Picture -> all that is drawn about it, and the split that a file says."""
    by_name: dict[str, list[Path]] = defaultdict(list)
    by_stem: dict[str, list[Path]] = defaultdict(list)
    for path in survey.pictures:
        by_name[path.name].append(path)
        by_stem[file_stem(path)].append(path)
    drawn: dict[Path, DrawnPicture] = {}
    splits: dict[Path, str] = {}
    for file, program in survey.polygons.items():
        for one in read_drawings(file, program):
            name = PureWindowsPath(one.picture).name
            known = by_stem[one.picture] if program == "aperio" else by_name[name]
            picture = _nearest_picture(known, file, one.picture)
            if picture is None:
                survey.aside.add("outlines of pictures that are not there", Path(one.picture))
                continue
            mine = drawn.setdefault(picture, DrawnPicture(one.picture))
            mine.shapes += one.shapes
            mine.boxes += one.boxes
            told = split_named(words_of(one.split)) or split_named(words_of(file.stem))
            splits[picture] = splits.get(picture) or told
    return drawn, splits


def _nearest_picture(known: list[Path], file: Path, name: str) -> Path | None:
    """Of several pictures of one name that which lies as the file says, or nearest to it."""
    if len(known) < 2:
        return known[0] if known else None
    as_told = [path for path in known if path.as_posix().endswith(PureWindowsPath(name).as_posix())]
    chosen = as_told if len(as_told) == 1 else known
    return max(chosen, key=lambda path: _shared_parts(path, file))


def _shared_parts(path: Path, file: Path) -> int:
    pairs = zip(path.parent.parts, file.parent.parts, strict=False)
    return sum(a == b for a, b in pairs)


def _draw(
    id: str,
    path: Path,
    drawn: DrawnPicture,
    columns: Mapping[str, str],
    masks: Path,
) -> dict[str, tuple[Path, ...]]:
    """Write the masks of one picture; a class without an area has none."""
    size = header_size(path)
    if size is None:
        raise InputError(f"{path} cannot be decoded; fetch or copy this file again.")
    several = len(columns) > 1
    files: dict[str, tuple[Path, ...]] = {}
    for name, column in columns.items():
        areas = [paint(size) for label, paint in drawn.shapes if label == name]
        key = column if several else ""
        files[key] = ()
        if areas:
            file = masks / column / f"{id}.png" if several else masks / f"{id}.png"
            mask = np.max(areas, axis=0) * 255
            write_again(file, cv2.imencode(".png", mask)[1].tobytes())
            files[key] = (file,)
    return files


def _notes(
    survey: Survey,
    drawn: Mapping[Path, DrawnPicture],
    masks: Path,
    empty: int,
) -> list[str]:
    programs = Counter(_PROGRAMS[program] for program in survey.polygons.values())
    listing = ", ".join(f"{count} of {name}" for name, count in programs.items())
    shapes = sum(len(one.shapes) for one in drawn.values())
    boxes = sum(one.boxes for one in drawn.values())
    notes = [
        f"files of outlines ({listing}) with {shapes} areas in {len(drawn)} pictures; "
        f"drawn as masks into {masks}"
    ]
    if boxes:
        notes.append(f"{boxes} boxes, lines or points mark no area and are left out")
    if empty:
        notes.append(f"{empty} pictures are listed without an area: without foreground")
    return notes
