"""Anyone's own images and masks: two folders, or a table of files; binary, nested or exclusive.

A table is a CSV file, its paths relative to it (see ``base.tables``); ``lightning-seg data adopt``
writes one. Without a protocol file the split is made when the data are opened (``auto``): as the
column ``split`` says, or 80/10/10 % by group with seed 42 (see ``rules``).
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from lightning_seg.data.reading.deep import picture_form
from lightning_seg.data.reading.folders import Aside
from lightning_seg.data.reading.masks import (
    check_threshold,
    read_colours,
    read_labels,
    read_marked_mask,
    read_mask,
    read_nonzero,
)
from lightning_seg.data.sources.base import Sample
from lightning_seg.data.sources.base.alike_masks import AlikeMasks
from lightning_seg.data.sources.base.labels import (
    Label,
    label_value,
    label_values,
    named_value,
    packed_colour,
)
from lightning_seg.data.sources.base.pairs import (
    find_pictures,
    joined,
    numbered_masks,
    paired,
)
from lightning_seg.data.sources.base.tables import FileTable, TableRow, read_table
from lightning_seg.errors import InputError
from lightning_seg.files import real_path
from lightning_seg.tables import count_text

NONZERO = "nonzero"
Part = tuple[np.ndarray, np.ndarray | None]  # masks (H, W, K) and a region


class Folder:
    """Images and masks of any format that Pillow reads, paired by name or by a table.

    Pictures in sub-folders and behind links count too: ``images/p1/a.png`` goes with
    ``masks/p1/a.png``, under the id ``p1_a``. Where a picture has several masks (``a_mask.png``,
    ``a_mask_1.png``, with a ``mask_suffix``), a pixel belongs to a class that one of them gives it.

    Args:
        root: the folder that holds the two folders, or a CSV file (see the module).
        images, masks: the names of the two folders.
        mask_suffix: what a mask's name has more than its image's: ``_mask`` for ``a.jpg`` and
            ``a_mask.png``.
        group_pattern: the part of an id that names its patient or sequence, as a regular expression
            with one group: ``^(P\\d+)_``. None: each id stands alone.
        classes: the names of the classes.
        labels: for each class its value in the mask, a number or a colour ``#rrggbb``, or a list of
            them; a value may stand for several classes (tumour inside liver: ``[[1, 2], 2]``).
            ``nonzero``: one class of all values but 0 and black, as of numbered instances. None: 1,
            2, ... for several classes; for a single one what the values of each file say (see
            ``reading.masks``).
        background: further values that belong to no class, besides 0 and #000000. Any other value
            is an error.
        ignore: further values of pixels that neither train nor score: the region of interest is 0
            there. Needs ``labels`` where there is one class.
        in_channels: 3 (RGB) or 1 (grey); with a ``window`` any number.
        mask_threshold: for one class without ``labels``: 1 where the grey value is larger. None: no
            greys are taken, besides the noise of JPEG.
        negatives: of a table: a row without masks is a picture without foreground.
        window: the values that become black and white, [low, high], or ``percentiles``; for
            pictures of more than 8 bits or of other than 1 and 3 channels, which it reads (see
            ``reading.deep``).
    """

    classes: tuple[str, ...] = ("foreground",)
    in_channels: int = 3
    default_protocol: ClassVar[str] = "auto"

    def __init__(
        self,
        root: Path | None = None,
        images: str = "images",
        masks: str = "masks",
        mask_suffix: str = "",
        group_pattern: str | None = None,
        classes: Sequence[str] = ("foreground",),
        labels: Sequence[Label | Sequence[Label]] | Literal["nonzero"] | None = None,
        background: Sequence[Label] = (),
        ignore: Sequence[Label] = (),
        in_channels: int = 3,
        mask_threshold: int | None = None,
        negatives: bool = False,
        window: Sequence[float] | Literal["percentiles"] | None = None,
    ) -> None:
        root = _checked_root(root)
        self.picture = picture_form(in_channels, window)
        check_threshold(mask_threshold)
        self.classes, self.in_channels = tuple(classes), in_channels
        table = read_table(root, negatives) if root.is_file() else None
        self._own_masks = table is not None and _have_own(root, table, self.classes)
        self._nonzero = _is_nonzero(labels, () if self._own_masks else classes)
        told = self._nonzero or self._own_masks
        values = label_values(classes, None if told else labels)
        self._labels = None if told else values
        self.label_numbers = dict(zip(classes, self._labels or (), strict=False))
        self._colours = any(value >> 24 for value in self._of_classes())
        self._background = [label_value(label) for label in background] + [0, packed_colour(0)]
        self._check_background(background)
        self._ignore = self._ignored(ignore)
        self.mask_threshold = mask_threshold
        if mask_threshold is not None and self.labelled:
            raise InputError(
                f"mask_threshold is {mask_threshold}, and labels say what the values of the masks "
                "mean; give one of them."
            )
        self.aside = Aside()
        if table is None:
            self._rows = self._paired(root / images, root / masks, mask_suffix, group_pattern)
        else:
            self._rows = table.rows
        self.leaks = table is not None and table.leaks
        self.doubts = () if table is None else table.doubts
        for row in self._rows.values():
            _refuse_itself(row)
        self.ids = sorted(self._rows)
        self._alike = AlikeMasks([path for id in self.ids for path in self._rows[id].masks])
        self.groups = {id: row.group for id, row in self._rows.items()}
        self.assigned = {id: row.split for id, row in self._rows.items() if row.split}
        self.columns = {id: dict(row.further) for id, row in self._rows.items()}
        shown = any(row.region is not None for row in self._rows.values())
        self.regions = bool(self._ignore) or shown

    @property
    def labelled(self) -> bool:
        """Tell whether the values of masks are labels, not black, white and what lies between."""
        return self._nonzero or self._labels is not None

    @property
    def left_aside(self) -> list[str]:
        """The unused parts of the folders, in words."""
        return self.aside.sentences()

    def files(self, id: str) -> tuple[Path, ...]:
        """The files that ``read`` opens."""
        return self._rows[id].files

    def roles(self, id: str) -> tuple[Mapping[str, tuple[Path, ...]], Path | None]:
        """Which of ``files`` a table names for each class, and as the region."""
        row = self._rows[id]
        return row.of_class, row.region

    def read(self, id: str) -> Sample:
        """Image (H, W, C) and masks (H, W, K), one a class; where they are known a region."""
        row = self._rows[id]
        image = self.picture.read(row.image)
        parts = [(path, *self._masks(path)) for path in row.masks]
        samples = [
            joined(row.image, image, path, masks)._replace(region=region)
            for path, masks, region in parts
        ]
        nothing = Sample(image, np.zeros((*image.shape[:2], len(self.classes)), np.uint8))
        if self._own_masks:
            samples = [self._of_own_masks(row, nothing, samples)]
        sample = reduce(_united, samples) if samples else nothing
        return self._with_region(row, sample) if self.regions else sample

    def _of_own_masks(
        self,
        row: TableRow,
        nothing: Sample,
        samples: list[Sample],
    ) -> Sample:
        """Each class from its own files, which lie in ``row.masks`` one class after the other."""
        masks, left = nothing.mask, iter(samples)
        for name, files in row.of_class.items():
            for _ in files:
                masks[..., self.classes.index(name)] |= next(left).mask[..., 0]
        return nothing._replace(mask=masks)

    def _with_region(self, row: TableRow, sample: Sample) -> Sample:
        """2 inside the field of view, 1 beyond it, 0 where a mask says to ignore."""
        inside = np.full(sample.image.shape[:2], 2, np.uint8)
        if row.region is not None:
            view = read_mask(row.region)[..., None]
            inside = joined(row.image, sample.image, row.region, view).mask[..., 0] + np.uint8(1)
        kept = inside if sample.region is None else np.where(sample.region == 0, 0, inside)
        return sample._replace(region=kept.astype(np.uint8))

    def _of_classes(self) -> set[int]:
        return {value for values in self._labels or [] for value in values}

    def _check_background(self, background: Sequence[Label]) -> None:
        """InputError where a value is of a class and of none."""
        if self._of_classes() & {label_value(label) for label in background}:
            raise InputError(
                f"background is {list(background)}; give values that no class has in labels."
            )

    def _ignored(self, ignore: Sequence[Label]) -> list[int]:
        values = [label_value(label) for label in ignore]
        if values and self._labels is None:
            raise InputError(
                f"ignore is {list(ignore)}, and the class has no labels; give labels, such as [1]."
            )
        other_kind = any(bool(value >> 24) != self._colours for value in values)
        if other_kind or self._of_classes() & set(values):
            raise InputError(
                f"ignore is {list(ignore)}; give values that no class has, numbers or colours as "
                "in labels."
            )
        return values

    def _masks(self, path: Path) -> Part:
        if self._nonzero:
            return read_nonzero(path)[..., None], None
        if self._labels is None:
            return self._told_mask(path)[..., None], None
        values = read_colours(path) if self._colours else self._label_numbers(path)
        legal = self._of_classes() | {*self._background, *self._ignore}
        strange = sorted(set(np.unique(values).tolist()) - legal)
        if strange:
            shown = ", ".join(map(named_value, strange[:4])) + (", ..." if len(strange) > 4 else "")
            raise InputError(
                f"{path} holds {count_text(len(strange), 'value')} of no class ({shown}); name them "
                "in labels or background, and store masks without loss (PNG)."
            )
        planes = [np.isin(values, of_class) for of_class in self._labels]
        masks = np.stack(planes, axis=2).astype(np.uint8)
        if not self._ignore:
            return masks, None
        return masks, np.where(np.isin(values, self._ignore), 0, 2).astype(np.uint8)

    def _told_mask(self, path: Path) -> np.ndarray:
        mask, mark = read_marked_mask(path, self.mask_threshold)
        self._alike.check_mark(path, mark)
        return mask

    def _label_numbers(self, path: Path) -> np.ndarray:
        values = read_labels(path)
        self._alike.check_palette(path, values)
        return values

    def _paired(
        self, images_dir: Path, masks_dir: Path, suffix: str, pattern: str | None
    ) -> dict[str, TableRow]:
        one_folder = real_path(images_dir) == real_path(masks_dir)
        known = find_pictures(images_dir, True, None if one_folder else masks_dir, self.aside)
        others = None if one_folder else images_dir
        masks = known if one_folder else find_pictures(masks_dir, True, others, self.aside)
        is_image = _told_by_suffix(suffix) if one_folder else bool
        images = {stem: path for stem, path in known.items() if is_image(stem)}
        pairs = paired(images, masks, lambda stem: stem + suffix, images_dir, masks_dir)
        free = dict(masks)
        for stem in images:
            free.pop(stem + suffix)
        rows = {}
        for stem, (image, mask) in pairs.items():
            more = [] if one_folder and not suffix else _further(free, stem, suffix, mask)
            rows[stem] = TableRow(image, (mask, *more), _group_of(stem, pattern), "")
        used = {path for row in rows.values() for path in (row.image, *row.masks)}
        for path in free.values():
            if path not in used:
                self.aside.add("masks without an image", path)
        return rows


def _checked_root(root: Path | None) -> Path:
    if root is None:
        raise InputError(
            "folder: no root is given; give the folder of your images and masks, or a CSV file."
        )
    root = root.expanduser()
    if not root.exists():
        raise InputError(
            f"folder: the root {str(root)!r} does not exist; give a folder or a CSV file."
        )
    return root


def _refuse_itself(row: TableRow) -> None:
    """InputError where one file is image and mask: under two names, or behind a link."""
    image = real_path(row.image)
    for mask in row.masks:
        if real_path(mask) == image:
            raise InputError(
                f"{row.image} and its mask {mask} are one and the same file; see that links and "
                "names lead to images and to masks."
            )


def _is_nonzero(labels: object, classes: Sequence[str]) -> bool:
    if labels != NONZERO:
        return False
    if len(classes) > 1:
        raise InputError(
            f"labels: nonzero makes one class, and there are {len(classes)} ({', '.join(classes)}); "
            "give each its values."
        )
    return True


def _have_own(
    path: Path,
    table: FileTable,
    classes: Sequence[str],
) -> bool:
    """Tell whether classes have columns of their own; InputError where these are not the
    classes."""
    named = set(next(iter(table.rows.values())).of_class)
    if named and named != set(classes):
        raise InputError(
            f"{path} has masks of {', '.join(sorted(named))}, and classes is {list(classes)}; "
            "name the same in dataset_options.classes."
        )
    return bool(named)


def _told_by_suffix(suffix: str) -> Callable[[str], bool]:
    """Tell whether a stem is that of an image, where masks lie beside them: ``a``, not
    ``a_mask_1``."""
    if not suffix:
        return bool
    mask = re.compile(rf".*{re.escape(suffix)}([ _-]?\d+| ?\(\d+\))?")
    return lambda stem: not mask.fullmatch(stem)


def _further(
    free: dict[str, Path],
    stem: str,
    suffix: str,
    mask: Path,
) -> list[Path]:
    """The other masks of a picture; InputError where only their number says that they are."""
    found = numbered_masks(free, stem + suffix, separated=not suffix or suffix[-1].isdigit())
    if found and not suffix:
        raise InputError(
            f"{found[0]} seems to be a further mask of the picture of {mask}; give mask_suffix "
            "where names have one (a_mask.png, a_mask_1.png are read together), merge the masks, "
            "or take it out of the folder."
        )
    return found


def _united(first: Sample, second: Sample) -> Sample:
    """The union of two masks: what either gives to a class; what one of them ignores is ignored."""
    region = first.region
    if region is not None and second.region is not None:
        region = np.minimum(region, second.region)
    return Sample(first.image, first.mask | second.mask, region)


def _group_of(id: str, pattern: str | None) -> str:
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
        f"group_pattern {pattern!r} finds no group in the id {id!r}; "
        "correct it or rename the image."
    )
