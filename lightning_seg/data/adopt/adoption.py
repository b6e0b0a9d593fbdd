"""From a folder to a table and a recipe: find, read, plan, write."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lightning_seg.data.adopt.alike import MOST_PICTURES, group_alike, say_repeated
from lightning_seg.data.adopt.division import draw_again, say_crossing
from lightning_seg.data.adopt.facts import DataFacts, mask_doubts, read_facts
from lightning_seg.data.adopt.finding import AdoptChoice, FolderFinding
from lightning_seg.data.adopt.looks import evenly_chosen, header_size
from lightning_seg.data.adopt.machine import Machine, this_machine
from lightning_seg.data.adopt.outlined import adopt_outlined
from lightning_seg.data.adopt.pictures import adopt_pictures
from lightning_seg.data.adopt.plan import PlanContext, PlannedChoice, plan_recipe
from lightning_seg.data.adopt.scans import adopt_scans
from lightning_seg.data.adopt.survey import Survey, survey_folder
from lightning_seg.data.adopt.writing import kept, recipe_text, table_text, write_again
from lightning_seg.data.rules import SEED
from lightning_seg.data.sources.base import source_class
from lightning_seg.errors import InputError
from lightning_seg.files import real_path, write_whole
from lightning_seg.files.leftovers import part_name

_SLICES = 7  # of each scan that are read
_MORE_DRAWS = 20  # of splits, until each shows all classes


@dataclass(frozen=True)
class Adoption:
    """What was written, and what it follows from."""

    recipe: Path
    table: Path
    finding: FolderFinding
    facts: DataFacts
    choices: list[PlannedChoice]


def adopt_folder(
    folder: Path,
    output: Path,
    choice: AdoptChoice,
    machine: Machine | None = None,
) -> Adoption:
    """Write ``output``, a recipe, and the table of the same name beside it.

    Args:
        folder: of the pictures or scans.
        machine: what training can count on; default: this machine.

    Errors: InputError where nothing trainable is found, or a file would be replaced. The same
    command goes on where it was killed: files that hold what it would write are taken.
    """
    table = output.with_suffix(".csv")
    _check_places(folder, output, table)
    survey = survey_folder(folder)
    finding = _find(survey, choice, output.with_name(f"{output.stem}_masks"))
    near = choice.near and _may_look_alike(finding)
    with _draft_of(table) as draft:
        facts = _read_rows(finding, draft, near)
        if near:
            group_alike(facts.by_id, finding.division)
        finding.notes += mask_doubts(facts)
        _settle_splits(finding, facts)
        content = table_text(finding, table.parent).encode()
        write_whole(draft, content)
        training = _training_samples(finding, draft)
    context = PlanContext(finding, facts, machine or this_machine(), training)
    choices = plan_recipe(context, str(real_path(table)))
    write_again(table, content)
    write_whole(output, recipe_text(choices, _recipe_head(folder, output, finding)).encode())
    return Adoption(output, table, finding, facts, choices)


def _may_look_alike(finding: FolderFinding) -> bool:
    """Whether to look for groups in the pictures themselves: where nothing else tells them."""
    few = len(finding.rows) <= MOST_PICTURES
    pictures = finding.dataset == "folder" and finding.in_channels in (1, 3)
    return few and pictures and not finding.division.groups_from


def _check_places(folder: Path, output: Path, table: Path) -> None:
    if not folder.is_dir():
        raise InputError(
            f"there is no folder {str(folder)!r}; give the one that holds pictures and masks."
        )
    if output.suffix not in (".yaml", ".yml"):
        raise InputError(f"the recipe cannot be {output.name!r}; give a name that ends with .yaml.")
    if output.exists():
        raise kept(output)


def _find(survey: Survey, choice: AdoptChoice, masks: Path) -> FolderFinding:
    """What the folder holds: outlines before pictures of masks, and both before volumes."""
    if survey.polygons and survey.pictures:
        if masks.exists() and real_path(masks).is_relative_to(real_path(survey.root)):
            raise kept(masks)  # they have been found as pictures
        outlined = adopt_outlined(survey, masks)
        if outlined is not None:
            return outlined
    if survey.volumes or survey.series:
        return adopt_scans(survey, choice)
    if survey.pictures:
        return adopt_pictures(survey, choice)
    raise InputError(
        f"{survey.root} holds no pictures, NIfTI volumes or DICOM series; give the folder that "
        "does."
    )


@contextmanager
def _draft_of(table: Path) -> Iterator[Path]:
    """A name beside ``table`` for as long as its rows are not settled."""
    table.parent.mkdir(parents=True, exist_ok=True)
    draft = part_name(table)
    try:
        yield draft
    finally:
        draft.unlink(missing_ok=True)


def _read_rows(finding: FolderFinding, draft: Path, views: bool) -> DataFacts:
    """The samples of the table as training reads them; what cannot be read leaves it."""
    write_whole(draft, table_text(finding, draft.parent).encode())
    facts = _read_table(finding, draft, views)
    if not facts.by_id:
        reason = next(iter(facts.damaged.values()))
        raise InputError(f"none of the {len(finding.rows)} pictures can be read: {reason}")
    for sample, reason in facts.damaged.items():
        id = sample.partition("/")[0]
        if id in finding.rows:
            finding.aside.add("pictures or masks that cannot be read", finding.rows[id].image)
            finding.notes.append(f"left aside: {reason}")
            del finding.rows[id]
    return facts


def _read_table(finding: FolderFinding, table: Path, views: bool) -> DataFacts:
    options: dict[str, Any] = {"classes": finding.classes} | finding.options
    source = source_class(finding.dataset)(root=table, **options)
    if hasattr(source, "expand"):
        slices = [evenly_chosen(list(source.expand(id)), _SLICES) for id in source.ids]
        return read_facts(source, [id for chosen in slices for id in chosen], 1)
    sizes = [header_size(row.image) for row in list(finding.rows.values())[:8]]
    pixels = [int(np.prod(size)) for size in sizes if size is not None]
    return read_facts(source, source.ids, max(pixels, default=1 << 18), views)


def _training_samples(finding: FolderFinding, table: Path) -> int:
    """The pictures, or slices, of the training split."""
    chosen = [id for id, split in finding.division.splits.items() if split == "train"]
    if finding.dataset == "folder":
        return len(chosen)
    options: dict[str, Any] = {"classes": finding.classes} | finding.options
    source = source_class(finding.dataset)(root=table, **options)
    return sum(len(source.expand(id)) for id in chosen)


def _settle_splits(finding: FolderFinding, facts: DataFacts) -> None:
    """Forget what left the table; draw again where a split lacks a class by bad luck."""
    division = finding.division
    for known in (division.groups, division.splits):
        for id in known.keys() - finding.rows.keys():
            del known[id]
    if not division.drawn:
        say_crossing(division)
        say_repeated(facts.by_id, division)
        return
    shown = facts.shown_classes()
    for seed in range(SEED, SEED + _MORE_DRAWS if facts.whole else SEED):
        draw_again(division, seed)
        if _all_shown(division.splits, shown, len(finding.classes)):
            break
    else:
        draw_again(division, SEED)
    units = "group" if division.groups_from else "picture"
    division.notes.append(
        f"no splits are given: drawn, 80/10/10 % by {units}, seed {division.seed}"
    )
    say_repeated(facts.by_id, division)


def _all_shown(splits: dict[str, str], shown: dict[str, set[int]], count: int) -> bool:
    for split in ("train", "val", "test"):
        classes = [shown[id] for id, home in splits.items() if home == split and id in shown]
        if len(set().union(*classes)) < count:
            return False
    return True


def _recipe_head(folder: Path, output: Path, finding: FolderFinding) -> list[str]:
    return [
        f"Planned by `lightning-seg data adopt` for {folder.name}: {len(finding.rows)} images.",
        f"  lightning-seg fit -c {output}",
        "Each choice stands below its reason; change what you know better.",
    ]
