"""A folder of pictures and masks as rows of a table, and what their values mean."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from lightning_seg.data.adopt.division import divide
from lightning_seg.data.adopt.finding import AdoptChoice, AdoptedRow, FolderFinding, unique_ids
from lightning_seg.data.adopt.looks import (
    SAMPLED,
    Look,
    evenly_chosen,
    header_size,
    look_at,
)
from lightning_seg.data.adopt.names import (
    NEGATIVE_WORDS,
    file_stem,
    folder_words,
    words_of,
)
from lightning_seg.data.adopt.pairing import PairedMask, pair_masks
from lightning_seg.data.adopt.roles import assign_roles
from lightning_seg.data.adopt.sorts import SortedMasks, sort_masks
from lightning_seg.data.adopt.survey import Cluster, Survey, clusters_of
from lightning_seg.data.adopt.values import MaskValues, read_values
from lightning_seg.data.reading.folders import Aside
from lightning_seg.data.reading.windowing import PERCENTILES
from lightning_seg.errors import InputError

_SIZES = 3  # sizes that a sentence names


def adopt_pictures(survey: Survey, choice: AdoptChoice) -> FolderFinding:
    """Find pictures and masks; InputError where no masks are found."""
    look = cache(look_at)
    roles = assign_roles(clusters_of(survey.pictures, survey.root), look, survey.aside)
    if not roles.images or not roles.masks:
        kind = "masks" if roles.images else "pictures"
        raise InputError(
            f"{survey.root} holds {len(survey.pictures)} pictures of which none look like {kind} "
            "(flat areas of few values against everything else); give the folder that holds "
            "pictures and masks."
        )
    pairs = pair_masks(roles.images, roles.masks, survey.root, survey.aside)
    if not any(pairs.values()):
        raise InputError(_unpaired(survey, roles.images, roles.masks))
    notes = [_pairing_note(pairs)]
    sorts = sort_masks(
        {image: own for image, own in pairs.items() if own}, choice.union, survey.aside
    )
    notes += sorts.notes
    rows, negatives = _rows(pairs, sorts.masks, survey, choice)
    classes, options, more = _meaning(rows)
    images = [row.image for row in rows.values()]
    looks = [look(path) for path in evenly_chosen(images, SAMPLED * 4)]
    options |= _form(look_list := [one for one in looks if one is not None])
    if negatives:
        options["negatives"] = True
        notes.append(f"{negatives} pictures without a mask are taken as without foreground")
    places = {id: row.image for id, row in rows.items()}
    division = divide(places, survey.root, survey.tables, survey.lists)
    notes += [*more, _form_note(look_list, images)]
    sided = len(classes) > 1 and any({*words_of(name)} & {"left", "right"} for name in classes)
    own_files = any(next(iter(rows.values())).masks)
    exclusive = len(classes) > 1 and not own_files
    found = FolderFinding("folder", rows, classes, options, division, notes, survey.aside)
    return replace(found, sided=sided, exclusive=exclusive)


def _unpaired(survey: Survey, images: Sequence[Cluster], masks: Sequence[Cluster]) -> str:
    picture, mask = images[0].files[0], masks[0].files[0]
    names = [str(path.relative_to(survey.root)) for path in (picture, mask)]
    return (
        f"{survey.root} holds {sum(len(one.files) for one in images)} pictures, such as "
        f"{names[0]}, and {sum(len(one.files) for one in masks)} masks, such as {names[1]}, whose "
        "names have nothing in common; name each mask after its picture, or write the table "
        "id,image,mask yourself."
    )


def _pairing_note(pairs: Mapping[Path, Sequence[PairedMask]]) -> str:
    counts = Counter(len(own) for own in pairs.values() if own)
    sorts = Counter(mask.sort for own in pairs.values() for mask in own)
    paired, masks = sum(counts.values()), sum(sorts.values())
    several = f", up to {max(counts)} for one picture" if max(counts) > 1 else ""
    told = "; ".join(
        f"{' '.join(sort)!r}" if sort else "the same name" for sort, _ in sorts.most_common(6)
    )
    return f"{paired} pictures have {masks} masks{several}, told by {told}"


def _rows(
    pairs: Mapping[Path, Sequence[PairedMask]],
    sorts: Mapping[Path, SortedMasks],
    survey: Survey,
    choice: AdoptChoice,
) -> tuple[dict[str, AdoptedRow], int]:
    """The rows by id, and how many of them have no mask."""
    kept: list[AdoptedRow] = []
    names = next(iter(sorts.values())).classes
    nothing: Mapping[str, tuple[Path, ...]] = dict.fromkeys(names, ())
    for image, own in pairs.items():
        if not own or not any(sorts[image].classes.values()):
            if choice.negatives or _named_negative(image, survey.root):
                kept.append(AdoptedRow(image, nothing))
            else:
                reason = "pictures without a mask (--negatives takes them as without foreground)"
                survey.aside.add(reason, image)
            continue
        row = AdoptedRow(image, sorts[image].classes, sorts[image].region)
        if _sizes_agree(row, survey.aside):
            kept.append(row)
    if all(row.region is None or not row.mask_files for row in kept) is False:
        kept = _with_region(kept, survey.aside)
    paths = [row.image for row in kept]
    ids = unique_ids(paths, [file_stem(path) for path in paths], survey.root)
    rows = dict(sorted(zip(ids, kept, strict=True)))
    return rows, sum(not row.mask_files for row in kept)


def _with_region(rows: list[AdoptedRow], aside: Aside) -> list[AdoptedRow]:
    """Where a field of view is known, all pictures need one."""
    for row in rows:
        if row.region is None:
            aside.add("pictures without the field of view that others have", row.image)
    return [row for row in rows if row.region is not None]


def _named_negative(image: Path, root: Path) -> bool:
    words = {*folder_words(image.parent, root), *words_of(file_stem(image))}
    return bool(words & NEGATIVE_WORDS)


def _sizes_agree(row: AdoptedRow, aside: Aside) -> bool:
    size = header_size(row.image)
    others = [header_size(path) for path in (*row.mask_files, *filter(None, (row.region,)))]
    if size is None or all(other in (size, None) for other in others):
        return True
    aside.add("pictures whose mask has another size", row.image)
    return False


def _meaning(rows: Mapping[str, AdoptedRow]) -> tuple[tuple[str, ...], dict[str, Any], list[str]]:
    """Classes, options and sentences on the values of masks."""
    by_class: dict[str, list[Path]] = {}
    for row in rows.values():
        for name, files in row.masks.items():
            by_class.setdefault(name, []).extend(files)
    if not any(by_class.values()):
        raise InputError("none of the masks fits its picture; see what is left aside.")
    if [*by_class] == [""]:
        found = read_values(by_class[""])
        return found.classes, found.options, [found.note]
    told = {name: read_values(files, name) for name, files in by_class.items()}
    notes = [f"{name}: {values.note}" for name, values in told.items()]
    return tuple(told), _common_options(list(told.values())), notes


def _common_options(told: Sequence[MaskValues]) -> dict[str, Any]:
    """Options under which the masks of several classes are read alike."""
    if any("mask_threshold" in values.options for values in told):
        return {"mask_threshold": 127}
    return {"labels": "nonzero"} if any(values.options for values in told) else {}


def _form(looks: Sequence[Look]) -> dict[str, Any]:
    """Channels of the pictures and, where 8 bits do not hold them, their window."""
    channels = Counter(look.channels for look in looks).most_common(1)[0][0]
    wide = any(look.wide for look in looks)
    if channels in (1, 3, 4) and not wide:
        several = {look.channels for look in looks}
        return {"in_channels": 1} if several == {1} else {}
    return {"in_channels": channels, "window": PERCENTILES}


def _form_note(looks: Sequence[Look], images: Sequence[Path]) -> str:
    sizes = Counter(f"{look.size[1]} x {look.size[0]}" for look in looks)
    shown = ", ".join(size for size, _ in sizes.most_common(_SIZES))
    more = f" and {len(sizes) - _SIZES} others" if len(sizes) > _SIZES else ""
    kinds = Counter(look.channels for look in looks)
    channels = " or ".join(f"{count}" for count in sorted(kinds))
    bits = "more than 8" if any(look.wide for look in looks) else "8"
    suffixes = ", ".join(sorted({path.suffix.lower() for path in images}))
    return (
        f"pictures ({suffixes}) of {shown}{more} pixels (width x height), {channels} channels, "
        f"{bits} bits"
    )
