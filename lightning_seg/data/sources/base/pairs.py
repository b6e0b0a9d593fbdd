"""Data sets of image files and mask files: which belong together, and how a pair is read."""

import re
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np

from lightning_seg.data.reading.folders import Aside, walk_files
from lightning_seg.data.reading.masks import check_threshold, read_mask
from lightning_seg.data.reading.pictures import is_picture, read_grey, read_image, read_turn
from lightning_seg.data.sources.base.roots import find_folder, find_root
from lightning_seg.data.sources.base.source import Sample
from lightning_seg.errors import InputError
from lightning_seg.files import real_path
from lightning_seg.files.alike_names import folded_name

Files = dict[str, tuple[Path, ...]]  # id -> its image, its mask and what else `read` opens


class Pairs:
    """A data set of images with a mask each, of one class; a subclass says where they lie.

    Args:
        root: the folder that holds the two folders of a layout, or its parent; default: one of
            ``names`` in $LIGHTNING_SEG_DATA.
        mask_threshold: the class is where a mask is brighter. None: as the values of each mask
            file say (see ``reading.masks``), or as ``published_threshold`` says.
    """

    classes: ClassVar[tuple[str, ...]]
    in_channels: ClassVar[int] = 3
    default_protocol: ClassVar[str]
    # in the owners' words, for sentences
    title: ClassVar[str]
    names: ClassVar[tuple[str, ...]]
    # the folders of images and masks, in each of the layouts in which the data are handed on
    layouts: ClassVar[tuple[tuple[str, str], ...]] = (("images", "masks"),)
    # where the owners' masks hold greys at their outlines
    published_threshold: ClassVar[int | None] = None

    def __init__(
        self,
        root: Path | None = None,
        mask_threshold: int | None = None,
    ) -> None:
        check_threshold(mask_threshold)
        given = mask_threshold is not None
        self.mask_threshold = mask_threshold if given else self.published_threshold
        self.aside = Aside()
        name = type(self).__module__.rpartition(".")[2]
        self._files = self.find_files(find_root(name, root, self.names))
        self.ids = sorted(self._files)
        self.groups = self.find_groups()

    def find_files(self, place: Path) -> Files:
        """The files that ``read`` opens for each id, image and mask first; ``place`` is the
        root."""
        images, masks = self.find_layout(place)
        return dict(pair_files(images, masks, aside=self.aside))

    def find_layout(self, place: Path) -> tuple[Path, Path]:
        """The folders of images and masks; InputError where ``place`` holds none of the layouts."""
        for images, masks in self.layouts:
            folder = find_folder(place, self.names, (images, masks))
            if folder is not None:
                return folder / images, folder / masks
        wanted = " nor ".join(f"{images}/ and {masks}/" for images, masks in self.layouts)
        holds = "holds neither" if len(self.layouts) > 1 else "does not hold"
        raise InputError(f"{place} {holds} {wanted}; give the folder of {self.title}.")

    def find_groups(self) -> dict[str, str]:
        """id -> patient, sequence or near-duplicate group; the id itself where none is known."""
        return {id: id for id in self.ids}

    @property
    def left_aside(self) -> list[str]:
        """The unused parts of the folders, in words."""
        return self.aside.sentences()

    def files(self, id: str) -> tuple[Path, ...]:
        """The files that ``read`` opens."""
        return self._files[id]

    def read(self, id: str) -> Sample:
        """Image (H, W, C) and mask (H, W, 1), in the image's own size."""
        image, mask, *_ = self._files[id]
        return read_pair(image, mask, self.mask_threshold, self.in_channels)


def read_pair(
    image_path: Path,
    mask_path: Path,
    threshold: int | None = None,
    channels: int = 3,
) -> Sample:
    """An image, RGB or grey, and its mask of one class; InputError where their sizes differ."""
    image = read_image(image_path) if channels == 3 else read_grey(image_path)
    return joined(image_path, image, mask_path, read_mask(mask_path, threshold)[..., None])


def joined(
    image_path: Path,
    image: np.ndarray,
    mask_path: Path,
    mask: np.ndarray,
) -> Sample:
    """An image (H, W, C) with its masks (H, W, K); InputError where their sizes differ, or where one
    of them alone is turned by its EXIF so that the sizes do not tell how the mask lies."""
    _check_turns(image_path, mask_path, image.shape[:2] == mask.shape[:2])
    if image.shape[:2] != mask.shape[:2]:
        sizes = [f"{width}x{height}" for height, width in (image.shape[:2], mask.shape[:2])]
        raise InputError(
            f"{image_path} and its mask {mask_path} differ in size ({' and '.join(sizes)}); "
            "restore the pair."
        )
    return Sample(image, mask)


def _check_turns(image_path: Path, mask_path: Path, fit: bool) -> None:
    """InputError where a mask may be of the pixels as they are stored, while the image is read as a
    viewer shows it, or the other way round.

    A quarter turn that fits is right: sizes would differ otherwise, but for a square.
    """
    turns = read_turn(image_path), read_turn(mask_path)
    if turns[0] == turns[1]:
        return
    names = [
        f"{path} by orientation {turn.orientation}" if turn.orientation != 1 else f"{path} not"
        for path, turn in ((image_path, turns[0]), (mask_path, turns[1]))
    ]
    told = f"EXIF turns an image and its mask unlike each other ({' and '.join(names)})"
    cure = "save both upright, without an orientation (ImageOps.exif_transpose of Pillow does so)"
    if not fit:
        raise InputError(f"{told}, and their sizes differ when both are turned so; {cure}.")
    if turns[0].tells_sides == turns[1].tells_sides:
        raise InputError(
            f"{told}, and whether the mask is of what a viewer shows is not known; {cure}."
        )


def pair_files(
    images_dir: Path,
    masks_dir: Path,
    mask_stem: Callable[[str], str] = str,
    is_image: Callable[[str], bool] = bool,
    aside: Aside | None = None,
) -> dict[str, tuple[Path, Path]]:
    """stem -> (image, mask), sorted by stem.

    Pictures pair by stem, which is in Unicode's composed form (NFC): a file system or archive may
    store the same name decomposed.

    Args:
        mask_stem: the mask's stem for that of its image, where masks are named otherwise.
        is_image: tells the stems of images, where both lie in one folder.
        aside: takes what is not used: pictures in sub-folders, masks without an image, files that
            are no pictures.
    """
    aside = Aside() if aside is None else aside
    known = find_pictures(images_dir, aside=aside)
    one_folder = images_dir == masks_dir
    masks = known if one_folder else find_pictures(masks_dir, aside=aside)
    images = {stem: path for stem, path in known.items() if is_image(stem)}
    found = paired(images, masks, mask_stem, images_dir, masks_dir)
    if not one_folder:
        wanted = {mask_stem(stem) for stem in known}
        for stem in masks.keys() - wanted:
            aside.add("masks without an image", masks[stem])
    return found


def paired(
    images: dict[str, Path],
    masks: dict[str, Path],
    mask_stem: Callable[[str], str],
    images_dir: Path,
    masks_dir: Path,
) -> dict[str, tuple[Path, Path]]:
    """Each image with its mask; InputError where there is no image, or one without a mask."""
    if not images:
        raise InputError(
            f"no pictures in {images_dir}; it should hold files such as *.jpg or *.png."
        )
    lonely = sorted(stem for stem in images if mask_stem(stem) not in masks)
    if lonely:
        wanted = folded_name(mask_stem(lonely[0]))
        alike = (path.name for stem, path in masks.items() if folded_name(stem) == wanted)
        nearly = "".join(f"; {name} differs by capitals or spaces alone" for name in alike)
        raise InputError(
            f"{images[lonely[0]]} has no mask in {masks_dir} ({len(lonely)} of {len(images)} "
            f"images lack theirs{nearly}); restore the masks or remove the images."
        )
    return {stem: (images[stem], masks[mask_stem(stem)]) for stem in sorted(images)}


def find_pictures(
    folder: Path,
    deep: bool = False,
    without: Path | None = None,
    aside: Aside | None = None,
) -> dict[str, Path]:
    """stem -> picture; InputError for a folder that is not there, and two pictures of one stem.

    Args:
        deep: also those in sub-folders and behind links, ``a/b.png`` under the stem ``a_b``; else
            they are left aside.
        without: a folder below, which is left out.
    """
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}; check the root of the data set.")
    aside = Aside() if aside is None else aside
    found: dict[str, Path] = {}
    for path in _files_of(folder, without):
        inner = path.relative_to(folder)
        name = Path(unicodedata.normalize("NFC", "_".join(inner.parts).removesuffix(".gz")))
        if not is_picture(name.name):
            aside.add(f"files in {folder.name}/ that are no pictures", path)
        elif len(inner.parts) > 1 and not deep:
            aside.add(f"pictures in sub-folders of {folder.name}/", path)
        elif name.stem in found:
            raise InputError(f"{found[name.stem]} and {path} share one stem; keep one of them.")
        else:
            found[name.stem] = path
    return found


def _files_of(folder: Path, without: Path | None) -> Iterator[Path]:
    """``without`` is known by the place to which links lead."""
    inner = real_path(without) if without is not None else folder
    is_below = real_path(folder) in inner.parents
    for path in walk_files(folder):
        # a file may itself be a link that leads there
        if not is_below or inner not in (real_path(path.parent) / path.name).parents:
            yield path


def numbered_masks(
    masks: dict[str, Path],
    stem: str,
    separated: bool,
) -> list[Path]:
    """Further masks of one picture: ``x_mask_1`` beside ``x_mask``.

    Args:
        separated: only a number behind ``_``, ``-`` or in brackets counts.
    """
    mark = r"[ _-]\d+| ?\(\d+\)" if separated else r"[ _-]?\d+| ?\(\d+\)"
    pattern = re.compile(f"{re.escape(stem)}({mark})")
    return [path for name, path in sorted(masks.items()) if pattern.fullmatch(name)]
