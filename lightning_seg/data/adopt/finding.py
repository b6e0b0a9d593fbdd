"""What adopting a folder finds, before it becomes a table and a recipe."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from lightning_seg.data.adopt.division import Division
from lightning_seg.data.reading.folders import Aside


class AdoptedRow(NamedTuple):
    """One picture or scan: its file, its masks by class ('' where all are one), its region."""

    image: Path
    masks: Mapping[str, tuple[Path, ...]]
    region: Path | None = None

    @property
    def mask_files(self) -> tuple[Path, ...]:
        """The masks of all classes."""
        return tuple(path for files in self.masks.values() for path in files)


@dataclass
class FolderFinding:
    """The content of a folder.

    Attributes:
        dataset: the data set that reads the table: ``folder`` or ``scans``.
        rows: by id.
        classes: the names of the mask's channels.
        options: what the data set is told besides the classes.
        notes: what was found and how it was read, in sentences.
        exclusive: whether one file says of each pixel which class it is of.
        sided: whether left and right are classes of their own, so that no picture is mirrored.
    """

    dataset: str
    rows: dict[str, AdoptedRow]
    classes: tuple[str, ...]
    options: dict[str, Any]
    division: Division
    notes: list[str] = field(default_factory=list)
    aside: Aside = field(default_factory=Aside)
    sided: bool = False
    exclusive: bool = False

    @property
    def in_channels(self) -> int:
        """The channels of the images."""
        return int(self.options.get("in_channels", 3))


class AdoptChoice(NamedTuple):
    """What a person may decide in place of the safe reading.

    Attributes:
        negatives: pictures without a mask show no foreground; else they are left aside.
        union: masks of several sorts are one class (True), or a class each (False).
        near: look for pictures that show the same, which become groups.
    """

    negatives: bool = False
    union: bool | None = None
    near: bool = True


def unique_ids(paths: list[Path], stems: list[str], root: Path) -> list[str]:
    """A name for each file: its stem, with the folders above it where stems repeat."""
    if len({*stems}) == len(stems):
        return stems
    inner = [path.parent.relative_to(root).parts for path in paths]
    shared = 0
    while all(len(parts) > shared for parts in inner):
        if len({parts[shared] for parts in inner}) > 1:
            break
        shared += 1
    named = ["_".join((*parts[shared:], stem)) for parts, stem in zip(inner, stems, strict=True)]
    if len({*named}) == len(named):
        return named
    tails = zip(paths, named, strict=True)
    return [f"{name}_{path.suffix.lstrip('.')}" for path, name in tails]
