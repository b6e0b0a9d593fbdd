"""``lightning-seg data adopt FOLDER``: what it prints."""

import argparse
from collections import Counter
from pathlib import Path
from textwrap import fill
from typing import Any

from lightning_seg.data.adopt.finding import AdoptChoice
from lightning_seg.data.split_sizes import FEW_UNITS, FEWEST_UNITS
from lightning_seg.errors import InputError
from lightning_seg.files import real_path
from lightning_seg.tables import count_text

_WIDTH = 110
# the splits of the table were drawn by the groups that it has
_REDRAWN = " and remove the column split, so that splits are drawn anew by group"


def add_adopt(verbs: Any) -> None:
    """The verb and its options."""
    adopt = verbs.add_parser(
        "adopt", help="look at a folder and write a table and a recipe that `fit` trains at once"
    )
    add = adopt.add_argument
    add("folder", type=Path, help="of pictures and masks, outlines, NIfTI volumes or DICOM series")
    add("--output", type=Path, metavar="FILE", help="the recipe (default <folder's name>.yaml)")
    without = "pictures without a mask show no foreground (default: they are left aside)"
    add("--negatives", action="store_true", help=without)
    several = "of several masks of a picture: one class, or a class each (default: as they look)"
    add("--masks", choices=("union", "classes"), help=several)
    alike = "do not look for pictures that show the same, which is faster"
    add("--no_near", action="store_true", help=alike)
    check = "also write a contact sheet of training images beside the recipe"
    add("--check", action="store_true", help=check)
    adopt.set_defaults(run=_adopt)


def _adopt(options: argparse.Namespace) -> None:
    from lightning_seg.data.adopt.adoption import Adoption, adopt_folder

    folder = options.folder.expanduser()
    output = options.output or Path(f"{real_path(folder).name or 'data'}.yaml")
    union = None if options.masks is None else options.masks == "union"
    choice = AdoptChoice(options.negatives, union, not options.no_near)
    found: Adoption = adopt_folder(folder, output.expanduser(), choice)
    for line in found_lines(found):
        print(fill(line, _WIDTH, subsequent_indent="  "))
    if options.check:
        print(
            f"contact sheet: {_contact_sheet(found.recipe)} (training images with the outlines of "
            "their masks: as read, then as augmentation changes them in epochs 1 and 2)"
        )
    print(f"check: lightning-seg data check -c {found.recipe}")
    print(f"train: lightning-seg fit -c {found.recipe}")


def found_lines(found: Any) -> list[str]:
    """What was found, decided and left aside, a sentence each."""
    finding, division = found.finding, found.finding.division
    groups = len({*division.groups.values()})
    splits = Counter(division.splits.values())
    counts = ", ".join(f"{splits[split]} {split}" for split in ("train", "val", "test"))
    unknown_groups = (
        "groups: unknown, so the column group holds each id; if several pictures are of one patient "
        f"or video, say so there{_REDRAWN * division.drawn}, else they may stand in several splits"
    )
    if finding.dataset == "scans":
        unknown_groups = (
            "groups: each scan, whose id the column group holds; say there which are of one patient"
            f"{_REDRAWN * division.drawn}"
        )
    known = f"groups: {groups}, from {division.groups_from}"
    return [
        f"found: {finding.notes[0]}",
        *(f"found: {note}" for note in finding.notes[1:]),
        f"classes: {', '.join(finding.classes)}",
        known if division.groups_from else unknown_groups,
        *(f"found: {note}" for note in division.notes),
        f"splits: {counts}",
        *_few_tested(division, found.recipe),
        *(f"left aside: {text}" for text in finding.aside.sentences()),
        f"table: {found.table} ({len(finding.rows)} rows)",
        f"recipe: {found.recipe}",
        *_plan_lines(found),
    ]


def _few_tested(division: Any, recipe: Path) -> list[str]:
    """Say where a test split is too small to tell much, before anybody looks at it."""
    tested = {
        division.groups.get(id, id) for id, split in division.splits.items() if split == "test"
    }
    every = {division.groups.get(id, id) for id in division.splits}
    if len(tested) >= FEW_UNITS or len(every) == len(tested):
        return []
    what = "group" if division.groups_from else "picture"
    return [
        f"doubt: the test split has {count_text(len(tested), what)}, whose scores are rough guesses"
        f"{' without an interval' if len(tested) < FEWEST_UNITS else ''}; "
        f"`lightning-seg cv -c {recipe} --folds 5` tests all {len(every)}"
    ]


def _plan_lines(found: Any) -> list[str]:
    said = ("size", "crop", "batch_size", "max_epochs", "encoder", "architecture", "loss")
    lines = []
    for choice in found.choices:
        if choice.key in said and choice.reason:
            lines.append(f"  {choice.key}: {choice.value} ({choice.reason})")
    return lines


def _contact_sheet(recipe: Path) -> Path:
    import yaml

    from lightning_seg.data.show import show

    sheet = recipe.with_suffix(".png")
    if sheet.exists():
        raise InputError(f"{sheet} exists and is kept; remove it, or give another --output.")
    data = yaml.safe_load(recipe.read_text(encoding="utf-8"))["data"]
    show(data, "train", 12, range(2), sheet)
    return sheet
