"""Anyone's own images and masks: two folders, or a table of files; binary, nested or exclusive classes.

A table is a CSV file ``id,image,mask[,group][,split]``, its paths relative to it. Without a protocol file the split is made
when the data are opened (``auto``): as the column ``split`` says, or 80/10/10 % by group with seed 42 (see ``rules``).
"""

import csv
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np

from lightning_seg.data.sources.base import (
    Sample,
    check_threshold,
    joined,
    pair_files,
    read_grey,
    read_image,
    read_labels,
    read_mask,
)
from lightning_seg.data.splits import SPLITS
from lightning_seg.errors import InputError, unknown

Label = int | str  # a number in a label picture, or a colour #rrggbb
COLUMNS = ("id", "image", "mask", "group", "split")


class _Row(NamedTuple):
    image: Path
    mask: Path
    group: str
    split: str


class Folder:
    """Images and masks of any format that Pillow reads, paired by name or by a table.

    Args:
        root: the folder that holds the two folders, or a CSV file (see the module).
        images, masks: the names of the two folders.
        mask_suffix: what a mask's name has more than its image's: ``_mask`` for ``a.jpg`` and ``a_mask.png``.
        group_pattern: the part of an id that names its patient or sequence, as a regular expression with one group:
            ``^(P\\d+)_``. None: each id stands alone.
        classes: the names of the classes.
        labels: for each class its value in the mask, a number or a colour ``#rrggbb``, or a list of them; a value may stand
            for several classes (tumour inside liver: ``[[1, 2], 2]``). None: 1, 2, ... for several classes, and
            grey values above ``mask_threshold`` for a single one.
        background: further values that belong to no class, besides 0 and #000000. Any other value is an error.
        ignore: further values of pixels that neither train nor score: the region of interest is 0 there. Needs ``labels``
            where there is one class.
        in_channels: 3 (RGB) or 1 (grey).
        mask_threshold: for one class without ``labels``: 1 where the grey value is larger.
    """

    classes: ClassVar[tuple[str, ...]] = ("foreground",)
    in_channels: ClassVar[int] = 3
    default_protocol: ClassVar[str] = "auto"

    def __init__(
        self,
        root: Path | None = None,
        images: str = "images",
        masks: str = "masks",
        mask_suffix: str = "",
        group_pattern: str | None = None,
        classes: Sequence[str] = ("foreground",),
        labels: Sequence[Label | Sequence[Label]] | None = None,
        background: Sequence[Label] = (),
        ignore: Sequence[Label] = (),
        in_channels: int = 3,
        mask_threshold: int = 127,
    ) -> None:
        if root is None:
            raise InputError(
                "folder: no root is given; give the folder of your images and masks, or a CSV file."
            )
        if not root.exists():
            raise InputError(
                f"folder: the root {str(root)!r} does not exist; give a folder or a CSV file."
            )
        if in_channels not in (1, 3):
            raise InputError(f"in_channels is {in_channels}; give 3 for RGB or 1 for grey.")
        check_threshold(mask_threshold)
        self._labels = _values(classes, labels)
        self._colours = any(value >> 24 for values in self._labels or [] for value in values)
        self._background = [_value(label) for label in background] + [0, _COLOUR]
        self._ignore = self._ignored(ignore)
        self.regions = bool(self._ignore)
        self._channels, self._threshold = in_channels, mask_threshold
        if root.is_file():
            self._rows = read_table(root)
        else:
            pairs = pair_files(
                root / images, root / masks, lambda stem: stem + mask_suffix, _is_image(mask_suffix)
            )
            self._rows = {
                id: _Row(*pair, _group(id, group_pattern), "") for id, pair in pairs.items()
            }
        self.ids = sorted(self._rows)
        self.groups = {id: row.group for id, row in self._rows.items()}
        self.assigned = {id: row.split for id, row in self._rows.items() if row.split}

    def files(self, id: str) -> tuple[Path, ...]:
        """What ``read`` opens."""
        return self._rows[id][:2]

    def read(self, id: str) -> Sample:
        """Image (H, W, C) and masks (H, W, K), one for each class; with ``ignore`` a region, 0 at those pixels."""
        row = self._rows[id]
        image = read_image(row.image) if self._channels == 3 else read_grey(row.image)
        mask, region = self._masks(row.mask)
        return joined(row.image, image, row.mask, mask)._replace(region=region)

    def _ignored(self, ignore: Sequence[Label]) -> list[int]:
        values = [_value(label) for label in ignore]
        if values and self._labels is None:
            raise InputError(
                f"ignore is {list(ignore)}, and the class has no labels; give labels, such as [1]."
            )
        taken = {value for group in self._labels or [] for value in group} & set(values)
        if taken or any(bool(value >> 24) != self._colours for value in values):
            raise InputError(
                f"ignore is {list(ignore)}; give values that no class has, numbers or colours as in labels."
            )
        return values

    def _masks(self, path: Path) -> tuple[np.ndarray, np.ndarray | None]:
        if self._labels is None:
            return read_mask(path, self._threshold)[..., None], None
        values = _pack(read_image(path)) if self._colours else read_labels(path)
        legal = {value for group in self._labels for value in group} | {
            *self._background,
            *self._ignore,
        }
        strange = sorted(set(np.unique(values).tolist()) - legal)
        if strange:
            listing = ", ".join(map(_name, strange[:4])) + (", ..." if len(strange) > 4 else "")
            raise InputError(
                f"{path} holds {len(strange)} values that belong to no class ({listing}); name them in labels or background, "
                "and store masks without loss (PNG)."
            )
        masks = np.stack([np.isin(values, group) for group in self._labels], axis=2).astype(
            np.uint8
        )
        return masks, np.where(np.isin(values, self._ignore), 0, 2).astype(
            np.uint8
        ) if self.regions else None


def _is_image(mask_suffix: str) -> Callable[[str], bool]:
    return (lambda stem: not stem.endswith(mask_suffix)) if mask_suffix else bool


def _group(id: str, pattern: str | None) -> str:
    if pattern is None:
        return id
    try:
        found = re.search(pattern, id)
        if found:
            return found[1]
    except (re.error, IndexError) as error:
        raise InputError(
            f"group_pattern {pattern!r} is wrong ({error}); give one group in brackets: ^(P\\d+)_."
        ) from None
    raise InputError(
        f"group_pattern {pattern!r} finds no group in the id {id!r}; correct it or rename the image."
    )


_COLOUR = 1 << 24  # marks a packed colour: 0x1rrggbb, so that black is not the label 0


def _values(
    classes: Sequence[str], labels: Sequence[Label | Sequence[Label]] | None
) -> list[list[int]] | None:
    """The values of each class, or None for one class by threshold."""
    names = list(classes)
    if not names or len(set(names)) < len(names):
        raise InputError(f"classes is {names}; give at least one name, each once.")
    if labels is None:
        return None if len(names) == 1 else [[value] for value in range(1, len(names) + 1)]
    if len(labels) != len(names):
        raise InputError(
            f"labels has {len(labels)} entries for {len(names)} classes ({', '.join(names)}); give one for each."
        )
    groups = [[label] if isinstance(label, int | str) else list(label) for label in labels]
    values = [[_value(label) for label in group] for group in groups]
    if len({value >> 24 for group in values for value in group}) != 1 or not all(values):
        raise InputError(
            f"labels is {list(labels)}; give for each class numbers, or for each colours #rrggbb."
        )
    return values


def _value(label: Label) -> int:
    if isinstance(label, str) and re.fullmatch(r"#[0-9a-fA-F]{6}", label):
        return _COLOUR | int(label[1:], 16)
    if isinstance(label, int) and 0 <= label < 1 << 16:
        return label
    raise InputError(
        f"the label {label!r} is neither a number from 0 to 65535 nor a colour '#rrggbb'; correct it."
    )


def _pack(rgb: np.ndarray) -> np.ndarray:
    red, green, blue = np.moveaxis(rgb.astype(np.int64), 2, 0)
    return _COLOUR | red << 16 | green << 8 | blue


def _name(value: int) -> str:
    return f"#{value & 0xFFFFFF:06x}" if value & _COLOUR else str(value)


def read_table(path: Path) -> dict[str, _Row]:
    """id -> its files, group and split; InputError for unknown columns, ids that repeat, and splits of some rows alone."""
    try:
        reader = csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines())
        columns, lines = reader.fieldnames or [], list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"{path} is no table in UTF-8 ({error}); save it as CSV with commas."
        ) from error
    for column in columns:
        if column not in COLUMNS:
            raise unknown(f"column of {path}", column, COLUMNS)
    missing = [column for column in COLUMNS[:3] if column not in columns]
    if missing:
        raise InputError(
            f"{path} lacks the column {missing[0]}; its first line is id,image,mask[,group][,split]."
        )
    rows: dict[str, _Row] = {}
    for line in lines:
        id, split = line["id"], line.get("split") or ""
        if not id or re.search(r"[/\\]", id) or id in rows or not line["image"] or not line["mask"]:
            raise InputError(
                f"{path} has a row {id!r} that is incomplete, repeats an id or holds a slash in it; correct it."
            )
        if "split" in columns and split not in SPLITS:
            raise InputError(
                f"{path} puts {id!r} into {split!r}; give each row one of {', '.join(SPLITS)}."
            )
        rows[id] = _Row(
            path.parent / line["image"], path.parent / line["mask"], line.get("group") or id, split
        )
    if not rows:
        raise InputError(f"{path} lists no images; give a line for each below id,image,mask.")
    return rows
