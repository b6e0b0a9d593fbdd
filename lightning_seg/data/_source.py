"""What a data set offers to the rest of the package, and the file reading that several data sets share."""

import os
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from lightning_seg.errors import InputError, unknown

DATA_VARIABLE = "LIGHTNING_SEG_DATA"
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".gif"})

DATASETS: dict[str, str] = {  # registry name -> "module:class", imported when used
    "cvc_clinicdb": "lightning_seg.data.cvc_clinicdb:CVCClinicDB",
    "drive": "lightning_seg.data.drive:DRIVE",
    "kvasir_seg": "lightning_seg.data.kvasir_seg:KvasirSEG",
    "phantom_polyp": "lightning_seg.data.phantom:PhantomPolyp",
    "phantom_ct": "lightning_seg.data.phantom:PhantomCT",
}


class Sample(NamedTuple):
    """One image (H, W, C) uint8 and its masks (H, W, K) uint8 in {0, 1}."""

    image: np.ndarray
    mask: np.ndarray


class Source(Protocol):
    """A data set: which samples there are, which of them belong together, and how one is read.

    ``classes``, ``in_channels`` and ``default_protocol`` are class attributes: they are known without opening any file.
    """

    classes: tuple[str, ...]
    in_channels: int
    default_protocol: str
    ids: list[str]  # sorted
    groups: dict[str, str]  # id -> patient, sequence or near-duplicate group; the id itself where none is known

    def read(self, id: str) -> Sample: ...


def source_class(name: str) -> type[Any]:
    """The class of the data set ``name``; InputError for an unknown name."""
    if name not in DATASETS:
        raise unknown("data set", name, DATASETS)
    module, _, attribute = DATASETS[name].partition(":")
    loaded: type[Any] = getattr(import_module(module), attribute)
    return loaded


def find_root(name: str, root: Path | None, candidates: Sequence[str]) -> Path:
    """``root`` where it is given, else the first of ``candidates`` that exists in the folder $LIGHTNING_SEG_DATA."""
    if root is not None:
        if not root.exists():
            raise InputError(f"{name}: the root {str(root)!r} does not exist; give the folder that holds the data set.")
        return root
    folder = os.environ.get(DATA_VARIABLE)
    if not folder:
        raise InputError(f"{name}: no root is given and {DATA_VARIABLE} is not set; give one of them.")
    places = [Path(folder) / candidate for candidate in candidates]
    for place in places:
        if place.exists():
            return place
    looked = ", ".join(str(place) for place in places)
    raise InputError(f"{name}: nothing found at {looked}; give root, or put the data set into one of these places.")


def find_folder(place: Path, names: Sequence[str], parts: Sequence[str]) -> Path | None:
    """The first of ``place`` and the folders ``names`` in it that holds all ``parts`` as folders; None if none does."""
    folders = (place, *(place / name for name in names))
    return next((folder for folder in folders if all((folder / part).is_dir() for part in parts)), None)


def _decode(path: Path, mode: str) -> np.ndarray:
    # Pillow refuses a truncated JPEG, of which OpenCV may return a part. Same pixels, 1.2 times the time.
    try:
        with Image.open(path) as picture:
            return np.array(ImageOps.exif_transpose(picture).convert(mode))
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; restore the file.") from None
    except UnidentifiedImageError:
        size = path.stat().st_size
        raise InputError(f"{path} ({size} bytes) is no readable image; fetch or copy this file again.") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{path} cannot be decoded ({error}); fetch or copy this file again.") from error


def read_image(path: Path) -> np.ndarray:
    """The picture as (H, W, 3) RGB uint8, turned as its EXIF orientation says; InputError if the file is damaged."""
    return _decode(path, "RGB")


def read_mask(path: Path, threshold: int = 127) -> np.ndarray:
    """The mask ``grey value > threshold`` as (H, W) uint8 in {0, 1}; InputError for a picture that is not a mask."""
    grey = _decode(path, "L")
    low, high = int(grey.min()), int(grey.max())
    if not ((grey <= 50) | (grey >= 205)).any():  # JPEG leaves a mask's values near 0 and 255
        raise InputError(f"{path} is no mask: all its values are grey ({low} to {high}); give black-and-white masks.")
    if high == 1 and threshold >= 1:
        raise InputError(f"{path} holds the values 0 and 1, none above the threshold {threshold}; set it to 0.")
    return (grey > threshold).astype(np.uint8)


def read_pair(image_path: Path, mask_path: Path, threshold: int = 127) -> Sample:
    """An RGB image and its one-class mask (H, W, 1); InputError where their sizes differ."""
    image, mask = read_image(image_path), read_mask(mask_path, threshold)
    if image.shape[:2] != mask.shape:
        sizes = " and ".join(f"{width}x{height}" for height, width in (image.shape[:2], mask.shape))
        raise InputError(f"{image_path} and its mask {mask_path} differ in size ({sizes}); restore the pair.")
    return Sample(image, mask[..., None])


def pair_files(
    images_dir: Path, masks_dir: Path, mask_stem: Callable[[str], str] = str
) -> dict[str, tuple[Path, Path]]:
    """stem -> (image, mask), sorted by stem; a mask without an image is left aside.

    Pictures pair by stem; where masks are named otherwise, ``mask_stem`` gives the mask's stem for that of its image.
    """
    images, masks = _pictures(images_dir), _pictures(masks_dir)
    if not images:
        raise InputError(f"no pictures in {images_dir}; it should hold files such as *.jpg or *.png.")
    lonely = sorted(stem for stem in images if mask_stem(stem) not in masks)
    if lonely:
        raise InputError(
            f"{images[lonely[0]]} has no mask in {masks_dir} ({len(lonely)} of {len(images)} images lack theirs); "
            "restore the masks or remove the images."
        )
    return {stem: (images[stem], masks[mask_stem(stem)]) for stem in sorted(images)}


def _pictures(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}; check the root of the data set.")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.suffix.lower() not in IMAGE_SUFFIXES:
            continue
        if path.stem in found:
            raise InputError(f"{found[path.stem]} and {path} share one stem; keep one of them.")
        found[path.stem] = path
    return found
