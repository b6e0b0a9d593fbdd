"""A folder of NIfTI volumes or DICOM series and segmentations as rows of a table."""

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lightning_seg.data.adopt.division import divide
from lightning_seg.data.adopt.finding import AdoptChoice, AdoptedRow, FolderFinding, unique_ids
from lightning_seg.data.adopt.looks import Look, evenly_chosen
from lightning_seg.data.adopt.names import file_stem, plain_identifier, words_of
from lightning_seg.data.adopt.pairing import PairedMask, pair_masks
from lightning_seg.data.adopt.roles import assign_roles
from lightning_seg.data.adopt.survey import Cluster, Survey, clusters_of
from lightning_seg.data.reading.dicom import check_whole_series
from lightning_seg.data.reading.volumes import read_volume
from lightning_seg.data.reading.windowing import PERCENTILES
from lightning_seg.data.sources.scans import nifti_of_series
from lightning_seg.errors import InputError

_LABEL_VOLUMES, _WINDOW_VOLUMES = 60, 4  # that are read
_HIGHEST = 255  # label
_FLAT = 0.8  # share of a label volume's voxels whose neighbours have their value
_AIR = -500  # HU that only a CT has
_NARROWEST = 350  # HU of a window
_UNREAD = "volumes of several times or channels (4-D), or that cannot be decoded"
_VOXELS = 4_000_000  # of a volume that a look takes


class _Series(NamedTuple):
    """A folder that stands for the series below it, and the folder of the series."""

    unit: Path
    folder: Path


def adopt_scans(survey: Survey, choice: AdoptChoice) -> FolderFinding:
    """Find scans and segmentations; InputError where there are no pairs."""
    series = {one.unit: one.folder for one in _units(survey)}
    look = cache(_look_at_volume)
    clusters = clusters_of(survey.volumes, survey.root)
    roles = assign_roles(clusters, look, survey.aside, _UNREAD)
    images = list(roles.images)
    if series:
        images = [Cluster("series", tuple(series), frozenset(("series",)))]
        for cluster in roles.images:
            for path in cluster.files:
                survey.aside.add("volumes beside DICOM series that are no segmentations", path)
    if not images or not roles.masks:
        kind = "segmentations" if images else "scans"
        left = "; ".join(survey.aside.sentences())
        raise InputError(
            f"{survey.root} holds {len(survey.volumes)} volumes and {len(series)} DICOM series of "
            f"which none look like {kind}; give the folder that holds scans and segmentations"
            f"{f' (left aside: {left})' if left else ''}."
        )
    images, sequences = _one_sequence(images, roles.masks, survey)
    pairs = pair_masks(images, roles.masks, survey.root, survey.aside)
    rows = _scan_rows(pairs, series, survey)
    numbers = _numbers([row.mask_files[0] for row in rows.values()])
    described = _described(survey)
    classes, options, notes = _classes(numbers, described)
    window, told = _window(list(rows.values()))
    places = {id: row.image for id, row in rows.items()}
    division = divide(places, survey.root, survey.tables, survey.lists)
    kind = "DICOM series" if series else "volumes"
    first = f"{len(rows)} {kind} with a segmentation each"
    for path in survey.pictures:
        survey.aside.add("pictures beside scans", path)
    all_notes = [first, *sequences, *_several_note(pairs, survey), *notes, told]
    found = FolderFinding("scans", rows, classes, options | window, division, all_notes)
    sided = any({*words_of(name)} & {"left", "right"} for name in classes)
    return replace(found, aside=survey.aside, exclusive=len(classes) > 1, sided=sided)


def _units(survey: Survey) -> list[_Series]:
    """Each series by the highest folder that holds no other one."""
    check_whole_series(survey.series)
    found = []
    for folder in survey.series:
        unit = folder
        while unit != survey.root and unit.parent != survey.root:
            if sum(unit.parent in one.parents for one in survey.series) > 1:
                break
            unit = unit.parent
        found.append(_Series(unit, folder))
    return found


def _one_sequence(
    images: Sequence[Cluster], masks: Sequence[Cluster], survey: Survey
) -> tuple[list[Cluster], list[str]]:
    """The first of several scans of one segmentation, as of flair, t1 and t2, where all folders
    hold the same ones; and a sentence."""
    scans: dict[Path, list[Path]] = defaultdict(list)
    for path in sorted(path for one in images for path in one.files):
        scans[path.parent].append(path)
    kinds = {tuple(map(_last_part, files)) for files in scans.values()}
    marked = Counter(path.parent for one in masks for path in one.files)
    names = next(iter(kinds))
    alike = len(kinds) == 1 and len({*names}) == len(names) > 1
    if len(scans) < 2 or not alike or {marked[folder] for folder in scans} != {1}:
        return list(images), []
    for _, *others in scans.values():
        for path in others:
            survey.aside.add("other sequences of the same scans", path)
    first = tuple(files[0] for files in scans.values())
    note = (
        f"scans of {len(names)} sequences ({', '.join(names)}): {names[0]} is taken; for another "
        "write its files into the table's column image"
    )
    return [Cluster("sequence", first, frozenset())], [note]


def _last_part(path: Path) -> str:
    """The end of a name: ``t1ce`` of ``brain_001_t1ce.nii``."""
    return file_stem(path).rpartition("_")[2]


def _look_at_volume(path: Path) -> Look | None:
    try:
        array = read_volume(path)
    except InputError:
        return None
    plane = array[..., :: max(1, array.size // _VOXELS)]
    low, high = float(plane.min()), float(plane.max())
    whole_numbers = plane.dtype.kind != "f" or bool((plane == np.rint(plane)).all())
    size = (array.shape[0], array.shape[1])
    if low == high:
        return Look(size, 1, False, None)
    if low < 0 or high > _HIGHEST or not whole_numbers:
        return Look(size, 1, False, False)
    same = plane[1:, 1:] == plane[:-1, 1:]
    return Look(size, 1, False, bool((same & (plane[1:, 1:] == plane[1:, :-1])).mean() >= _FLAT))


def _scan_rows(
    pairs: Mapping[Path, Sequence[PairedMask]],
    series: Mapping[Path, Path],
    survey: Survey,
) -> dict[str, AdoptedRow]:
    kept: list[Path] = []
    rows: list[AdoptedRow] = []
    taken: set[Path] = set()
    for image, own in pairs.items():
        if not own:
            survey.aside.add("scans without a segmentation", series.get(image, image))
            continue
        [first, *others] = sorted(mask.path for mask in own)
        for other in others:
            survey.aside.add("further segmentations of one scan", other)
        if first in taken:
            survey.aside.add("further scans of one segmentation, as other sequences", image)
            continue
        taken.add(first)
        kept.append(image)
        rows.append(AdoptedRow(series.get(image, image), {"": (first,)}))
    if not rows:
        raise InputError(
            f"{survey.root} holds scans and segmentations whose names have nothing in common; name "
            "each segmentation after its scan, or write the table id,image,mask yourself."
        )
    ids = unique_ids(kept, [file_stem(path) for path in kept], survey.root)
    return dict(sorted(zip(ids, rows, strict=True)))


def _several_note(pairs: Mapping[Path, Sequence[PairedMask]], survey: Survey) -> list[str]:
    """A sentence where scans have several segmentations each."""
    own = next((masks for masks in pairs.values() if len(masks) > 1), ())
    places = sorted(mask.path.relative_to(survey.root).as_posix() for mask in own)
    if not places:
        return []
    return [
        f"several segmentations of one scan ({', '.join(places)}): the first is taken; for another "
        "write it into the table's column mask"
    ]


def _numbers(files: Sequence[Path]) -> Counter[int]:
    """Label -> in how many segmentations it stands."""
    found: Counter[int] = Counter()
    for path in evenly_chosen(files, _LABEL_VOLUMES):
        labels = np.unique(read_volume(path))
        found.update(int(label) for label in labels.tolist() if 0 < label <= _HIGHEST)
    if not found:
        raise InputError("the segmentations mark nothing; none holds a label other than 0.")
    return found


def _described(survey: Survey) -> dict[str, Any]:
    """What a dataset.json says, as of the Medical Segmentation Decathlon and nnU-Net."""
    for path in survey.descriptions:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
        if isinstance(content.get("labels"), dict):
            return dict(content)
    return {}


def _label_names(described: Mapping[str, Any]) -> dict[int, str]:
    """Number -> name, whichever of the two is the key."""
    names = {}
    for key, value in described.get("labels", {}).items():
        number, name = (key, value) if str(key).isdigit() else (value, key)
        if str(number).isdigit() and int(number):
            names[int(number)] = plain_identifier(str(name), f"class_{number}")
    return names


def _classes(
    numbers: Counter[int],
    described: Mapping[str, Any],
) -> tuple[tuple[str, ...], dict[str, Any], list[str]]:
    labels = sorted(numbers)
    known = _label_names(described)
    shown = ", ".join(map(str, labels))
    if len(labels) == 1 and not known:
        return ("foreground",), {"labels": labels}, [f"segmentations of one label, {shown}"]
    names = tuple(known.get(label, f"class_{label}") for label in labels)
    if len({*names}) < len(names):
        names = tuple(f"class_{label}" for label in labels)
    source = "dataset.json names them" if known else "rename them in the recipe"
    note = f"segmentations of the labels {shown}: a class each ({', '.join(names)}); {source}"
    return names, {"labels": labels}, [note]


def _window(rows: Sequence[AdoptedRow]) -> tuple[dict[str, Any], str]:
    """What becomes black and white: HU around what is marked, or each scan's percentiles."""
    marked = []
    for row in evenly_chosen(rows, _WINDOW_VOLUMES):
        image = nifti_of_series(row.image) if row.image.is_dir() else row.image
        values, labels = read_volume(image), read_volume(row.mask_files[0])
        if values.min() > _AIR:
            return {"window": PERCENTILES}, "values that are no HU, as of MRI or ultrasound"
        if values.shape == labels.shape and labels.any():
            marked.append(np.percentile(values[labels > 0], (0.5, 99.5)))
    if not marked:
        return {"window": [-200, 250]}, "values in HU: a CT"
    low = float(min(pair[0] for pair in marked))
    high = float(max(pair[1] for pair in marked))
    wider = max(50.0, (_NARROWEST - (high - low)) / 2)
    window = [int(10 * np.floor((low - wider) / 10)), int(10 * np.ceil((high + wider) / 10))]
    told = f"values in HU, a CT; what is marked lies between {low:.0f} and {high:.0f}"
    return {"window": window}, told
