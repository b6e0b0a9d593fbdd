"""Which files a folder holds, by kind, and which of them bear names of one pattern."""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

from lightning_seg.data.adopt.names import (
    file_stem,
    folder_words,
    frequent_words,
    general_name,
    name_pattern,
    split_named,
    words_of,
)
from lightning_seg.data.reading.folders import Aside, walk_files
from lightning_seg.data.reading.pictures import is_picture

_TABLES = (".csv", ".tsv")
_LISTS = (".txt", ".lst")
_DESCRIPTION = "description"  # of scans, as of the Medical Segmentation Decathlon
_SERIES = 3  # DICOM files in one folder that make a series; fewer are pictures of their own


@dataclass
class Survey:
    """The files below a folder.

    Attributes:
        series: folders of DICOM slices.
        polygons: file -> the program whose outlines it holds: coco, labelme, cvat, aperio.
        tables: files of columns, which may say more of each picture.
        lists: files of lines named after a split, such as train.txt.
        descriptions: dataset.json, which names the labels of scans.
        aside: what is used for nothing, and why.
    """

    root: Path
    pictures: list[Path] = field(default_factory=list)
    volumes: list[Path] = field(default_factory=list)
    series: list[Path] = field(default_factory=list)
    polygons: dict[Path, str] = field(default_factory=dict)
    tables: list[Path] = field(default_factory=list)
    lists: list[Path] = field(default_factory=list)
    descriptions: list[Path] = field(default_factory=list)
    aside: Aside = field(default_factory=Aside)


@dataclass(frozen=True)
class Cluster:
    """Files whose folders and names have one pattern.

    Attributes:
        words: of the last folder and of the pattern.
    """

    pattern: str
    files: tuple[Path, ...]
    words: frozenset[str]


def survey_folder(root: Path) -> Survey:
    """Look at the names of all files, and at the heads of those that may hold outlines."""
    found = Survey(root)
    slices: dict[Path, int] = defaultdict(int)
    for path in walk_files(root):
        name = path.name.lower()
        if is_picture(path.name.removesuffix(".gz")):
            found.pictures.append(path)
        elif name.endswith((".nii", ".nii.gz")):
            found.volumes.append(path)
        elif path.suffix.lower() in _TABLES:
            found.tables.append(path)
        elif path.suffix.lower() in _LISTS and split_named(words_of(path.stem)):
            found.lists.append(path)
        elif path.suffix.lower() in (".json", ".xml"):
            _sort_notes(path, found)
        elif _is_dicom(path):
            slices[path.parent] += 1
        else:
            found.aside.add("files that are neither pictures, volumes nor outlines", path)
    for folder, count in sorted(slices.items()):
        if count >= _SERIES:
            found.series.append(folder)
        else:
            found.aside.add("folders of under 3 DICOM slices", folder)
    return found


def _sort_notes(path: Path, found: Survey) -> None:
    program = _program_of(path)
    if program == _DESCRIPTION:
        found.descriptions.append(path)
    elif program:
        found.polygons[path] = program
    else:
        found.aside.add("files of text without outlines", path)


def _program_of(path: Path) -> str:
    """Which program wrote the outlines of a file; '' for one without."""
    if path.suffix.lower() == ".xml":
        return _xml_program(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError):
        return ""
    if not isinstance(content, dict):
        return ""
    if path.name == "dataset.json" and "labels" in content:
        return _DESCRIPTION
    if "shapes" in content and "imagePath" in content:
        return "labelme"
    return "coco" if {"images", "annotations", "categories"} <= content.keys() else ""


def _xml_program(path: Path) -> str:
    try:
        for _, element in ElementTree.iterparse(path, events=("start",)):
            if element.tag == "Annotations":
                return "aperio"
            return "cvat" if element.tag == "annotations" else ""
    except (OSError, ElementTree.ParseError):
        return ""
    return ""


def _is_dicom(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def clusters_of(files: Sequence[Path], root: Path) -> list[Cluster]:
    """The files by the pattern of their folder and name, the largest cluster first."""
    folders: dict[str, list[Path]] = defaultdict(list)
    for path in files:
        inner = path.parent.relative_to(root)
        folders["/".join(map(general_name, inner.parts))].append(path)
    found: dict[str, list[Path]] = defaultdict(list)
    for folder, members in folders.items():
        frequent = frequent_words([file_stem(path) for path in members])
        for path in members:
            pattern = name_pattern(file_stem(path), frequent)
            found[f"{folder}/{pattern}{path.suffix.lower()}"].append(path)
    made = [_cluster(pattern, paths, root) for pattern, paths in found.items()]
    return sorted(made, key=lambda one: (-len(one.files), one.pattern))


def _cluster(pattern: str, files: list[Path], root: Path) -> Cluster:
    name = words_of(pattern.rpartition("/")[2].rpartition(".")[0])
    return Cluster(pattern, tuple(files), frozenset((*folder_words(files[0].parent, root), *name)))
